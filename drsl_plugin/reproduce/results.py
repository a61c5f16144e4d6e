"""A table of results before it is written: columns, and rows of cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from drsl_plugin.data.catalogue import title
from drsl_plugin.reproduce.statistics import TABLE_RANKS, Cell

METRIC_TITLES = {f"rank{k}": f"Rank-{k}" for k in TABLE_RANKS}


class Column(NamedTuple):
    """A data set and a metric."""

    data: str
    """As the catalogue names it, or any other by its own name."""
    metric: str
    """One of :data:`~drsl_plugin.reproduce.statistics.RANKING_METRICS`."""
    heading: str | None = None
    """What stands above the column; None for the names of the two."""

    @property
    def title(self) -> str:
        """What stands above the column."""
        return self.heading or f"{title(self.data)} {METRIC_TITLES.get(self.metric, self.metric)}"


class ResultRow(NamedTuple):
    """A row: a cell for each column, None where the row has no run for it."""

    name: str
    cells: Sequence[Cell | None]
    baseline: str | None = None


class RunResult(NamedTuple):
    """What one finished run of a row gave."""

    row: str
    toolbox: str
    data: str
    seed: int
    metrics: Mapping[str, float]
    """Each of :data:`~drsl_plugin.reproduce.statistics.RANKING_METRICS`; fractions of 1."""


@dataclass(frozen=True)
class ResultTable:
    """A table: what stands above it, in it and below it, and the runs that it is made of."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[ResultRow]
    footnotes: Sequence[str] = ()
    runs: Sequence[RunResult] = ()

    def __post_init__(self) -> None:
        """Check that each row has a cell for each column.

        Raises:
            ValueError: names the row that has not.
        """
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(f"row {row.name!r}: {len(row.cells)} cells, must be {len(self.columns)}")

    def cells(self) -> Iterator[tuple[ResultRow, Column, Cell]]:
        """Go through the cells, row by row, without those that are None."""
        for row in self.rows:
            for column, cell in zip(self.columns, row.cells, strict=True):
                if cell is not None:
                    yield row, column, cell

    @property
    def has_baselines(self) -> bool:
        """Whether a row names its baseline."""
        return any(row.baseline for row in self.rows)
