"""From finished runs to the cells of a table: what each query got, seeds averaged, baselines subtracted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from drsl_plugin.errors import DRSLError
from drsl_plugin.evaluation import Ranking
from drsl_plugin.reproduce.results import Column, ResultRow, ResultTable, RunResult
from drsl_plugin.reproduce.runs import Run, table_runs
from drsl_plugin.reproduce.statistics import (
    RANKING_METRICS,
    Cell,
    Difference,
    mean_and_sd,
    metric_values,
    paired_bootstrap,
)
from drsl_plugin.reproduce.table_files import Row, Table
from drsl_plugin.runs.config import read_config
from drsl_plugin.runs.evaluating import evaluate_arrays
from drsl_plugin.runs.features import find_features, read_features
from drsl_plugin.runs.folder import whole_file
from drsl_plugin.toolbox.registry import find_evaluation_settings

CACHE = "per-query.npz"


class RankedRun(NamedTuple):
    """A run's evaluation, and a mark of the test set that it is on."""

    ranking: Ranking
    test_set: str


def evaluate_run(folder: Path) -> RankedRun:
    """Evaluate a run's features as the run did, once; what each query got stays beside them.

    Args:
        folder: the run folder; it has one target.

    Raises:
        DRSLError: no features, or some that cannot be evaluated.
    """
    (features,) = list(find_features(folder).values())[:1]
    cache = folder / CACHE
    if not cache.is_file() or cache.stat().st_mtime_ns < features.stat().st_mtime_ns:
        arrays = read_features(features)
        ranking = evaluate_arrays(arrays, find_evaluation_settings(read_config(folder)), features).ranking
        labels = (arrays.query_pids, arrays.query_camids, arrays.gallery_pids, arrays.gallery_camids)
        mark = hashlib.sha256(b"".join(each.tobytes() for each in labels)).hexdigest()
        with whole_file(cache) as unfinished, unfinished.open("wb") as file:
            np.savez(file, ap=ranking.ap, inp=ranking.inp, curves=ranking.curves, test_set=np.array(mark))
    with np.load(cache, allow_pickle=False) as file:
        ap, inp, curves = (file[name] for name in ("ap", "inp", "curves"))
        return RankedRun(
            Ranking(curves.mean(axis=0), float(ap.mean()), float(inp.mean()), ap, inp, curves), str(file["test_set"])
        )


class _Results:
    """What a table's runs gave so far."""

    def __init__(self, table: Table, output: Path, failed: Mapping[Path, str]) -> None:
        self.wanted = len(table.seeds)
        self._failed = dict(failed)
        self._runs: dict[tuple[str, str], list[Run]] = {}
        for run in table_runs(table, output):
            self._runs.setdefault((run.row.name, run.data), []).append(run)
        self._evaluated: dict[Path, RankedRun] = {}
        self.footnotes: list[str] = []
        for run in (run for runs in self._runs.values() for run in runs):
            if run.folder not in self._evaluated and run.is_finished():
                try:
                    self._evaluated[run.folder] = evaluate_run(run.folder)
                except DRSLError as error:
                    self._failed[run.folder] = str(error)

    def of(self, row: str, data: str) -> list[RankedRun]:
        """Return the evaluations that are there of a row on a data set."""
        runs = self._runs.get((row, data), [])
        return [self._evaluated[run.folder] for run in runs if run.folder in self._evaluated]

    def runs(self) -> Iterator[RunResult]:
        """Go through what each run gave, row by row and seed by seed; of those that rows share, for each of them."""
        for run in (run for runs in self._runs.values() for run in runs):
            if run.folder in self._evaluated:
                ranking = self._evaluated[run.folder].ranking
                metrics = {metric: _metric(ranking, metric) for metric in RANKING_METRICS}
                yield RunResult(run.row.name, run.row.toolbox, run.data, run.seed, metrics)

    def cell(self, row: Row, column: Column) -> Cell | None:
        """Make a cell; None where the row is not of the data set."""
        if column.data not in row.data:
            return None
        own = self.of(row.name, column.data)
        values = [_metric(each.ranking, column.metric) for each in own]
        missing = [run for run in self._runs[row.name, column.data] if run.folder not in self._evaluated]
        reasons = [f"failed: {self._failed[run.folder]}" for run in missing if run.folder in self._failed]
        problem = (reasons or ["not run"])[0] if missing else None
        published = row.published.get((column.data, column.metric))
        mean, sd = mean_and_sd(values)
        return Cell(mean, sd, len(own), self.wanted, self._compare(row, column, own), published, problem)

    def _compare(self, row: Row, column: Column, own: Sequence[RankedRun]) -> Difference | None:
        other = self.of(row.baseline, column.data) if row.baseline else []
        if not own or not other:
            return None
        if len({each.test_set for each in (*own, *other)}) > 1:
            note = f"{row.name}: not on the test images of {row.baseline}, in their order: no difference"
            self.footnotes += [note] if note not in self.footnotes else []
            return None
        values, baseline = ([metric_values(each.ranking, column.metric) for each in runs] for runs in (own, other))
        return paired_bootstrap(np.stack(values), np.stack(baseline))


def result_table(table: Table, output: Path, failed: Mapping[Path, str]) -> ResultTable:
    """Gather what a table's runs gave so far.

    Args:
        table: the table.
        output: its folder.
        failed: why runs have failed, by their folders.
    """
    results = _Results(table, output, failed)
    rows = [
        ResultRow(row.name, [results.cell(row, column) for column in table.columns], row.baseline) for row in table.rows
    ]
    return ResultTable(table.title, table.columns, rows, results.footnotes, list(results.runs()))


def _metric(ranking: Ranking, metric: str) -> float:
    return float(metric_values(ranking, metric).mean())
