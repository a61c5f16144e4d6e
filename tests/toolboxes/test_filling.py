"""``memory_fill fresh`` in each toolbox: what the memory then holds, and that the training goes on as without it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import assert_equal_runs, unequal
from filling import Fillings, watch_fillings
from hosts import Host, interrupted
from scripts import fastreid_left_as_it_was, write_script
from tiny import tiny
from torch import Tensor
from watching import Call
from worlds import Work, do_in_world, left_by

from drsl_plugin.losses import EmbeddingMemory

FRESH = {"memory_size": 20, "memory_warmup": 2, "memory_fill": "fresh"}
IMAGES = 32
"""To train on, in the rendered data set."""


@pytest.fixture
def fillings(host: Host) -> Iterator[Fillings]:
    """The fillings of the runs of a test."""
    with watch_fillings(host) as found:
        yield found


# What it holds


@pytest.mark.parametrize("changes", [{}, {"sub_batch": 4}, {"images": "flipped"}, {"workers": 1}], ids=str)
def test_it_holds_the_embeddings_of_training_mode(
    host: Host, tmp_path: Path, fillings: Fillings, changes: dict[str, Any]
) -> None:
    host.train(tmp_path / "run", **{**tiny(host, batch_norm=True), **FRESH, **changes})
    (filling,) = fillings
    assert filling.sizes == ([4] * 6 if "sub_batch" in changes else [8] * 3)
    (memory,) = filling.memories
    torch.testing.assert_close(memory["embeddings"], filling.expected[:20], rtol=1e-5, atol=1e-6)
    assert memory["embeddings"].std() > 0
    assert (memory["filled"], memory["position"], memory["batches"]) == (20, 0, 2)
    labels = memory["labels"].tolist()
    assert all(labels.count(label) >= 2 for label in set(labels))  # whole identities, by the training's sampler
    assert filling.changed == []


def test_it_is_told_in_a_line(host: Host, tmp_path: Path) -> None:
    host.train(tmp_path / "run", **tiny(host), **FRESH)
    assert host.log(tmp_path / "run").count("Memory filled with the embeddings of 20 training images") == 1


def test_the_memory_takes_part_whole(host: Host, tmp_path: Path, seen: list[Call], fillings: Fillings) -> None:
    host.train(tmp_path / "run", **tiny(host), **FRESH, epochs=2)
    assert [call.kept for call in seen] == [0, 0, *[20] * (len(seen) - 2)]
    assert len(seen) >= 5
    assert len(fillings) == 1


def test_as_many_rows_as_there_are_images(host: Host, tmp_path: Path, fillings: Fillings) -> None:
    host.train(tmp_path / "run", **tiny(host), memory_size=IMAGES, memory_fill="fresh")
    assert [filling.memories[0]["filled"] for filling in fillings] == [IMAGES]


def test_an_unmodified_script_fills_too(host: Host, tmp_path: Path) -> None:
    words = write_script(host, tmp_path)
    with fastreid_left_as_it_was() if host.name == "fastreid" else watch_fillings(host):
        ended = host.command("run", *words, *host.words(tmp_path / "run", **tiny(host), **FRESH))
    assert (ended.code, ended.lines) == (0, [])
    (memory,) = next(iter(host.checkpoints(tmp_path / "run").values()))["drsl_memory"]
    assert memory["filled"] == 20


# Nothing else is another one


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("images", ["flipped", "patched"])
def test_the_training_goes_on_as_without_it(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fillings: Fillings, images: str, workers: int
) -> None:
    """Its images, its order, and, where the memory is not looked at, all that comes of it."""
    monkeypatch.setattr(EmbeddingMemory, "entries", lambda self: None)
    make = host.random_patch.__init__
    monkeypatch.setattr(host.random_patch, "__init__", lambda self, **kw: make(self, **{**kw, "min_sample_size": 2}))
    trained_on: dict[str, list[Tensor]] = {"stored": [], "fresh": []}
    for fill, noted in trained_on.items():

        def note(batch: Tensor, noted: list[Tensor] = noted) -> Tensor:
            if not fillings.is_going_on:
                noted.append(batch.clone())
            return batch

        with monkeypatch.context() as patch:
            host.alter_images(patch, note)
            options = {
                **tiny(host, batch_norm=True),
                **FRESH,
                "memory_warmup": 1,
                "memory_fill": fill,
                "images": images,
            }
            host.train(tmp_path / fill, **options, epochs=3, workers=workers)
    assert len(fillings) == 1
    assert len(trained_on["stored"]) >= 7
    assert list(map(same, *trained_on.values())) == [True] * len(trained_on["stored"])
    assert host.steps(tmp_path / "fresh") == host.steps(tmp_path / "stored")
    stored, fresh = (host.checkpoints(tmp_path / name) for name in ("stored", "fresh"))
    for name, state in stored.items():
        differing = set(unequal(state, fresh[name])) - host.of_this_process
        assert all(at.startswith("/drsl_memory") for at in differing)


def same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other)


@pytest.mark.parametrize("behind", [-2, 0, 1])
def test_a_resumed_run_equals_an_uninterrupted_one(host: Host, tmp_path: Path, fillings: Fillings, behind: int) -> None:
    """Resumed after the filling, right before it, and some steps before it."""
    in_epoch_1 = len(host.steps(trained_once(host, tmp_path)))
    options = {**tiny(host, batch_norm=True), **FRESH, "memory_warmup": in_epoch_1 + behind, "epochs": 3}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    host.train(whole, **options)
    assert len(fillings) == 1
    with interrupted(in_epoch_1 + 2):
        assert host.run(cut, **options).code == 130
    assert len(fillings) == 2
    torch.rand(7)
    host.train(cut, **options, resume=True)
    assert len(fillings) == (2 if behind < 0 else 3)
    assert_equal_runs(host, cut, whole)


def trained_once(host: Host, tmp_path: Path) -> Path:
    host.train(tmp_path / "once", **tiny(host, batch_norm=True))
    return tmp_path / "once"


def test_a_run_that_is_resumed_without_a_memory_fills_it(
    host: Host, trained: Callable[..., Path], tmp_path: Path, fillings: Fillings
) -> None:
    folder = shutil.copytree(trained(**tiny(host)), tmp_path / "run")
    host.train(folder, **tiny(host), **FRESH, epochs=2, resume=True)
    assert len(fillings) == 1


# Several processes


@pytest.mark.slow
def test_two_processes_fill_together(host: Host, tmp_path: Path) -> None:
    names = ("stored", "fresh")
    options = {**tiny(host, batch_norm=True), "batch": 16, "epochs": 2, "memory_size": 24, "memory_warmup": 1}
    works = [
        Work(host.words(tmp_path / name, **options, memory_fill=name), tmp_path / "notes" / name) for name in names
    ]
    do_in_world(host, works, 2)
    stored, fresh = (left_by(tmp_path / "notes" / name) for name in names)
    assert len(fresh) == 2
    for before, each in zip(stored, fresh, strict=True):
        assert "end" not in each
        assert each["batches"][:1] + each["batches"][3:] == before["batches"]
        assert each["batches"][1:3] != before["batches"][1:3]
    first, second = (each["memories"][0] for each in fresh)
    assert unequal(first, second) == []
    assert (first["filled"], first["batches"]) == (24, len(stored[0]["batches"]))


# Bad input


def test_an_unknown_filling_is_one_line(host: Host, tmp_path: Path) -> None:
    error = host.refusal(tmp_path / "run", memory_size=20, memory_fill="first")
    assert error == f"{host.key('memory_fill')} must be one of 'fresh', 'stored', got 'first'"


def test_more_room_than_images_is_one_line(host: Host, tmp_path: Path) -> None:
    error = host.refusal(tmp_path / "run", **tiny(host), memory_size=IMAGES + 1, memory_fill="fresh")
    line = f"{host.key('memory_size')} 33: there are 32 training images to fill it with (memory_fill fresh); 32 at most"
    assert error == f"{line} would do"
    assert not (tmp_path / "run").exists()


def test_an_evaluation_needs_no_images(host: Host, trained: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = host.checkpoint(trained(**tiny(host)))
    host.train(tmp_path / "run", **tiny(host), memory_size=99, memory_fill="fresh", evaluate=checkpoint)
