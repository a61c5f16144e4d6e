"""Several processes of either toolbox, on the CPU: the loss of the whole batch, and one run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparing import assert_equal_runs
from hosts import Host
from tiny import tiny
from worlds import Stop, Work, assert_near, do_alone, do_in_world, left_by, moved

from drsl_plugin.runs.folder import RunFolder

EXACT_BATCH = 16
EXACT: dict[str, dict[str, Any]] = {
    "drsl alone": {"losses": "drsl alone"},
    "drsl and classes": {},
    "linear and euclidean": {
        "distance": "euclidean",
        "relaxation": "linear",
        "sort": "order",
        "temperature": 0.5,
    },
    "with a memory": {
        "memory_size": 40,
        "memory_warmup": 1,
        "temperature_schedule": "linear",
        "temperature_end": 0.02,
    },
    "classes": {"losses": "classes"},
    "the classifier first": {},
}
OF_HOST: dict[str, dict[str, dict[str, Any]]] = {
    "torchreid": {
        "exact": {},
        "classes": {"sampler": "RandomSampler"},
        "the classifier first": {"train.fixbase_epoch": 1, "train.staged_lr": True},
        "usual": {
            "data.transforms": ["random_flip", "random_patch", "random_erase"],
            "train.lr_scheduler": "cosine",
            "train.fixbase_epoch": 1,
        },
    },
    "fastreid": {
        # It draws the same batch for any number of processes, and gives each its share of it.
        "exact": {"sampler": "BalancedIdentitySampler", "TEST.EVAL_PERIOD": 2, "SOLVER.CHECKPOINT_PERIOD": 2},
        "the classifier first": {"MODEL.FREEZE_LAYERS": '["backbone"]', "SOLVER.FREEZE_ITERS": 1},
        "usual": {
            "INPUT.FLIP.ENABLED": True,
            "INPUT.REA.ENABLED": True,
            "MODEL.FREEZE_LAYERS": '["backbone"]',
            "SOLVER.FREEZE_ITERS": 6,
        },
    },
}
IN_PIECES = [name for name in EXACT if name != "classes"]
FILES = {
    "torchreid": {
        *("config.yaml", "environment.json", "events.out.tfevents", "features-market1501.npz", "metrics.jsonl"),
        *("model", "model/model-best.pth.tar", "model/model.pth.tar-3", "train.log"),
    },
    "fastreid": {
        *("config.yaml", "environment.json", "events.out.tfevents", "features-Market1501.npz", "last_checkpoint"),
        *("log.txt", "log.txt.rank1", "metrics.json", "metrics.jsonl"),
        *("model_0000.pth", "model_0001.pth", "model_best.pth", "model_final.pth"),
    },
}
RESULTS = {"torchreid": "** Results **", "fastreid": "Evaluation results in csv format"}


def exact(host: Host, name: str) -> dict[str, Any]:
    """A job whose gradients are the same in any number of processes."""
    own = OF_HOST[host.name]
    return {**tiny(host), "batch": EXACT_BATCH, "epochs": 2, **own["exact"], **EXACT[name], **own.get(name, {})}


def usual(host: Host) -> dict[str, Any]:
    """A job with all that a training has."""
    memory = {"memory_size": 20, "temperature_schedule": "linear", "temperature_end": 0.02}
    return {**tiny(host, batch_norm=True), **memory, "epochs": 3, "eval_every": 1, **OF_HOST[host.name]["usual"]}


@pytest.fixture(scope="module")
def one(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process leaves of the jobs whose gradients are to be equal."""
    folder = tmp_path_factory.mktemp("one")
    works = {name: host.words(folder / name, **exact(host, name)) for name in EXACT}
    works["usual"] = host.words(folder / "usual", **usual(host))
    do_alone(host, [Work(words, folder / "notes" / name) for name, words in works.items()])
    return folder


@pytest.fixture(scope="module")
def two(host: Host, tmp_path_factory: pytest.TempPathFactory, one: Path) -> Path:
    """What a world of two processes left."""
    folder = tmp_path_factory.mktemp("two")
    in_epoch_1 = len([row for row in host.steps(one / "usual") if row["epoch"] == 1])
    stop = Stop((1,) if host.name == "torchreid" else (0, 1), in_epoch_1 + 1)

    def work(name: str, at: str = "", stop: Stop | None = None, **settings: Any) -> Work:
        return Work(host.words(folder / (at or name), **settings), folder / "notes" / name, stop)

    whole = host.checkpoint_of_epoch(folder / "whole", 3, last=True)
    begun = host.checkpoint_of_epoch(folder / "cut", 1)
    from_one = host.checkpoint(one / "drsl and classes")
    works = [
        work("whole", **usual(host)),
        work("begun", at="cut", stop=stop, **usual(host)),
        work("resumed", at="cut", resume=begun, **usual(host)),
        work("evaluated", evaluate=whole, **usual(host)),
        work("triplet", **{**exact(host, "drsl and classes"), "losses": "triplet", "workers": 1}),
        *(work(name, **exact(host, name)) for name in EXACT),
        *(work(f"{name}, in pieces", **exact(host, name), sub_batch=4) for name in IN_PIECES),
        work("from one", resume=from_one, **{**exact(host, "drsl and classes"), "epochs": 3}),
    ]
    do_in_world(host, works, 2)
    return folder


def numbers(row: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in row.items() if isinstance(value, (int, float))}


def assert_near_rows(host: Host, rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """The first step's row is as near as its loss; what comes later has the rounding of the steps before."""
    tolerance = 1e-5
    for found, row in zip(rows, expected, strict=True):
        assert found.get("target") == row.get("target")
        for key in numbers(row).keys() - host.of_first_process:
            assert found[key] == pytest.approx(row[key], rel=tolerance, abs=tolerance / 100), key
        tolerance = 1e-4


# The loss of the whole batch


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_gradients_are_those_of_one_process(name: str, one: Path, two: Path) -> None:
    (alone,), together = left_by(one / "notes" / name), left_by(two / "notes" / name)
    assert len(together) == 2
    for each in together:
        assert "end" not in each
        assert_near(each["start"], alone["start"], 0)
        assert len(each["gradients"]) == len(alone["gradients"]) >= 3
        for found, expected in zip(each["gradients"], alone["gradients"], strict=True):
            assert_near(found, expected, 1e-4)
        assert_near(moved(each, "first step"), moved(alone, "first step"), 1e-4)
        assert_near(moved(each), moved(alone), 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_PIECES)
def test_gradients_in_sub_batches_are_those_of_one_process_and_the_whole_batch(
    name: str, host: Host, one: Path, two: Path
) -> None:
    (alone,), together = left_by(one / "notes" / name), left_by(two / "notes" / f"{name}, in pieces")
    assert len(together) == 2
    for each in together:
        assert "end" not in each
        for found, expected in zip(each["gradients"], alone["gradients"], strict=True):
            assert_near(found, expected, 1e-4)
        assert all(torch.equal(tensor, together[0]["parameters"][key]) for key, tensor in each["parameters"].items())
    rows, expected = (host.steps(folder) for folder in (two / f"{name}, in pieces", one / name))
    assert_near_rows(host, rows, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_processes_together_have_the_batches_of_one(name: str, one: Path, two: Path) -> None:
    (alone,), (first, second) = left_by(one / "notes" / name), left_by(two / "notes" / name)
    assert [[*a, *b] for a, b in zip(first["batches"], second["batches"], strict=True)] == alone["batches"]
    assert {len(batch) for batch in [*first["batches"], *second["batches"]]} == {EXACT_BATCH // 2}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whole", "triplet", *IN_PIECES])
def test_processes_share_a_batch(name: str, host: Host, two: Path) -> None:
    first, second = left_by(two / "notes" / name)
    assert len(first["batches"]) == len(second["batches"]) > 0
    for ours, theirs in zip(first["batches"], second["batches"], strict=True):
        assert len(ours) == len(theirs) == (4 if name == "whole" else EXACT_BATCH // 2)
        assert ours != theirs
    if host.whole_identities:
        for ours, theirs in zip(first["pids"], second["pids"], strict=True):
            assert set(ours).isdisjoint(theirs)
            assert {ours.count(pid) for pid in ours} == {2}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_logs_and_evaluations_are_those_of_one_process(name: str, host: Host, one: Path, two: Path) -> None:
    alone, together = (RunFolder(folder / name).rows() for folder in (one, two))
    assert [row.keys() for row in together] == [row.keys() for row in alone]
    assert "mAP" in alone[-1]
    assert_near_rows(host, together, alone)
    if "classes" not in name:
        assert {"ap", "above_all", "ranking", "sorting"} <= alone[0].keys()


@pytest.mark.slow
def test_augmentations_differ_between_processes(two: Path) -> None:
    first, second = ({tuple(seeds) for seeds in notes["seeds"]} for notes in left_by(two / "notes" / "whole"))
    assert first.isdisjoint(second)


# What they leave


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whole", "begun", "resumed", "triplet", *EXACT])
def test_all_processes_end_with_the_parameters_that_are_saved(name: str, host: Host, two: Path) -> None:
    first, second = left_by(two / "notes" / name)
    assert first["parameters"].keys() == second["parameters"].keys()
    for key, tensor in first["parameters"].items():
        assert torch.equal(tensor, second["parameters"][key]), key
    if name != "begun":
        saved = host.parameters(host.checkpoint(two / ("cut" if name == "resumed" else name)))
        assert all(torch.equal(tensor, saved[key]) for key, tensor in first["parameters"].items())
    assert any(not torch.equal(tensor, first["start"][key]) for key, tensor in first["parameters"].items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whole", "resumed", "with a memory"])
def test_all_processes_end_with_equal_memories(name: str, two: Path) -> None:
    (first,), (second,) = (notes["memories"] for notes in left_by(two / "notes" / name))
    for key in ("embeddings", "labels"):
        assert torch.equal(first.pop(key), second.pop(key))
    assert first == second
    assert first["filled"] == first["size"]


@pytest.mark.slow
def test_two_processes_write_one_run_folder(host: Host, two: Path) -> None:
    folder = RunFolder(two / "whole")
    steps = [row["step"] for row in host.steps(folder.path)]
    assert steps == list(range(1, len(left_by(two / "notes" / "whole")[0]["batches"]) + 1))
    assert [row["epoch"] for row in host.evaluations(folder.path)] == [1, 2, 3]
    assert {"temperature", *host.of_classes, *host.columns["drsl"]} <= folder.rows()[0].keys()
    assert json.loads((folder.path / "environment.json").read_text())["processes"] == 2
    names = sorted(str(path.relative_to(folder.path)) for path in folder.path.rglob("*"))
    plain = [name.partition(".tfevents")[0] + ".tfevents" if ".tfevents" in name else name for name in names]
    plain = [name.partition("-")[0] if name.startswith("train.log") else name for name in plain]
    assert sorted({*plain, *host.perhaps}) == sorted(FILES[host.name])
    assert len(plain) == len(set(plain))
    assert host.log(folder.path).count(RESULTS[host.name]) == 3
    for path in folder.path.glob("log.txt.rank*"):
        assert RESULTS[host.name] not in path.read_text()


@pytest.mark.slow
def test_only_the_main_process_has_results(host: Host, two: Path) -> None:
    for name in ("whole", "evaluated"):
        first, second = (notes["mAP"] for notes in left_by(two / "notes" / name))
        assert host.evaluations(two / name)[-1]["mAP"] == first
        assert second is None


@pytest.mark.slow
def test_the_evaluation_of_a_training_is_of_what_it_saves(host: Host, two: Path) -> None:
    """All processes evaluate with the statistics that are saved, and none with its own."""
    trained, evaluated = (host.evaluations(two / name)[-1] for name in ("whole", "evaluated"))
    for name in ("mAP", "mINP", "rank1", "rank5", "rank10"):
        assert trained[name] == pytest.approx(evaluated[name]), name
    arrays = [np.load(host.features(two / name)) for name in ("whole", "evaluated")]
    assert arrays[0]["gallery_features"] == pytest.approx(arrays[1]["gallery_features"], abs=1e-5)


@pytest.mark.slow
def test_two_processes_evaluate_as_one_does(host: Host, two: Path, tmp_path: Path) -> None:
    host.train(tmp_path / "run", evaluate=host.checkpoint(two / "whole"), **usual(host))
    alone, together = (RunFolder(folder).rows()[-1] for folder in (tmp_path / "run", two / "evaluated"))
    assert numbers(together) == pytest.approx(numbers(alone))
    assert together.keys() == alone.keys()
    assert all(together[key] == alone[key] for key in together.keys() - numbers(alone).keys())
    arrays = [np.load(host.features(folder)) for folder in (tmp_path / "run", two / "evaluated")]
    for name in arrays[0].files:
        if name.endswith("_features"):
            assert arrays[1][name] == pytest.approx(arrays[0][name], abs=1e-5)
        else:
            assert arrays[1][name].tolist() == arrays[0][name].tolist()


# Going on


@pytest.mark.slow
def test_two_processes_resume_exactly(host: Host, two: Path) -> None:
    assert_equal_runs(host, two / "cut", two / "whole")
    for whole, resumed in zip(*(left_by(two / "notes" / name) for name in ("whole", "resumed")), strict=True):
        assert all(torch.equal(tensor, resumed["parameters"][key]) for key, tensor in whole["parameters"].items())
        count = len(resumed["batches"])
        assert 0 < count < len(whole["batches"])
        assert resumed["batches"] == whole["batches"][-count:]
        assert [state for _, state in resumed["seeds"]] == [state for _, state in whole["seeds"][-count:]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whole", "drsl alone"])
def test_one_process_goes_on_from_a_checkpoint_of_two(name: str, host: Host, two: Path, tmp_path: Path) -> None:
    checkpoint = host.checkpoint(two / name)
    settings = usual(host) if name == "whole" else exact(host, name)
    epochs = host.epoch(checkpoint) + 1
    words = host.words(tmp_path / "run", **{**settings, "epochs": epochs, "resume": checkpoint})
    do_alone(host, [Work(words, tmp_path / "notes")])
    (left,) = left_by(tmp_path / "notes")
    assert "end" not in left
    saved = host.parameters(checkpoint)
    assert all(torch.equal(tensor, saved[key]) for key, tensor in left["start"].items())
    assert host.evaluations(tmp_path / "run")[-1]["epoch"] == epochs


@pytest.mark.slow
def test_two_processes_go_on_from_a_checkpoint_of_one(host: Host, one: Path, two: Path) -> None:
    (alone,), together = left_by(one / "notes" / "drsl and classes"), left_by(two / "notes" / "from one")
    for each in together:
        assert "end" not in each
        assert_near(each["start"], alone["parameters"], 0)
    first, second = ({tuple(seeds) for seeds in notes["seeds"]} for notes in together)
    assert first.isdisjoint(second)
    assert [row["epoch"] for row in host.evaluations(two / "from one")] == [3]


@pytest.mark.slow
def test_an_interruption_says_in_the_main_process_how_to_go_on(host: Host, two: Path) -> None:
    first, second = (notes["end"] for notes in left_by(two / "notes" / "begun"))
    way = ("KeyboardInterrupt", f"; {host.way_on(host.checkpoint_of_epoch(two / 'cut', 1))}")
    assert first == way
    assert second == (("SystemExit", "130") if host.name == "torchreid" else way)  # Torchreid's was stopped alone
