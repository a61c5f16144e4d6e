"""Checkpoints of FastReID that are wrong, and resumed runs and evaluations that cannot be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from comparing import content
from hosts import FastReID


@pytest.fixture
def run(trained: Callable[..., Path], tmp_path: Path) -> Path:
    """The folder of a run of one epoch, a copy for the test."""
    return shutil.copytree(trained(), tmp_path / "trained")


def in_the_way(run: Path) -> dict[str, object]:
    return {"MODEL.BACKBONE.DEPTH": "x0_5", "MODEL.BACKBONE.FEAT_DIM": 256}


def weights_alone(run: Path) -> dict[str, object]:
    for path in run.glob("*.pth"):
        torch.save(torch.load(path, weights_only=False)["model"], path)
    return {}


def weights_of_nothing(run: Path) -> dict[str, object]:
    for path in run.glob("*.pth"):
        states = torch.load(path, weights_only=False)
        torch.save({**states, "model": {"layer": torch.zeros(3)}}, path)
    return {}


@pytest.mark.parametrize("use", ["--resume", "--eval-only MODEL.WEIGHTS", "MODEL.WEIGHTS"])
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (in_the_way, ("another model", "has shape (16, 3, 7, 7) there and (32, 3, 7, 7) in the model")),
        (weights_alone, ("no `model` in it, so it is no checkpoint of FastReID",)),
        (weights_of_nothing, ("another model", "is missing")),
    ],
    ids=lambda value: getattr(value, "__name__", "-"),
)
def test_bad_checkpoints_leave_the_run_as_it_was(
    use: str,
    damage: Callable[[Path], dict[str, object]],
    expected: tuple[str, ...],
    run: Path,
    host: FastReID,
) -> None:
    settings = {"SOLVER.MAX_EPOCH": 2, **damage(run)}
    if use != "--resume":
        settings["MODEL.WEIGHTS"] = run / "model_final.pth"
    before = content(run)
    switches = [word for word in use.split() if word.startswith("--")]
    message = host.command(host.name, *switches, *host.options(run, **settings)).error
    assert message.startswith(f"{use} {run / 'model_final.pth'}: ")
    assert [words for words in expected if words not in message] == []
    assert content(run) == before


def test_resume_leaves_the_configuration_of_a_run_that_fastreid_made(run: Path, host: FastReID) -> None:
    (run / "metrics.jsonl").unlink()
    before = content(run)
    options = host.options(run, **{"SOLVER.MAX_EPOCH": 2, **in_the_way(run)})
    assert host.command(host.name, "--resume", *options).error
    assert content(run) == before


@pytest.mark.skipif(
    not issubclass(torch.optim.AdamW, torch.optim.Adam), reason="this torch tells them apart by their class"
)
def test_an_optimizer_whose_class_is_of_the_same_kind_does_not_go_on(run: Path, host: FastReID) -> None:
    before = content(run)
    error = host.refusal(run, resume=True, epochs=4, optimizer="AdamW")
    assert error.startswith("--resume")
    assert "the state of another SOLVER.OPT than AdamW" in error
    assert content(run) == before


@pytest.mark.parametrize("missing", ["optimizer", "epoch"])
def test_resume_from_weights_without_a_state(missing: str, run: Path, host: FastReID) -> None:
    states = torch.load(run / "model_final.pth", weights_only=False)
    del states[missing]
    torch.save(states, run / "model_final.pth")
    message = host.command(host.name, "--resume", *host.options(run, **{"SOLVER.MAX_EPOCH": 2})).error
    assert f"no {missing} in it, so training cannot go on from it" in message


@pytest.mark.parametrize("there", [True, False], ids=["an empty folder", "no folder"])
def test_resume_without_a_checkpoint(there: bool, unread: None, output: Path, host: FastReID) -> None:
    if there:
        output.mkdir(parents=True)
    message = host.command(host.name, "--resume", *host.options(output)).error
    assert message.startswith(f"--resume: OUTPUT_DIR {output} has no checkpoint to go on from")
    assert list(output.parent.rglob("*")) == ([output] if there else [])


def test_resume_from_a_checkpoint_that_is_gone(run: Path, unread: None, host: FastReID) -> None:
    (run / "model_final.pth").unlink()
    before = content(run)
    message = host.command(host.name, "--resume", *host.options(run, **{"SOLVER.MAX_EPOCH": 2})).error
    assert message.startswith("--resume: ")
    assert "model_final.pth, which is not there" in message
    assert content(run) == before


def test_an_evaluation_resumes_nothing(run: Path, unread: None, host: FastReID) -> None:
    options = host.options(run, **{"MODEL.WEIGHTS": run / "model_final.pth"})
    assert host.command(host.name, "--resume", "--eval-only", *options).error.startswith("--resume --eval-only: ")


def test_an_evaluation_of_random_weights(run: Path, unread: None, host: FastReID) -> None:
    before = content(run)
    message = host.command(host.name, "--eval-only", *host.options(run)).error
    assert message == "--eval-only: of random weights; name a checkpoint with MODEL.WEIGHTS"
    assert content(run) == before


def test_an_evaluation_needs_no_settings_of_training(run: Path, host: FastReID) -> None:
    training = {"SOLVER.IMS_PER_BATCH": 9, "DATALOADER.NUM_INSTANCE": 1, "DATASETS.NAMES": '("MSMT17",)'}
    options = host.options(run, **training, **{"MODEL.WEIGHTS": run / "model_final.pth"})
    assert host.command(host.name, "--eval-only", *options).code == 0
