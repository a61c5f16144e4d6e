"""Weights that a run of Torchreid cannot take."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from comparing import content
from hosts import Torchreid


@pytest.fixture
def run(trained: Callable[..., Path], tmp_path: Path) -> Path:
    """The folder of a run of one epoch, a copy for the test."""
    return shutil.copytree(trained(), tmp_path / "trained")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "run"


def weights_of_another_shape(run: Path) -> dict[str, object]:
    return {"model.name": "osnet_x0_5", "model.load_weights": run / "model" / "model.pth.tar-1"}


def weights_only(run: Path) -> dict[str, object]:
    checkpoint = torch.load(run / "model" / "model.pth.tar-1", weights_only=False)
    path = run.parent / "weights.pth"
    torch.save(checkpoint["state_dict"], path)
    return {"model.resume": path}


def weights_of_nothing(run: Path) -> dict[str, object]:
    path = run.parent / "strange.pth"
    torch.save({"layer": torch.zeros(3)}, path)
    return {"model.load_weights": path}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (weights_only, ("no epoch and no optimizer in it", "model.load_weights starts from its weights")),
        (weights_of_nothing, ("weights of another model, 0 of the ",)),
        (weights_of_another_shape, ("weights of another model", "tensors of OSNet are in it with their shape")),
    ],
)
def test_bad_weights_leave_the_run_as_it_was(
    changes: Callable[[Path], dict[str, object]],
    expected: tuple[str, ...],
    run: Path,
    host: Torchreid,
) -> None:
    before = content(run)
    settings = changes(run)
    message = host.refusal(run, **settings)
    key = next(name for name in settings if name != "model.name")
    assert message.startswith(f"{key} {settings[key]}: ")
    assert [words for words in expected if words not in message] == []
    assert content(run) == before


def test_nan_in_the_weights(run: Path, output: Path, host: Torchreid) -> None:
    checkpoint = torch.load(run / "model" / "model.pth.tar-1", weights_only=False)
    checkpoint["state_dict"]["conv1.conv.weight"].fill_(torch.nan)
    poisoned = run.parent / "poisoned.pth"
    torch.save(checkpoint, poisoned)
    message = host.refusal(output, **{"model.load_weights": poisoned})
    assert message.startswith("epoch 1, step 1: NaN or infinity in the embeddings (loss_drsl nan")
    assert not list(output.rglob("*.pth.tar*"))


def test_an_evaluation_of_random_weights(run: Path, host: Torchreid) -> None:
    before = content(run)
    message = host.refusal(run, **{"test.evaluate": True})
    assert message == "test.evaluate True: of random weights; name a file with model.load_weights"
    assert content(run) == before
