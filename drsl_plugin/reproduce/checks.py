"""Checks each run's configuration by its toolbox before the first run starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drsl_plugin.errors import DRSLError, raise_all
from drsl_plugin.reproduce.runs import Run


class RowError(DRSLError):
    """What is wrong with rows of a table: ``row NAME on DATA and 2 more: error``.

    Args:
        rows: their names, each with the data set.
        error: what their toolbox has to say.
    """

    def __init__(self, rows: Sequence[str], error: DRSLError) -> None:
        """Keep the parts."""
        super().__init__(rows, error)
        self.rows, self.error = rows, error

    def __str__(self) -> str:
        """Return the line."""
        more = f" and {len(self.rows) - 1} more" if len(self.rows) > 1 else ""
        return f"row {self.rows[0]}{more}: {self.error}"


def check_runs(runs: Sequence[Run], root: Path, *, cuda: bool) -> None:
    """Let the toolboxes check all that they can check without reading data.

    Args:
        runs: the runs; seeds make no difference.
        root: the folder of data sets.
        cuda: whether they run on CUDA.

    Raises:
        ConfigError: each thing that is wrong once, with the rows that have it.
        MissingPackageError: a toolbox is not installed.
    """
    found: dict[str, RowError] = {}
    for run in {(run.row.name, run.data): run for run in runs}.values():
        for error in run.toolbox.problems(run.request(root, cuda)):
            rows = found[str(error)].rows if str(error) in found else ()
            found[str(error)] = RowError((*rows, f"{run.row.name} on {run.data}"), error)
    raise_all(found.values())
