"""What a run leaves on disk, the same from every toolbox: reports, tables and evaluation read this and nothing else.

``config.yaml``, ``environment.json``, ``metrics.jsonl`` and ``features-<target>.npz``; knows no toolbox.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from drsl_plugin import __version__

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "opencv-python")


class RunFolder:
    """The folder of one run.

    Args:
        path: the folder; made at the first write.

    Example:
        >>> import tempfile
        >>> folder = RunFolder(tempfile.mkdtemp())
        >>> folder.log(step=1, epoch=1, loss_drsl=0.5)
        >>> folder.rows()
        [{'step': 1, 'epoch': 1, 'loss_drsl': 0.5}]
    """

    def __init__(self, path: str | Path) -> None:
        """Keep the path."""
        self.path = Path(path)
        self.metrics = self.path / "metrics.jsonl"

    def start(self, config: str, environment: Mapping[str, Any], epochs_done: int, *, evaluated: bool = True) -> None:
        """Write the configuration and the environment; keep the metrics of the epochs that a resumed run has done.

        Args:
            config: the resolved configuration, YAML.
            environment: of :func:`environment`.
            epochs_done: 0 for a new run, whose metrics start anew.
            evaluated: whether the evaluation of the last of these epochs ended; if not, all of it is made up for.
        """
        self.write_text("config.yaml", config)
        self.write_text("environment.json", json.dumps(environment, indent=2) + "\n")
        kept = [row for row in self.rows() if (row["epoch"] or 0) <= epochs_done] if epochs_done else []
        if not evaluated:
            kept = [row for row in kept if row["epoch"] != epochs_done or "mAP" not in row]
        self.write_text("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept))

    def log(self, **values: Any) -> None:
        """Append a line to ``metrics.jsonl``, on a line of its own even where the last one was cut off."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self.metrics.open("ab+") as file:
            if size := file.seek(0, os.SEEK_END):
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write((json.dumps(values) + "\n").encode())

    def rows(self) -> list[dict[str, Any]]:
        """Read ``metrics.jsonl``; a line that was cut off is left out."""
        if not self.metrics.exists():
            return []
        rows = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return rows

    def save_features(self, target: str, arrays: Mapping[str, Any]) -> Path:
        """Write ``features-<target>.npz``.

        Args:
            target: the data set's name.
            arrays: ``query_features``, ``query_pids``, ``query_camids``, ``query_paths``, and ``gallery_…`` likewise.
        """
        import numpy as np

        path = self.path / f"features-{target}.npz"
        with whole_file(path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, **arrays)
        return path

    def write_text(self, name: str, text: str) -> None:
        """Write a file whole."""
        with whole_file(self.path / name) as unfinished:
            unfinished.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name to write to; it takes the place of ``path`` once the block ends, and goes if the block raises.

    Args:
        path: the file; its folder is made where missing.

    Yields:
        Where to write meanwhile, beside ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def environment(
    *, seed: int, preset: str | None, argv: Sequence[str], toolbox: ModuleType, cuda: bool
) -> dict[str, Any]:
    """Describe what a run ran on: versions, device, seed, preset.

    Args:
        seed: the run's seed.
        preset: the preset's name, or None.
        argv: the command's arguments.
        toolbox: the toolbox's module; its place tells a PyPI distribution from a checkout.
        cuda: whether the run is on CUDA.
    """
    versions = {"drsl-plugin": __version__, toolbox.__name__: toolbox.__version__}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "seed": seed,
        "preset": preset,
        "argv": list(argv),
        "toolbox": toolbox.__file__,
    }
