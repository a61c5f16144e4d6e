"""Several processes of either toolbox, on the CPU: one run folder, and runs that go on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from comparing import assert_equal_runs
from hosts import Host
from jobs import EXACT, exact, numbers, usual
from worlds import Work, assert_near, do_alone, left_by

from drsl_plugin.runs.folder import RunFolder

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
