"""Samples of data sets: without files that are no images, numbered anew, of types that batches can be made of."""

from __future__ import annotations

import numbers
from pathlib import Path

import pytest
from PIL import Image

from drsl_plugin.toolbox.samples import gaps, leave_out_unreadable, mixed_types, relabel, unfit_types


@pytest.fixture
def good(tmp_path: Path) -> str:
    Image.new("RGB", (2, 4)).save(tmp_path / "good.png")
    return str(tmp_path / "good.png")


@pytest.fixture
def bad(tmp_path: Path) -> str:
    (tmp_path / "bad.png").touch()
    return str(tmp_path / "bad.png")


def test_images_that_cannot_be_read_are_left_out(good: str, bad: str) -> None:
    told: list[str] = []
    samples = [(good, 3, 0, "more"), (bad, 3, 1, "more"), [bad, 4, 0], [good, 5, 0]]
    assert leave_out_unreadable(samples, told.append) == [samples[0], samples[3]]
    assert told == [f"left out: {bad}: cannot be read as an image (it is empty)"]  # once, though it is there twice


def test_a_tracklet_is_left_without_such_frames(good: str, bad: str) -> None:
    samples = [((good, bad, good), 3, 0, 1), ((bad,), 4, 0, 1), ([bad, good], 5, 0, 1)]
    kept = leave_out_unreadable(samples, lambda line: None)
    assert kept == [((good, good), 3, 0, 1), ([good], 5, 0, 1)]


def test_a_file_that_was_put_right_is_looked_at_again(bad: str) -> None:
    assert leave_out_unreadable([(bad, 1, 1)], lambda line: None) == []
    Image.new("RGB", (2, 4)).save(bad)
    assert leave_out_unreadable([(bad, 1, 1)], lambda line: None) == [(bad, 1, 1)]


def test_numbers_without_a_gap_in_the_order_of_the_old_ones() -> None:
    assert relabel([("a", 7, 0), ("b", 2, 1), ("c", 7, 2)]) == [("a", 1, 0), ("b", 0, 1), ("c", 1, 2)]


@pytest.mark.parametrize(("pids", "wrong"), [([0, 1, 2], False), ([2, 0, 1, 1], False), ([1, 2], True), ([0, 2], True)])
def test_gaps(pids: list[int], wrong: bool) -> None:
    found = list(gaps("--sources", "mine", [("a", pid, 0) for pid in pids]))
    assert bool(found) == wrong


def test_all_that_is_unfit_is_told_once() -> None:
    samples = [("a.jpg", "1", 0.5), ("b.jpg", "2", 0.5)]
    assert [str(error) for error in unfit_types("--targets", "mine", "queries", samples, numbers.Integral)] == [
        "--targets mine: identities of its queries must be int, got str '1' of a.jpg; number them in its class",
        "--targets mine: cameras of its queries must be int, got float 0.5 of a.jpg; number them in its class",
    ]


def test_numbers_of_several_kinds_are_one_type_and_text_is_another() -> None:
    assert not list(mixed_types("NAMES a, b", [("a", 1, 0), ("b", 1.5, True)]))
    (error,) = mixed_types("NAMES a, b", [("a.jpg", 1, 0), ("b.jpg", "b_1", 0)])
    assert str(error).startswith(
        "NAMES a, b: identities of the training images must be of one type, got int 1 of a.jpg and str 'b_1' of b.jpg"
    )
