"""The files of a run of either toolbox, which reports, tables and evaluations read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from comparing import unequal
from hosts import Host

from drsl_plugin.evaluation import evaluate_ranking
from drsl_plugin.runs.folder import RunFolder


@pytest.fixture(scope="module")
def run(trained: Callable[..., Path]) -> Path:
    """The folder of a run of two epochs, which are both evaluated."""
    return trained(epochs=2, eval_every=1, seed=3, temperature=0.07)


def noted(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "environment.json").read_text())
    return found


def test_files(host: Host, run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "environment.json", "metrics.jsonl", host.features(run).name} <= names
    checkpoints = {path.name for path in run.rglob("*.pth*")}
    assert {host.checkpoint(run).name, host.best(run).name} <= checkpoints
    assert not list(run.rglob("*.unfinished"))
    assert host.log(run)


@pytest.mark.parametrize("losses", ["drsl", "triplet", "classes"])
def test_rows_of_the_steps(losses: str, host: Host, trained: Callable[..., Path]) -> None:
    folder = trained(losses=losses)
    *steps, evaluation = RunFolder(folder).rows()
    columns = {"step", "epoch", "lr", *host.columns[losses]}
    assert {frozenset(step) for step in steps} == {frozenset(columns)}
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    assert {step["epoch"] for step in steps} == {1}
    assert (evaluation["step"], evaluation["epoch"], evaluation["target"]) == (len(steps), 1, host.target)


def test_rows_of_the_evaluations(host: Host, run: Path) -> None:
    rows = RunFolder(run).rows()
    places = [index for index, row in enumerate(rows) if "mAP" in row]
    assert [rows[index]["epoch"] for index in places] == [1, 2]
    assert places[-1] == len(rows) - 1
    for index in places:
        assert rows[index]["step"] == rows[index - 1]["step"]
        assert set(rows[index]) == {"step", "epoch", "target", "mAP", "mINP", *(f"rank{k}" for k in host.ranks)}


def test_features_give_the_metrics_again(host: Host, run: Path) -> None:
    arrays = np.load(host.features(run))
    query, gallery = (torch.from_numpy(arrays[f"{name}_features"]) for name in ("query", "gallery"))
    assert query.shape[0] == 16
    labels = [arrays[f"{name}_{kind}"] for kind in ("pids", "camids") for name in ("query", "gallery")]
    found = evaluate_ranking(host.distances(query, gallery).numpy(), *labels)
    row = RunFolder(run).rows()[-1]
    assert row["mAP"] == pytest.approx(found.mAP)
    assert row["mINP"] == pytest.approx(found.mINP)
    assert row["mINP"] != row["mAP"]
    expected = {f"rank{k}": found.cmc[k - 1] for k in host.ranks}
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    for name in ("query", "gallery"):
        for path, pid, camid in zip(*(arrays[f"{name}_{kind}"] for kind in ("paths", "pids", "camids")), strict=True):
            assert Path(path).name.startswith(f"{pid:04d}_c{camid + 1}")


def test_the_environment(host: Host, run: Path) -> None:
    found = noted(run)
    assert (found["seed"], found["preset"], found["device"], found["processes"]) == (3, None, "cpu", 1)
    assert found["versions"]["torch"] == torch.__version__.split("+")[0]
    assert {"drsl-plugin", host.name, "torchvision", "numpy"} <= set(found["versions"])
    assert host.package.__file__ is not None
    assert Path(found["toolbox"]) == Path(host.package.__file__)
    changes = {"epochs": 2, "eval_every": 1, "seed": 3, "temperature": 0.07}
    assert found["argv"] == host.words(run, **changes)


def test_a_preset_is_noted(host: Host, tmp_path: Path) -> None:
    words = host.options(tmp_path / "run")
    assert host.command(host.name, "--config-file", host.preset, *words).code == 0
    assert noted(tmp_path / "run")["preset"] == host.preset


@pytest.mark.parametrize("losses", ["drsl", "triplet", "classes"])
def test_the_configuration(losses: str, host: Host, trained: Callable[..., Path]) -> None:
    config = yaml.safe_load((trained(losses=losses) / "config.yaml").read_text())
    node: Any = config
    *nodes, name = host.key("batch").split(".")
    for each in nodes:
        node = node[each]
    assert node[name] == 8


def test_the_configuration_trains_the_same_again(host: Host, run: Path, tmp_path: Path) -> None:
    words = ("--config-file", run / "config.yaml", host.key("folder"), tmp_path / "again")
    assert host.command(host.name, *words).code == 0
    assert RunFolder(tmp_path / "again").rows() == RunFolder(run).rows()
    weights = [host.parameters(host.checkpoint(folder)) for folder in (run, tmp_path / "again")]
    assert unequal(*weights) == []


def test_a_new_run_in_an_old_folder_starts_anew(host: Host, run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    ended = host.train(folder, seed=4)
    assert ended.output.count("holds an earlier run") == 1
    steps = host.steps(folder)
    assert [row["step"] for row in steps] == list(range(1, len(steps) + 1))
    assert [row["epoch"] for row in host.evaluations(folder)] == [1]


def test_the_seed_decides(host: Host, trained: Callable[..., Path], tmp_path: Path) -> None:
    first, second = (trained(seed=seed, images="augmented") for seed in (1, 2))
    torch.rand(3)
    np.random.rand(3)
    host.train(tmp_path / "again", seed=1, images="augmented")
    assert RunFolder(tmp_path / "again").rows() == RunFolder(first).rows()
    assert host.steps(first)[0] != host.steps(second)[0]
    weights = [host.parameters(host.checkpoint(folder)) for folder in (first, tmp_path / "again")]
    assert unequal(*weights) == []


# Evaluations only


def changing(host: Host, file: Path) -> bool:
    """Whether an evaluation beside a training writes into a file of it."""
    return file.name in ("metrics.jsonl", host.features(file.parent).name, "log.txt") or "events.out" in file.name


@pytest.mark.parametrize("beside", [True, False], ids=["beside the training", "in a folder of its own"])
def test_evaluation_only(beside: bool, host: Host, run: Path, tmp_path: Path) -> None:
    trained = shutil.copytree(run, tmp_path / "trained")
    folder = trained if beside else tmp_path / "evaluated"
    checkpoint = host.checkpoint(trained)
    kept = [path for path in trained.rglob("*") if path.is_file() and not changing(host, path)]
    assert {trained / "config.yaml", trained / "environment.json", checkpoint, host.best(trained)} <= set(kept)
    before = {path: path.read_bytes() for path in kept}
    host.train(folder, evaluate=checkpoint, losses="triplet", seed=7)

    *rows, row = RunFolder(folder).rows()
    expected = {**RunFolder(run).rows()[-1], "step": None, "epoch": None, "weights": str(checkpoint)}
    assert row == expected
    assert rows == (RunFolder(run).rows() if beside else [])
    assert {path: path.read_bytes() for path in kept} == before
    with np.load(host.features(folder)) as found, np.load(host.features(run)) as arrays:
        assert all(np.array_equal(found[name], arrays[name]) for name in arrays.files)
    assert not list((tmp_path / "evaluated").rglob("*.pth*"))
    assert noted(folder)["seed"] == (3 if beside else 7)


def test_an_earlier_evaluation_does_not_matter(
    host: Host, run: Path, trained: Callable[..., Path], tmp_path: Path
) -> None:
    files = [host.checkpoint(folder) for folder in (trained(seed=3, temperature=0.07), run)]
    for path in files:
        host.train(tmp_path / "run", evaluate=path)
    found = RunFolder(tmp_path / "run").rows()
    assert [row["mAP"] for row in found] == [row["mAP"] for row in host.evaluations(run)]
    assert [row["weights"] for row in found] == list(map(str, files))
