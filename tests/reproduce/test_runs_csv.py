"""``runs.csv``: what each finished run of each row gave, read from the run folders."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from drsl_plugin.evaluation import evaluate_features
from drsl_plugin.reproduce import main as reproduce_main
from drsl_plugin.reproduce.cells import result_table
from drsl_plugin.reproduce.runs import Run, table_runs
from drsl_plugin.reproduce.scheduling import RunQueue
from drsl_plugin.reproduce.statistics import RANKING_METRICS
from drsl_plugin.reproduce.table_files import Table, read_table


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Three rows, two of them alike, with seeds that are not in order; only mAP is shown."""
    row = {"toolbox": "torchreid", "preset": "osnet_x0_25_triplet_256x128_{data}"}
    other = {**row, "preset": "osnet_x0_25_drsl_256x128_{data}"}
    path = tmp_path / "mine.yaml"
    entries = [{"name": "a", **row}, {"name": "b", **other, "baseline": "a"}, {"name": "like a", **row}]
    columns = [{"data": "market1501", "metric": "mAP"}, {"data": "msmt17", "metric": "mAP"}]
    path.write_text(yaml.safe_dump({"seeds": [2, 1], "columns": columns, "rows": entries}))
    return read_table(path)


@pytest.fixture
def finish(tmp_path: Path) -> Callable[[Run], dict[str, float]]:
    """``finish(run)``: leave what a run leaves, of random features; returns its metrics."""

    def leave(run: Run) -> dict[str, float]:
        rng = np.random.default_rng([run.seed, len(run.row.name), len(run.data)])
        sides = [
            (rng.normal(size=(n, 4)).astype(np.float32), np.arange(n) % 5, np.full(n, c)) for n, c in ((10, 0), (30, 1))
        ]
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / "config.yaml").write_text("train:\n  max_epoch: 2\ntest:\n  dist_metric: cosine\n")
        keys = ("features", "pids", "camids")
        arrays = {
            f"{p}_{k}": v
            for p, side in zip(("query", "gallery"), sides, strict=True)
            for k, v in zip(keys, side, strict=True)
        }
        np.savez(run.folder / f"features-{run.data}.npz", **arrays)
        (run.folder / "metrics.jsonl").write_text(json.dumps({"step": 2, "epoch": 2, "mAP": 0.5}) + "\n")
        (qf, qp, qc), (gf, gp, gc) = sides
        ranking = evaluate_features(qf, gf, qp, gp, qc, gc, metric="cosine")
        cmc = {f"rank{k}": float(ranking.cmc[k - 1]) for k in (1, 5, 10, 20)}
        return {"mAP": ranking.mAP, "mINP": ranking.mINP, **cmc}

    return leave


def test_each_finished_run_has_a_line_for_each_row_that_it_is_of(
    table: Table, tmp_path: Path, finish: Callable[[Run], dict[str, float]]
) -> None:
    runs = {(run.row.name, run.data, run.seed): run for run in table_runs(table, tmp_path)}
    assert runs["a", "market1501", 1].folder == runs["like a", "market1501", 1].folder
    done = [("a", "market1501", 2), ("a", "market1501", 1), ("a", "msmt17", 1), ("b", "market1501", 1)]
    gave = {key: finish(runs[key]) for key in done}
    gave |= {("like a", *key[1:]): metrics for key, metrics in gave.items() if key[0] == "a"}

    found = result_table(table, tmp_path, {}).runs

    # By row, data set and the seeds as the table has them; b on MSMT17 and with seed 2 are not finished.
    like = [("like a", *key[1:]) for key in done[:3]]
    assert [(run.row, run.data, run.seed) for run in found] == [*done, *like]
    assert {run.toolbox for run in found} == {"torchreid"}
    for run in found:
        assert tuple(run.metrics) == RANKING_METRICS
        assert run.metrics == pytest.approx(gave[run.row, run.data, run.seed], abs=1e-12)


def test_the_means_of_the_table_are_those_of_its_runs(
    table: Table, tmp_path: Path, finish: Callable[[Run], dict[str, float]]
) -> None:
    for run in table_runs(table, tmp_path):
        finish(run)
    results = result_table(table, tmp_path, {})

    def values(row: str, data: str) -> list[float]:
        return [run.metrics["mAP"] for run in results.runs if (run.row, run.data) == (row, data)]

    for row, column, cell in results.cells():
        assert len(values(row.name, column.data)) == 2
        assert np.mean(values(row.name, column.data)) == cell.mean


def test_the_file_is_written_beside_the_table_whole_and_is_named(
    table: Table,
    tmp_path: Path,
    finish: Callable[[Run], dict[str, float]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    schedule = RunQueue([], lambda run: [], [{}])
    reproduce_main._write(table, tmp_path / "out", schedule)
    with (tmp_path / "out" / "runs.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["row", "toolbox", "data", "seed", *RANKING_METRICS]]
    finish(table_runs(table, tmp_path / "out")[0])
    reproduce_main._write(table, tmp_path / "out", schedule)
    with (tmp_path / "out" / "runs.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["row"], line["seed"]) for line in lines] == [("a", "2"), ("like a", "2")]
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{tmp_path / 'out' / 'table.md'}, .csv, .tex; seed by seed: {tmp_path / 'out' / 'runs.csv'}; "
        f"the runs lie in {tmp_path / 'out' / 'runs'}"
    )
    assert not list((tmp_path / "out").glob("*.unfinished"))
