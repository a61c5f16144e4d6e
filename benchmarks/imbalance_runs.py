"""The runs of the imbalance benchmark on disk: a line of JSON each while it runs, a table of them all to keep."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from drsl_plugin.errors import DRSLError

# What tells runs apart, then what came of them. An empty cell is None: a loss without a temperature, no alphabet held
# out.
SETTINGS: dict[str, Callable[[str], Any]] = {
    "hold_out": str,
    "gradient": lambda cell: {"True": True, "False": False}[cell],
    "positives": int,
    "loss": str,
    "temperature": float,
    "sort_weight": float,
    "ratio": int,
    "seed": int,
    "steps": int,
    "refresh": int,
    "lr": float,
}
RESULTS: dict[str, Callable[[str], Any]] = {
    "last_loss": float,
    "mAP_cosine": float,
    "mAP_euclidean": float,
    "mAP": float,
    "seconds": float,
}
COLUMNS = {**SETTINGS, **RESULTS}


class Runs:
    """Finished runs in a file, a line of JSON each; a line that a killed process left unfinished does not count."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: list[dict[str, Any]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text() if path.exists() else ""
        for line in text.splitlines():
            try:
                self.found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        if text and not text.endswith("\n"):
            path.write_text("".join(json.dumps(run) + "\n" for run in self.found))

    def select(self, settings: dict[str, Any]) -> list[dict[str, Any]]:
        return [run for run in self.found if all(run.get(key) == value for key, value in settings.items())]

    def __contains__(self, settings: dict[str, Any]) -> bool:
        return bool(self.select(settings))

    def add(self, settings: dict[str, Any], result: dict[str, Any]) -> None:
        self.found.append({**settings, **result})
        with self.path.open("a") as file:
            file.write(json.dumps(self.found[-1]) + "\n")

    def take(self, path: Path) -> None:
        """Count the runs of a ``runs.csv`` as finished here too."""
        for run in read_csv(path):
            settings = {name: run[name] for name in SETTINGS}
            if settings not in self:
                self.add(settings, {name: run[name] for name in RESULTS})

    def write_csv(self, path: Path) -> None:
        """Write all of them, a line each, in an order that does not depend on when they ran."""
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
            writer.writeheader()
            writer.writerows(sorted(self.found, key=_place))


def read_csv(path: Path) -> Iterator[dict[str, Any]]:
    """Read what :meth:`Runs.write_csv` wrote.

    Raises:
        DRSLError: no such file, or one that is none of these.
    """
    if not path.is_file():
        raise DRSLError(f"--runs {path}: no such file")
    with path.open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                yield {name: read(row[name]) if row[name] else None for name, read in COLUMNS.items()}
            except (KeyError, ValueError) as error:
                raise DRSLError(f"--runs {path}: line {number} is not a run, it wants {', '.join(COLUMNS)}") from error


def _place(run: dict[str, Any]) -> list[tuple[bool, Any]]:
    return [(run[name] is not None, run[name] if run[name] is not None else 0) for name in SETTINGS]
