"""``drsl reproduce`` as users run it: the shipped demo table, smaller still, by both toolboxes' own machinery."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from drsl_plugin.cli import app
from drsl_plugin.errors import DRSLError
from drsl_plugin.presets import table_path
from drsl_plugin.reproduce import main as reproduce_main
from drsl_plugin.reproduce.main import Options
from drsl_plugin.reproduce.scheduling import RunQueue
from drsl_plugin.runs.config import read_config
from drsl_plugin.runs.evaluating import evaluate_file
from drsl_plugin.toolbox.registry import find_evaluation_settings

SMALL = [
    *("train.max_epoch", "2", "train.batch_size", "16", "data.height", "64", "data.width", "32"),
    *("SOLVER.MAX_EPOCH", "2", "SOLVER.IMS_PER_BATCH", "16", "TEST.EVAL_PERIOD", "2", "SOLVER.CHECKPOINT_PERIOD", "1"),
    *("INPUT.SIZE_TRAIN", "[64, 32]", "INPUT.SIZE_TEST", "[64, 32]", "SOLVER.DELAY_EPOCHS", "0"),
]


def drsl(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def small_demo(path: Path, rows: slice = slice(None)) -> Path:
    table: dict[str, Any] = yaml.safe_load(table_path("demo").read_text(encoding="utf-8"))
    table |= {"demo": {"identities": 4, "cameras": 2, "images": 2, "seed": 0}, "rows": table["rows"][rows]}
    path.write_text(yaml.safe_dump(table, sort_keys=False), encoding="utf-8")
    return path


def run_folders(output: Path) -> list[Path]:
    return [path for path in sorted((output / "runs").iterdir()) if path.is_dir()]


@pytest.mark.slow
def test_the_demo_table(tmp_path: Path) -> None:
    table = small_demo(tmp_path / "demo.yaml")
    output = tmp_path / "out"
    result = drsl("reproduce", table, "-o", output, "--jobs", 2, *SMALL)
    assert result.exit_code == 0, result.output
    folders = run_folders(output)
    assert len(folders) == 12
    with (output / "table.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 12
    assert {line["seeds"] for line in lines} == {"2"}
    assert (output / "table.md").read_text(encoding="utf-8") in result.stdout
    assert "toprule" in (output / "table.tex").read_text(encoding="utf-8")
    # the first cell, from the runs themselves
    own = [folder for folder in folders if "softmax" in folder.name]
    settings = [find_evaluation_settings(read_config(f)) for f in own]
    results = [evaluate_file(f / "features-market1501.npz", each) for f, each in zip(own, settings, strict=True)]
    values = [result.ranking.mAP for result in results]
    # seed by seed, in the order of the table's rows
    with (output / "runs.csv").open(encoding="utf-8", newline="") as file:
        by_seed = list(csv.DictReader(file))
    assert [(line["row"], line["seed"]) for line in by_seed] == [(f["row"], s) for f in lines[::2] for s in "12"]
    assert [float(line["mAP"]) for line in by_seed[:2]] == pytest.approx(values, abs=1e-12)
    assert str(output / "runs.csv") in result.stdout
    assert float(lines[0]["mean"]) == pytest.approx(sum(values) / 2, abs=1e-12)
    assert values[0] != values[1]  # the seeds are passed on
    # what a row says has reached its toolbox
    sorts = {
        yaml.safe_load((f / "config.yaml").read_text())["loss"]["drsl"]["sort"] for f in folders if "_drsl_" in f.name
    }
    assert sorts == {"none", "angle"}
    times = [(folder / "metrics.jsonl").stat().st_mtime_ns for folder in folders]
    again = drsl("reproduce", table, "-o", output, *SMALL)  # finished: nothing is run, the table is the same
    assert again.exit_code == 0
    assert "12 of 12 runs are finished already" in again.output
    assert (output / "table.md").read_text(encoding="utf-8") in again.stdout
    assert [(folder / "metrics.jsonl").stat().st_mtime_ns for folder in folders] == times


@pytest.mark.slow
@pytest.mark.parametrize("rows", [slice(0, 1), slice(4, 5)], ids=["torchreid", "fastreid"])
def test_an_interrupted_table_goes_on_from_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: slice
) -> None:
    table, output, epochs = small_demo(tmp_path / "demo.yaml", rows), tmp_path / "out", 24  # more than are done
    changes = [
        (key, value)
        for key, value in zip(SMALL[::2], SMALL[1::2], strict=True)
        if key[0].isupper() == (rows.start == 4)
    ]
    longer = dict.fromkeys(("train.max_epoch", "SOLVER.MAX_EPOCH", "TEST.EVAL_PERIOD"), str(epochs))
    words = [word for key, value in changes for word in (key, longer.get(key, value))]
    arguments = ("reproduce", table, "-o", output, *words)

    @contextlib.contextmanager
    def interrupted(schedule: RunQueue) -> Iterator[None]:
        def look(schedule: RunQueue) -> None:
            if any(each.run.checkpoint() for each in schedule.active):
                raise KeyboardInterrupt

        schedule.on_change = look
        yield

    with monkeypatch.context() as patch:
        patch.setattr(reproduce_main, "show_progress", interrupted)
        first = drsl(*arguments)
    assert first.exit_code == 130
    assert "drsl: interrupted" in first.output
    assert "| — (a) |" in first.stdout
    (folder,) = run_folders(output)
    cut_off = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert 1 <= max(row["epoch"] for row in cut_off) < epochs

    second = drsl(*arguments)
    assert second.exit_code == 0, second.output
    rows_of = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows_of if "mAP" not in row]
    assert steps == list(range(1, len(steps) + 1))
    assert rows_of[-1]["epoch"] == epochs
    kept = [row for row in cut_off if row["epoch"] == 1 and "mAP" not in row]
    assert rows_of[: len(kept)] == kept  # it went on and did not begin again


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return small_demo(tmp_path / "demo.yaml")


BAD = [
    (["nothing.yaml"], "TABLE: no file 'nothing.yaml', and the shipped tables are ablation, demo, imbalance, "),
    (["demo", "--only", "Torchreid DRSL"], "--only Torchreid DRSL: .*did you mean .*Torchreid, DRSL"),
    (["demo", "--data", "msmt17"], "--data msmt17: the table has none of this name; there are 'market1501'"),
    (["demo", "--jobs", "0"], "--jobs 0: must be 1 or above"),
    (["demo", "--gpus", "7"], "--gpus 7: different numbers of GPUs, commas between them; torch finds"),
    (["demo", "--gpus", "a"], "--gpus a: different numbers"),
    (["demo", "--root", "data"], "--root: demo.yaml renders its data set into"),
    (["demo", "train.lr"], "options come in pairs, `key value`: 'train.lr' stands alone"),
    (["demo", "--job", "2"], "--job: no such option"),
    (["zoo", "--only", "x"], "--only x: the table has none"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments_get_one_line_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = drsl("reproduce", *arguments)
    assert result.exit_code == 2
    assert not list(tmp_path.iterdir())
    (line,) = result.stderr.splitlines()
    assert line.startswith("drsl: error: ")
    assert re.search(message, line), line


def test_settings_are_checked_by_the_toolboxes_before_anything_is_run(tmp_path: Path, table: Path) -> None:
    result = drsl("reproduce", table, "-o", tmp_path / "out", "loss.drsl.temperature", "-1", "SOLVER.OPTIM", "Adam")
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("drsl: error: ")]
    assert len(lines) == 2
    assert not (tmp_path / "out" / "runs").exists()
    assert "row Torchreid, Smooth-AP on market1501 and 1 more: loss.drsl.temperature" in lines[0]
    assert "row FastReID, triplet on market1501 and 1 more: unknown key SOLVER.OPTIM" in lines[1]


def test_data_that_are_not_there_are_missed_before_anything_is_run(tmp_path: Path) -> None:
    table = yaml.safe_load(table_path("demo").read_text(encoding="utf-8"))
    del table["demo"]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(table | {"rows": table["rows"][:4]}), encoding="utf-8")
    result = drsl("reproduce", path, "-o", tmp_path / "out", "--root", tmp_path / "nowhere")
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()
    (line,) = result.stderr.splitlines()
    assert "row Torchreid, softmax on market1501 and 3 more: " in line
    assert str(tmp_path / "nowhere") in line


def test_dry_run_prints_commands_and_writes_nothing(tmp_path: Path, table: Path) -> None:
    result = drsl("reproduce", table, "-o", tmp_path / "out", "--dry-run", "--only", "Torchreid, DRSL")
    assert result.exit_code == 0
    assert not (tmp_path / "out").exists()
    lines = result.stdout.splitlines()
    assert lines[0] == "# Torchreid, DRSL · market1501 · seed 1: to do"
    assert len(lines) == 4
    assert lines[1].startswith("drsl torchreid --config-file ")
    assert " train.seed 1 " in lines[1]


def test_only_takes_the_rows_that_begin_so_up_to_a_comma(tmp_path: Path, table: Path) -> None:
    def titles(*only: str) -> list[str]:
        options = [word for each in only for word in ("--only", each)]
        result = drsl("reproduce", table, "-o", tmp_path / "out", "--dry-run", *options)
        assert result.exit_code == (0 if result.stdout else 2)
        return [line for line in result.stdout.splitlines() if line.startswith("#") and "seed 1" in line]

    assert len(titles("FastReID")) == 2
    assert len(titles("Torchreid", "FastReID, DRSL")) == 5
    assert titles("Torch") == []


# slots: what tells processes that run at once apart


def test_a_run_on_each_gpu_and_several_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    gpus = [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "3"}]
    assert reproduce_main._slots(Options(gpus="0,3")) == gpus
    assert reproduce_main._slots(Options(gpus="0,3", jobs=3)) == [*gpus, gpus[0]]
    with pytest.raises(DRSLError, match=r"--gpus 0,0: different numbers of GPUs, .*; torch finds 0 to 3 here"):
        reproduce_main._slots(Options(gpus="0,0"))


def test_runs_at_once_share_the_cores_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert reproduce_main._slots(Options()) == [{}]
    assert reproduce_main._slots(Options(jobs=2)) == [{"OMP_NUM_THREADS": "4"}] * 2
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert reproduce_main._slots(Options(jobs=2)) == [{"OMP_NUM_THREADS": "1"}] * 2
