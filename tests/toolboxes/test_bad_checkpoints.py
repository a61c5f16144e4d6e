"""Checkpoints that a run of either toolbox cannot go on from, and weights of another model: one line, no change."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from comparing import content
from hosts import Host


@pytest.fixture
def run(trained: Callable[..., Path], tmp_path: Path) -> Path:
    """The folder of a run of one epoch, a copy for the test."""
    return shutil.copytree(trained(), tmp_path / "run")


def cut(path: Path, host: Host) -> None:
    os.truncate(path, path.stat().st_size // 2)


def write_text(path: Path, host: Host) -> None:
    path.write_text("not a checkpoint", encoding="utf-8")


def keep_the_weights(path: Path, host: Host) -> None:
    torch.save(dict(host.parameters(path)), path)


def save_a_list(path: Path, host: Host) -> None:
    torch.save([torch.zeros(3)], path)


def leave(path: Path, host: Host) -> None:
    pass


SHAPES = "conv1.conv.weight has shape (16, 3, 7, 7) there and (32, 3, 7, 7) in the model"


@pytest.mark.parametrize(
    ("damage", "model", "expected"),
    [
        (leave, "larger", SHAPES),
        (cut, "smallest", "torch cannot read it"),
        (write_text, "smallest", "torch cannot read it"),
        (save_a_list, "smallest", "expected a dictionary of tensors, got list"),
        (keep_the_weights, "smallest", "no "),
    ],
)
def test_what_a_run_cannot_go_on_from(
    damage: Callable[[Path, Host], None], model: str, expected: str, host: Host, run: Path
) -> None:
    path = host.checkpoint(run)
    damage(path, host)
    before = content(run)
    error = host.refusal(run, resume=True, model=model, epochs=2)
    assert error.startswith(f"{host.key('resume')} {path}: ")
    assert expected in error
    assert content(run) == before


def test_all_epochs_are_done(host: Host, run: Path) -> None:
    before = content(run)
    error = host.refusal(run, resume=True)
    assert error.startswith(host.key("resume"))
    assert f" {host.key('epochs')} " in error
    assert "; a larger one trains on" in error
    assert content(run) == before


@pytest.mark.parametrize("evaluated", [True, False], ids=["evaluated", "trained on"])
@pytest.mark.parametrize(
    ("damage", "model", "expected"),
    [
        (leave, "larger", " of another model"),
        (cut, "smallest", "torch cannot read it"),
        (write_text, "smallest", "torch cannot read it"),
        (save_a_list, "smallest", "expected a dictionary of tensors, got list"),
    ],
)
def test_weights_that_cannot_be_taken(
    damage: Callable[[Path, Host], None], model: str, expected: str, evaluated: bool, host: Host, run: Path
) -> None:
    path = host.checkpoint(run)
    damage(path, host)
    before = content(run)
    error = host.refusal(run, model=model, **{"evaluate" if evaluated else "weights": path})
    assert f"{host.key('weights')} {path}: " in error
    assert expected in error
    assert content(run) == before
