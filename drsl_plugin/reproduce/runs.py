"""One run of a table: its folder, its command, and how far it has come, read from what the toolbox leaves on disk."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drsl_plugin.presets import merged_settings
from drsl_plugin.reproduce.table_files import Row, Table, spelled
from drsl_plugin.runs.folder import RunFolder

TAIL = 2**16
"""Bytes at the end of ``metrics.jsonl`` that are enough to have a whole line in them."""


@dataclass(frozen=True)
class Run:
    """A row, trained on one data set with one seed."""

    row: Row
    data: str
    seed: int
    folder: Path
    """The run folder, which the toolbox writes; the log and the lock lie beside it."""

    @property
    def title(self) -> str:
        """What people read."""
        return f"{self.row.name} · {self.data} · seed {self.seed}"

    @property
    def log(self) -> Path:
        """What the run prints."""
        return self.folder.with_name(self.folder.name + ".log")

    @property
    def lock(self) -> Path:
        """The file that a process holds as long as it runs this."""
        return self.folder.with_name(self.folder.name + ".lock")

    def arguments(self, root: Path, cuda: bool) -> list[str]:
        """Return the arguments of ``drsl TOOLBOX`` that start the run, or go on from its last checkpoint.

        Args:
            root: the folder of data sets.
            cuda: whether it is to run on CUDA.
        """
        return (_torchreid if self.row.toolbox == "torchreid" else _fastreid)(self, root, cuda)

    def checkpoint(self) -> Path | None:
        """Return the last checkpoint of a run that was cut off."""
        if self.row.toolbox == "fastreid":
            tag = self.folder / "last_checkpoint"
            return tag if tag.is_file() else None
        found = {
            int(path.name.rpartition("-")[2]): path
            for path in self.folder.glob("model/model.pth.tar-*")
            if path.name.rpartition("-")[2].isdecimal()
        }
        return found[max(found)] if found else None

    def epochs(self) -> tuple[int, int]:
        """Return the epoch that the run is in, and how many it has; (0, 0) before it has written any."""
        total, row = self._epochs_wanted(), _last_row(self.folder)
        return (min(row.get("epoch") or 0, total), total) if row else (0, total)

    def is_finished(self) -> bool:
        """Tell whether the evaluation behind the last epoch is there, and its features."""
        row = _last_row(self.folder)
        total = self._epochs_wanted()
        evaluated = "mAP" in row and total > 0 and (row.get("epoch") or 0) >= total
        return evaluated and any(self.folder.glob("features-*.npz"))

    def _epochs_wanted(self) -> int:
        try:
            text = (self.folder / "config.yaml").read_text(encoding="utf-8")
        except OSError:
            return 0
        found = re.search(r"^ +max_epoch: (\d+)$", text, re.MULTILINE | re.IGNORECASE)  # YAML takes long to read
        return int(found[1]) if found else 0


def table_runs(table: Table, output: Path) -> list[Run]:
    """List a table's runs: all rows with the first seed, then with the second, and so on.

    A run's folder is named after all that makes its result, and nothing else: a row that is changed gets a new one, one
    that is changed back or has another name finds its old, and rows that are alike share one.

    Args:
        table: the table.
        output: the folder of the table; the runs lie in ``runs`` there.
    """
    runs = []
    for seed in table.seeds:
        for row in table.rows:
            for data in row.data:
                config = row.config(data)
                name = f"{config.stem}-{data}" if data not in config.stem else config.stem
                folder = f"{name}-seed-{seed}-{_fingerprint(row, data, seed, table.demo)}"
                runs.append(Run(row, data, seed, output / "runs" / folder))
    return runs


def describe(run: Run) -> None:
    """Write down beside a run's folder what it is a run of."""
    facts = {"row": run.row.name, "data": run.data, "seed": run.seed, "toolbox": run.row.toolbox}
    facts |= {"preset": run.row.preset, "overrides": dict(run.row.overrides)}
    RunFolder(run.folder.parent).write_text(f"{run.folder.name}.json", json.dumps(facts, indent=2) + "\n")


def settings(run: Run) -> dict[str, Any]:
    """Return the settings that a run adds to its preset: its data set, its seed and the row's overrides."""
    name = spelled(run.data, run.row.toolbox)
    if run.row.toolbox == "torchreid":
        own: dict[str, Any] = {"data.sources": [name], "data.targets": [name], "train.seed": run.seed}
        return {**own, "data.save_dir": str(run.folder), **run.row.overrides}
    own = {"DATASETS.NAMES": (name,), "DATASETS.TESTS": (name,), "SEED": run.seed}
    return {**own, "OUTPUT_DIR": str(run.folder), **run.row.overrides}


def _torchreid(run: Run, root: Path, cuda: bool) -> list[str]:
    changes = {"use_gpu": cuda, **settings(run)}
    if checkpoint := run.checkpoint():
        changes["model.resume"] = str(checkpoint)
    return ["--config-file", str(run.row.config(run.data)), "--root", str(root), *_pairs(changes)]


def _fastreid(run: Run, root: Path, cuda: bool) -> list[str]:
    changes = {"MODEL.DEVICE": "cuda" if cuda else "cpu", **settings(run)}
    resume = ["--resume"] if run.checkpoint() else []
    return ["--config-file", str(run.row.config(run.data)), *resume, *_pairs(changes)]


def _pairs(changes: Mapping[str, Any]) -> list[str]:
    return [word for key, value in changes.items() for word in (key, str(value))]


def _fingerprint(row: Row, data: str, seed: int, demo: Mapping[str, int] | None) -> str:
    """Return eight characters that differ where a result would: not for comments, names or places."""
    what = [row.toolbox, merged_settings(row.config(data)), dict(row.overrides), data, seed, demo]
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _last_row(folder: Path) -> dict[str, Any]:
    """Return the last whole line of ``metrics.jsonl``, or an empty one."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().split(b"\n")
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except ValueError:  # empty, cut off or no UTF-8
            continue
        if isinstance(row, dict):
            return row
    return {}
