"""Several processes of either toolbox, on the CPU, have the loss of the whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hosts import Host
from jobs import EXACT, EXACT_BATCH, IN_PIECES, numbers
from worlds import assert_near, left_by, moved

from drsl_plugin.runs.folder import RunFolder


def assert_near_rows(host: Host, rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """The first step's row is as near as its loss; what comes later has the rounding of the steps before."""
    tolerance = 1e-5
    for found, row in zip(rows, expected, strict=True):
        assert found.get("target") == row.get("target")
        for key in numbers(row).keys() - host.of_first_process:
            assert found[key] == pytest.approx(row[key], rel=tolerance, abs=tolerance / 100), key
        tolerance = 1e-4


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
