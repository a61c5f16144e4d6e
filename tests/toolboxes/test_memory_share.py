"""``memory_share`` in each toolbox: the size that comes of it, from the configuration to the checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comparing import unequal
from hosts import Host
from scripts import fastreid_left_as_it_was, write_script
from tiny import tiny
from watching import Call
from worlds import Work, do_in_world, left_by

IMAGES = 32
"""To train on, in the rendered data set."""


def memory_of(host: Host, folder: Path) -> dict[str, Any]:
    (memory,) = next(iter(host.checkpoints(folder).values()))["drsl_memory"]
    return dict(memory)


@pytest.mark.parametrize(("share", "size"), [(0.5, 16), (1.0, 32), (0.64, 20), (0.01, 8)])
def test_the_size_is_a_share_of_the_images_and_never_below_a_batch(
    host: Host, trained: Callable[..., Path], share: float, size: int
) -> None:
    folder = trained(**tiny(host), memory_share=share)
    assert memory_of(host, folder)["size"] == size
    line = f"{host.key('memory_share')} {share} of {IMAGES} training images: a memory of {size} embeddings"
    assert host.log(folder).count(line) == 1


def test_it_is_the_memory_of_that_size(host: Host, trained: Callable[..., Path]) -> None:
    """With a warm-up, and filled where asked."""
    options = {**tiny(host), "memory_warmup": 2, "memory_fill": "fresh"}
    shared, sized = trained(**options, memory_share=0.64), trained(**options, memory_size=20)
    assert host.steps(shared) == host.steps(sized)
    assert unequal(memory_of(host, shared), memory_of(host, sized)) == []


def test_the_memory_takes_part(host: Host, tmp_path: Path, seen: list[Call]) -> None:
    host.train(tmp_path / "run", **tiny(host), memory_share=0.5, memory_warmup=1, memory_fill="stored")
    assert [call.kept for call in seen] == [0, 8, *[16] * (len(seen) - 2)]


def test_a_run_goes_on(host: Host, trained: Callable[..., Path], tmp_path: Path) -> None:
    whole = trained(**tiny(host), memory_share=0.64, epochs=2)
    shutil.copytree(trained(**tiny(host), memory_share=0.64), tmp_path / "run")
    host.train(tmp_path / "run", **tiny(host), memory_share=0.64, epochs=2, resume=True)
    assert host.steps(tmp_path / "run") == host.steps(whole)


def test_a_memory_of_another_size_is_one_line(host: Host, trained: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(trained(**tiny(host), memory_share=0.64), tmp_path / "run")
    error = host.refusal(folder, **tiny(host), memory_share=0.5, epochs=2, resume=True)
    place, key = f"{host.key('resume')} {host.checkpoint(folder)}", host.key("memory_share")
    assert error == (
        f"{place}: {key} 0.5: gives a memory of 16 embeddings here, and the saved one has 20; memory_share 0 with "
        "memory_size 20 goes on with that"
    )
    host.train(folder, **tiny(host), memory_size=20, epochs=2, resume=True)


def test_a_checkpoint_without_a_memory_starts_it_empty_and_says_so(
    host: Host, trained: Callable[..., Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(trained(**tiny(host)), tmp_path / "run")
    host.train(folder, **tiny(host), memory_share=0.5, epochs=2, resume=True)
    (line,) = [line for line in host.log(folder).splitlines() if "holds no memory of embeddings" in line]
    assert line.endswith(f"that of {host.key('memory_share')} 0.5 starts empty")


def test_an_evaluation_needs_no_memory(host: Host, trained: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = host.checkpoint(trained(**tiny(host)))
    host.train(tmp_path / "run", **tiny(host), memory_share=0.5, evaluate=checkpoint)


def test_an_unmodified_script_has_it_too(host: Host, tmp_path: Path, trained: Callable[..., Path]) -> None:
    words = write_script(host, tmp_path)
    if host.name == "fastreid":
        with fastreid_left_as_it_was():
            ended = host.command("run", *words, *host.words(tmp_path / "run", **tiny(host), memory_share=0.5))
    else:
        ended = host.command("run", *words, *host.words(tmp_path / "run", **tiny(host), memory_share=0.5))
    assert (ended.code, ended.lines) == (0, [])
    assert memory_of(host, tmp_path / "run")["size"] == 16


@pytest.mark.slow
def test_two_processes_have_the_memory_of_one(host: Host, tmp_path: Path) -> None:
    """Of a share of all images, and, where that is less, of the batch of both."""
    options = {**tiny(host), "batch": 16}
    works = [
        Work(host.words(tmp_path / str(share), **options, memory_share=share), tmp_path / "notes" / str(share))
        for share in (0.75, 0.3)
    ]
    do_in_world(host, works, 2)
    for share, size in ((0.75, 24), (0.3, 16)):
        notes = left_by(tmp_path / "notes" / str(share))
        assert len(notes) == 2
        assert [each["memories"][0]["size"] for each in notes] == [size, size]


# Bad input


@pytest.mark.parametrize(
    ("changes", "named", "rest"),
    [
        ({"memory_share": 1.5}, "memory_share", "must be a number from 0 to 1, got 1.5"),
        (
            {"memory_share": 0.5, "memory_size": 64},
            "memory_share",
            "must be 0 where memory_size is 64, which gives the size too, got 0.5",
        ),
        (
            {"memory_warmup": 3},
            "memory_warmup",
            "must be 0 where memory_size and memory_share are 0, for there is no memory, got 3",
        ),
    ],
)
def test_bad_settings_are_one_line(host: Host, changes: dict[str, Any], named: str, rest: str, tmp_path: Path) -> None:
    assert host.refusal(tmp_path / "run", **changes) == f"{host.key(named)} {rest}"
    assert not (tmp_path / "run").exists()
