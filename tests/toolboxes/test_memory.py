"""The memory of earlier embeddings reaches the loss of each toolbox, is saved, and goes on exactly."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import assert_equal_runs
from hosts import Host, interrupted
from tiny import tiny
from watching import Call

from drsl_plugin.runs.checkpoint_files import load

BATCH = 8
MEMORY = {"memory_size": 20, "memory_warmup": 2, "memory_fill": "stored"}
COSINE = {"temperature": 0.2, "temperature_schedule": "cosine", "temperature_end": 0.02}


def saved(host: Host, folder: Path) -> dict[str, Any]:
    return load(host.checkpoint(folder), "")


@pytest.fixture
def read(host: Host, trained: Callable[..., Path]) -> dict[str, Path]:
    """The folders of runs with a memory and without, for tests that read them."""
    return {"with": trained(**tiny(host), **MEMORY), "without": trained(**tiny(host))}


@pytest.fixture
def copied(read: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Copies of them, for tests that go on from there."""
    return {name: shutil.copytree(path, tmp_path / name) for name, path in read.items()}


# Layers that are frozen at first


@pytest.mark.parametrize("fill", ["stored", "fresh"])
def test_it_waits_while_layers_are_frozen(host: Host, tmp_path: Path, seen: list[Call], fill: str) -> None:
    with_memory = {"memory_size": 20, "memory_fill": fill, "memory_warmup": 1}
    host.train(tmp_path, **tiny(host, batch_norm=True), **with_memory, **host.frozen, epochs=3)
    frozen = 3 if host.name == "fastreid" else len([row for row in host.steps(tmp_path) if row["epoch"] == 1])
    assert frozen > 1
    assert [call.kept for call in seen][: frozen + 3] == [0] * (frozen + 1) + (
        [8, 16] if fill == "stored" else [20] * 2
    )
    (memory,) = saved(host, tmp_path)["drsl_memory"]
    assert memory["batches"] == len(seen) - frozen


# A resumed run


def test_a_resumed_run_equals_an_uninterrupted_one(host: Host, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = {**tiny(host), **MEMORY, **COSINE, "epochs": 3}
    host.train(whole, **options)
    in_epoch_1 = len([row for row in host.steps(whole) if row["epoch"] == 1])
    with interrupted(in_epoch_1 + 2):  # the memory is then ahead of the checkpoint
        assert host.run(cut, **options).code == 130
    torch.rand(7)
    host.train(cut, **options, resume=True)
    assert_equal_runs(host, cut, whole)
    (memory,) = saved(host, cut)["drsl_memory"]
    taken = len(host.steps(whole))
    assert (memory["filled"], memory["batches"], memory["position"]) == (20, taken, BATCH * taken % 20)
    assert memory["embeddings"].abs().sum() > 0


def test_a_checkpoint_without_a_memory_starts_it_empty_and_says_so(
    host: Host, copied: dict[str, Path], seen: list[Call]
) -> None:
    folder = copied["without"]
    before = host.checkpoint(folder)
    host.train(folder, **tiny(host), **MEMORY, epochs=2, resume=True)
    (line,) = [line for line in host.log(folder).splitlines() if "holds no memory of embeddings" in line]
    assert str(before) in line
    assert line.endswith(f"that of {host.key('memory_size')} 20 starts empty")
    assert [call.kept for call in seen] == [0, 0, *[16, *[20] * 9][: len(seen) - 2]]


def test_a_memory_that_a_run_has_no_use_for_is_left_aside(
    host: Host, copied: dict[str, Path], seen: list[Call]
) -> None:
    folder = copied["with"]
    host.train(folder, **tiny(host), epochs=2, resume=True)
    assert "holds a memory of embeddings, which this run leaves aside: it has none" in host.log(folder)
    assert {call.kept for call in seen} == {0}
    assert "drsl_memory" not in saved(host, folder)


def test_a_memory_of_another_size_is_one_line(host: Host, copied: dict[str, Path]) -> None:
    folder = copied["with"]
    before = sorted(folder.rglob("*"))
    error = host.refusal(folder, **tiny(host), memory_size=24, epochs=2, resume=True)
    place = f"{host.key('resume')} {host.checkpoint(folder)}"
    assert error == f"{place}: {host.key('memory_size')} must be 20, that of the saved memory, got 24"
    assert sorted(folder.rglob("*")) == before


def test_an_evaluation_needs_no_memory(host: Host, read: dict[str, Path], tmp_path: Path, seen: list[Call]) -> None:
    host.train(tmp_path / "run", **tiny(host), memory_size=24, evaluate=host.checkpoint(read["with"]))
    assert seen == []


def test_a_new_run_on_the_weights_of_one_with_a_memory_starts_it_empty(
    host: Host, read: dict[str, Path], tmp_path: Path, seen: list[Call]
) -> None:
    host.train(
        tmp_path / "run", **tiny(host), memory_size=24, memory_fill="stored", weights=host.checkpoint(read["with"])
    )
    assert [call.kept for call in seen] == [0, 8, 16, 24][: len(seen)]
    assert len(seen) == len(host.steps(tmp_path / "run")) >= 3


def test_another_loss_goes_on_from_a_checkpoint_with_a_memory(host: Host, copied: dict[str, Path]) -> None:
    folder = copied["with"]
    host.train(folder, **tiny(host), losses="triplet", epochs=2, resume=True)
    last = host.steps(folder)[-1]
    assert last["epoch"] == 2
    assert host.triplet in last


def test_the_weights_are_those_of_a_model_without(host: Host, read: dict[str, Path]) -> None:
    states = {name: saved(host, path) for name, path in read.items()}
    weights = {name: host.parameters(host.checkpoint(path)) for name, path in read.items()}
    assert weights["with"].keys() == weights["without"].keys()
    assert set(states["with"]) - set(states["without"]) == {"drsl_memory"}


# It reaches the loss


def test_the_memory_takes_part_after_its_warmup(host: Host, tmp_path: Path, seen: list[Call]) -> None:
    host.train(tmp_path / "with", **tiny(host), **MEMORY, epochs=2)
    assert len(seen) >= 5
    assert [call.kept for call in seen] == [0, 0, 16, *[20] * (len(seen) - 3)]
    host.train(tmp_path / "without", **tiny(host), epochs=2)
    rows = [host.steps(tmp_path / name) for name in ("with", "without")]
    same = [one == other for one, other in zip(*rows, strict=True)]
    assert same[:2] == [True, True]
    assert not any(same[2:])


def test_a_memory_that_just_holds_a_batch_is_enough(host: Host, tmp_path: Path) -> None:
    host.train(tmp_path / "run", **tiny(host), memory_size=BATCH)
    (memory,) = saved(host, tmp_path / "run")["drsl_memory"]
    assert (memory["filled"], memory["position"]) == (BATCH, 0)


# Bad input


@pytest.mark.parametrize(
    ("changes", "named", "rest"),
    [
        ({"memory_size": -1}, "memory_size", "must be a whole number, 0 or above, got -1"),
        ({"memory_size": 64, "memory_warmup": -2}, "memory_warmup", "must be a whole number, 0 or above, got -2"),
    ],
)
def test_bad_settings_are_one_line(host: Host, changes: dict[str, Any], named: str, rest: str, tmp_path: Path) -> None:
    assert host.refusal(tmp_path / "run", **changes) == f"{host.key(named)} {rest}"
    assert not (tmp_path / "run").exists()


def test_a_memory_smaller_than_a_batch_is_one_line(host: Host, tmp_path: Path) -> None:
    error = host.refusal(tmp_path / "run", memory_size=7)
    assert error.startswith(f"{host.key('memory_size')} 7: smaller than a batch")
    assert error.endswith("8 or more, or 0 for no memory")
    assert "8 images" in error
    assert host.key("batch") in error
    assert not (tmp_path / "run").exists()
