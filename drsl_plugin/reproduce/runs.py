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
from drsl_plugin.reproduce.table_files import Row, Table
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.toolbox import RunRequest, Toolbox, toolbox

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

    @property
    def toolbox(self) -> Toolbox:
        """What trains it."""
        return toolbox(self.row.toolbox)

    def request(self, root: Path, cuda: bool) -> RunRequest:
        """Return what its toolbox is asked for: to start the run, or to go on from its last checkpoint.

        Args:
            root: the folder of data sets.
            cuda: whether it is to run on CUDA.
        """
        return RunRequest(
            config=self.row.config(self.data),
            data=self.data,
            seed=self.seed,
            folder=self.folder,
            root=root,
            cuda=cuda,
            overrides=self.row.overrides,
            checkpoint=self.checkpoint(),
        )

    def command(self, root: Path, cuda: bool) -> list[str]:
        """Return the words of ``drsl`` that start the run, or go on from its last checkpoint."""
        return [self.toolbox.name, *self.toolbox.build_arguments(self.request(root, cuda))]

    def checkpoint(self) -> Path | None:
        """Return the last checkpoint of a run that was cut off."""
        return self.toolbox.find_checkpoint(self.folder)

    def epochs(self) -> tuple[int, int]:
        """Return the epoch that the run is in, and how many it has; (0, 0) before it has written any."""
        total, row = self._count_epochs(), _read_last_row(self.folder)
        return (min(row.get("epoch") or 0, total), total) if row else (0, total)

    def is_finished(self) -> bool:
        """Tell whether the evaluation after the last epoch is there, and its features."""
        row = _read_last_row(self.folder)
        total = self._count_epochs()
        evaluated = "mAP" in row and total > 0 and (row.get("epoch") or 0) >= total
        return evaluated and any(self.folder.glob("features-*.npz"))

    def _count_epochs(self) -> int:
        try:
            text = (self.folder / "config.yaml").read_text(encoding="utf-8")
        except OSError:
            return 0
        key = self.toolbox.keys.epochs.rpartition(".")[2]
        found = re.search(rf"^ +{key}: (\d+)$", text, re.MULTILINE)  # YAML takes long to read
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


def _fingerprint(row: Row, data: str, seed: int, demo: Mapping[str, int] | None) -> str:
    """Return eight characters that differ where a result would: not for comments, names or places."""
    what = [row.toolbox, merged_settings(row.config(data)), dict(row.overrides), data, seed, demo]
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _read_last_row(folder: Path) -> dict[str, Any]:
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
