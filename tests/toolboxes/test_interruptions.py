"""What stops a run of either toolbox in its middle: one line, and the checkpoints stay as they were."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hosts import Host, interrupted
from torch import Tensor


@pytest.fixture(scope="module")
def steps(host: Host, trained: Callable[..., Path]) -> int:
    """How many steps the first epoch has."""
    return len(host.steps(trained()))


def at_step(step: int, change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return what changes the images of one step, counted from 1, and of no other."""
    seen = 0

    def changed(images: Tensor) -> Tensor:
        nonlocal seen
        seen += 1
        return change(images) if seen == step else images

    return changed


def interrupt(images: Tensor) -> Tensor:
    raise KeyboardInterrupt


def files_of_checkpoints(host: Host, folder: Path) -> dict[str, bytes]:
    places = (path for pattern in ("*.pth*", "last_checkpoint") for path in folder.rglob(pattern))
    return {str(path.relative_to(folder)): path.read_bytes() for path in places}


@pytest.mark.parametrize(("losses", "every"), [("drsl", 1), ("drsl alone", 5), ("triplet", 5), ("classes", 1)])
def test_nan_names_the_step_and_leaves_the_checkpoints(
    losses: str, every: int, host: Host, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, saved = tmp_path / "run", []

    def poison(images: Tensor) -> Tensor:
        saved.append(files_of_checkpoints(host, folder))
        return images * torch.nan

    host.alter_images(monkeypatch, at_step(steps + 2, poison))
    error = host.refusal(folder, losses=losses, epochs=2, eval_every=every)
    assert error.startswith(f"epoch 2, step {host.told_step(steps, 2)}: ")
    assert "nan" in error.lower()
    assert [name for name in host.blamed[losses] if not re.search(rf"\b{name}\b", error)] == []
    assert saved == [files_of_checkpoints(host, folder)]
    assert host.epoch(host.checkpoint(folder)) == 1
    assert [row["step"] for row in host.steps(folder)] == list(range(1, steps + 2))
    assert [row["epoch"] for row in host.evaluations(folder)] == ([1] if every == 1 else [])
    assert "Traceback" not in host.log(folder)


@pytest.mark.parametrize(
    ("every", "epoch", "step"), [(1, 2, 2), (5, 2, 1), (5, 2, 2), (5, 1, 2)], ids=lambda value: str(value)
)
def test_interruption_is_one_line(
    every: int, epoch: int, step: int, host: Host, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    host.alter_images(monkeypatch, at_step((epoch - 1) * steps + step, interrupt))
    ended = host.run(folder, epochs=2, eval_every=every)
    told = host.way_on(host.checkpoint(folder, 1)) if epoch == 2 else "no checkpoint yet"
    assert (ended.code, ended.lines) == (130, [f"drsl: interrupted; {told}"])
    assert "Traceback" not in ended.output
    assert len(list(folder.rglob("*.pth*"))) == (0 if epoch == 1 else 2 if every == 1 else 1)
    assert len(host.evaluations(folder)) == (1 if every == 1 else 0)


def test_a_resumed_run_that_is_interrupted_at_once_names_the_checkpoint_that_it_went_on_from(
    host: Host, trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(trained(), tmp_path / "run")
    checkpoint = host.checkpoint(folder)
    host.alter_images(monkeypatch, interrupt)
    ended = host.run(folder, epochs=2, resume=True)
    assert (ended.code, ended.lines) == (130, [f"drsl: interrupted; {host.way_on(checkpoint)}"])


def test_a_resumed_run_takes_no_step_again(
    host: Host, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, taken = tmp_path / "run", []
    with interrupted(steps + 2):
        assert host.run(folder, epochs=2).code == 130
    host.alter_images(monkeypatch, lambda images: taken.append(1) or images)
    host.train(folder, epochs=2, resume=True)
    assert host.epoch(host.checkpoint(folder)) == 2
    rows = host.steps(folder)
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(taken) == len(rows) - steps > 0


@pytest.mark.parametrize("reason", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_checkpoint_that_cannot_be_finished(
    reason: BaseException, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, save, epochs = tmp_path / "run", torch.save, []

    def save_half(states: dict[str, Any], file: Path) -> None:
        save(states, file)
        epochs.append(states["epoch"])
        if states["epoch"] > epochs[0]:
            os.truncate(file, file.stat().st_size // 2)
            raise reason

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save_half)
        with pytest.raises(OSError, match="No space") if isinstance(reason, OSError) else contextlib.nullcontext():
            assert host.run(folder, epochs=2, eval_every=1).code == 130
    assert host.checkpoint(folder) == host.checkpoint(folder, 1)
    assert {path.name for path in folder.rglob("*.pth*")} == {host.checkpoint(folder).name, host.best(folder).name}
    assert {host.epoch(path) for path in folder.rglob("*.pth*")} == {1}
