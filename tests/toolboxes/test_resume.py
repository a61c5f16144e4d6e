"""A run of either toolbox that stopped and went on equals one that never stopped, bit for bit."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparing import assert_equal_runs, content, unequal
from hosts import Host, interrupted

from drsl_plugin.runs.folder import RunFolder

RESUMED: dict[str, dict[str, Any]] = {
    "plain": {"epochs": 3},
    "loader workers": {"epochs": 2, "workers": 2, "images": "flipped"},
    "sub-batches": {"epochs": 2, "sub_batch": 4},
    "triplet": {"epochs": 2, "losses": "triplet", "eval_every": 1},
    "evaluated every second epoch": {"epochs": 3, "eval_every": 2},
    "augmented": {"epochs": 3, "images": "augmented"},
    "patches": {"epochs": 2, "images": "patched"},
}


@pytest.fixture(autouse=True)
def patches_from_the_first_images(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let random patches be pasted from the fourth image on, as from the hundredth in a set of real size."""
    create = host.random_patch.__init__
    monkeypatch.setattr(host.random_patch, "__init__", lambda self, **kwargs: create(self, min_sample_size=4, **kwargs))


def spend_random_numbers() -> None:
    torch.rand(7)
    np.random.rand(7)
    random.random()


@pytest.mark.parametrize("options", RESUMED.values(), ids=RESUMED)
def test_a_resumed_run_equals_an_uninterrupted_one(
    options: dict[str, Any], host: Host, trained: Callable[..., Path], tmp_path: Path
) -> None:
    whole, cut = trained(**options), tmp_path / "cut"
    with interrupted(len([row for row in host.steps(whole) if row["epoch"] == 1]) + 1):
        assert host.run(cut, **options).code == 130
    assert host.checkpoint(cut) == host.checkpoint(cut, 1)
    spend_random_numbers()
    host.train(cut, **options, resume=True)
    assert_equal_runs(host, cut, whole)


SCORES = (0.6, 0.2, 0.4)


@pytest.fixture(scope="module")
def scored(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose first epoch was the best."""
    folder = tmp_path_factory.mktemp("scored") / "run"
    with pytest.MonkeyPatch.context() as patch:
        host.score(patch, *SCORES)
        host.train(folder, epochs=3, eval_every=1)
    return folder


@pytest.mark.parametrize("stopped", [1, 3])
def test_an_evaluation_that_was_interrupted_is_made_up_for(
    stopped: int, host: Host, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = tmp_path / "cut"
    with monkeypatch.context() as patch:
        host.score(patch, *SCORES[: stopped - 1], KeyboardInterrupt())
        ended = host.run(cut, epochs=3, eval_every=1)
    assert ended.code == 130
    host.score(monkeypatch, *SCORES[stopped - 1 :])
    host.train(cut, epochs=3, eval_every=1, resume="no checkpoint yet" not in ended.lines[-1])
    assert_equal_runs(host, cut, scored)
    assert host.epoch(host.best(cut)) == 1


def test_a_larger_number_of_epochs_trains_on(host: Host, trained: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(trained(eval_every=1), tmp_path / "run")
    with RunFolder(folder).metrics.open("a") as file:
        file.write('{"step": 9, "epo')  # a line that was cut off
    host.train(folder, eval_every=1, epochs=2, resume=True)
    assert RunFolder(folder).rows() == RunFolder(trained(eval_every=1, epochs=2)).rows()


def test_how_often_a_run_evaluates_does_not_change_what_it_learns(host: Host, trained: Callable[..., Path]) -> None:
    often, once = (trained(epochs=2, eval_every=every, images="augmented") for every in (1, 2))
    assert [len(host.evaluations(folder)) for folder in (often, once)] == [2, 1]
    assert host.steps(often) == host.steps(once)
    assert unequal(*(host.parameters(host.checkpoint(folder)) for folder in (often, once))) == []


# The state of another optimizer


def test_an_optimizer_of_another_kind_does_not_go_on(host: Host, trained: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(trained(), tmp_path / "run")
    before = content(folder)
    for name, value, told in host.other_states:
        error = host.refusal(folder, epochs=4, resume=True, **{name: value})
        assert error.startswith(host.key("resume"))
        assert f"the state of another {host.key(name)} than {told}" in error
        assert error.count(host.key("resume")) == 1
        assert content(folder) == before


# The best so far


@pytest.mark.parametrize(("scores", "best"), [((0.6, 0.2, 0.4), 1), ((0.2, 0.6, 0.4), 2)])
def test_the_best_of_a_shorter_run_stays(
    scores: tuple[float, ...], best: int, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    host.score(monkeypatch, *scores)
    host.train(folder, epochs=2, eval_every=1)
    assert host.epoch(host.best(folder)) == best
    host.train(folder, epochs=3, eval_every=1, resume=True)
    assert host.epoch(host.best(folder)) == best


def test_the_best_of_before_an_interruption_stays(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    host.score(monkeypatch, 0.6, 0.2, 0.4)
    with interrupted(5):
        host.run(folder, epochs=3, eval_every=1)
    host.train(folder, epochs=3, eval_every=1, resume=True)
    assert host.epoch(host.best(folder)) == 1
