"""What an evaluation of either toolbox needs, and what is on disk whatever becomes of it."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparing import assert_equal_runs, unequal
from hosts import Host
from scripts import fastreid_left_as_it_was, write_script
from small_galleries import make_small, make_unmatched
from tiny import Body, tiny

from drsl_plugin.evaluation import evaluate_ranking
from drsl_plugin.runs.features import read_features


@pytest.fixture(scope="module")
def small(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Host:
    return make_small(host, tmp_path_factory.mktemp("small") / "data")


@pytest.fixture(scope="module")
def unmatched(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Host:
    return make_unmatched(host, tmp_path_factory.mktemp("unmatched") / "data")


# Small galleries


def test_a_small_gallery(small: Host, tmp_path: Path) -> None:
    small.train(tmp_path / "run")
    arrays = read_features(small.features(tmp_path / "run"))
    assert len(arrays.gallery_pids) == 14
    distances = small.distances(torch.from_numpy(arrays.query_features), torch.from_numpy(arrays.gallery_features))
    expected = evaluate_ranking(distances.numpy(), *arrays[2:6])
    (row,) = small.evaluations(tmp_path / "run")
    assert row["mAP"] == pytest.approx(expected.mAP)
    assert [row[f"rank{k}"] for k in small.ranks] == pytest.approx([expected.cmc[k - 1] for k in small.ranks])
    assert len(np.unique(arrays.query_pids)) > len(np.unique(arrays.gallery_pids))


# Nothing to find


def test_no_match_is_told_before_the_training(unmatched: Host, seen: list[Any], tmp_path: Path) -> None:
    error = unmatched.refusal(tmp_path / "run")
    start = f"{unmatched.key('targets')} {unmatched.target}: no query has a correct match in the gallery from another"
    assert error == f"{start} camera: they share no identity"
    assert seen == []
    assert not (tmp_path / "run").exists()


def test_no_match_is_told_before_features_are_extracted(
    unmatched: Host, trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = unmatched.checkpoint(trained())
    monkeypatch.setattr("torch.nn.Module.__call__", lambda *_, **__: pytest.fail("a model was called"))
    error = unmatched.refusal(tmp_path / "run", evaluate=checkpoint)
    assert "no query has a correct match" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("losses", ["drsl", "triplet"])
def test_no_match_is_told_of_a_script(losses: str, unmatched: Host, seen: list[Any], tmp_path: Path) -> None:
    words = *write_script(unmatched, tmp_path), *unmatched.words(tmp_path / "run", losses=losses)
    with fastreid_left_as_it_was() if unmatched.name == "fastreid" else contextlib.nullcontext():
        ended = unmatched.command("run", *words)
    assert "no query has a correct match" in ended.error
    assert seen == []


# The console


def test_each_epoch_has_a_line(host: Host, tmp_path: Path) -> None:
    rarely = {"train.print_freq": 1000} if host.name == "torchreid" else {}
    ended = host.train(tmp_path / "run", epochs=2, **rarely)
    for text in (ended.output, host.log(tmp_path / "run")):
        lines = [line for line in text.splitlines() if "loss_drsl" in line and re.search(r"\blr:? \d", line)]
        assert len(lines) >= 2, text
        assert len(lines) == 2 or host.name == "fastreid"


# Whatever becomes of an evaluation


class FullError(MemoryError):
    """Of a kind that nobody expects."""


def failing_ranking(host: Host, patch: pytest.MonkeyPatch, error: BaseException, before: int = 0) -> None:
    """Let the ranking fail, after some that do not."""
    host.score(patch, *[0.5] * before, error)


def failing_extraction(host: Host, patch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let the first extraction of features after a step fail."""
    forward, trained = Body.forward, []

    def fail(self: Any, images: Any) -> Any:
        if self.training:
            trained.append(1)
        elif trained:
            raise error
        return forward(self, images)

    patch.setattr(Body, "forward", fail)


@pytest.mark.parametrize("fail", [failing_ranking, failing_extraction])
@pytest.mark.parametrize("at", ["middle", "end"])
@pytest.mark.parametrize("kind", [RuntimeError, FullError, KeyboardInterrupt])
def test_nothing_is_lost_to_an_evaluation(
    kind: type[BaseException], at: str, fail: Any, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {**tiny(host, batch_norm=True), "epochs": 2, "eval_every": 1 if at == "middle" else 5}
    changes |= {"test.batch_size": 100} if host.name == "torchreid" else {"TEST.IMS_PER_BATCH": 100}
    host.train(tmp_path / "whole", **changes)
    folder, epoch = tmp_path / "cut", 1 if at == "middle" else 2
    with monkeypatch.context() as patch:
        fail(host, patch, kind("out of\n memory"))
        ended = host.run(folder, **changes)

    checkpoint = host.checkpoint(folder)
    assert host.epoch(checkpoint) == epoch
    assert {row["epoch"] for row in host.steps(folder)} == set(range(1, epoch + 1))
    assert host.evaluations(folder) == []
    assert host.features(folder).is_file() is (fail is failing_ranking)
    if kind is KeyboardInterrupt:
        assert (ended.code, ended.lines) == (130, [f"drsl: interrupted; {host.way_on(checkpoint)}"])
    else:
        assert ended.error.startswith(
            f"evaluation of {host.target} after epoch {epoch} failed: {kind.__name__}: out of memory ("
        )
        assert f"{host.key('resume')} " in ended.error
        assert f"{checkpoint}" in ended.error
        assert (f"`drsl evaluate {folder}`" in ended.error) is (fail is failing_ranking)
        assert "raise" in (folder / "failed-evaluation.txt").read_text()
        assert "Traceback" not in host.log(folder)
    if fail is failing_ranking:
        assert host.command("evaluate", folder).code == 0

    host.train(folder, **changes, resume=True)
    assert_equal_runs(host, folder, tmp_path / "whole")
    names = [
        {path.name for path in run.rglob("*.*t*") if "events" not in path.name} for run in (folder, tmp_path / "whole")
    ]
    assert {name for name in names[0] ^ names[1] if "log" not in name} == set()


def test_an_evaluation_between_checkpoints(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {**tiny(host, batch_norm=True), "epochs": 4, "eval_every": 1}
    changes |= {"SOLVER.CHECKPOINT_PERIOD": 3} if host.name == "fastreid" else {}
    host.train(tmp_path / "whole", **changes)
    folder = tmp_path / "cut"
    for _ in range(2):
        with monkeypatch.context() as patch:
            failing_ranking(host, patch, RuntimeError("no"), before=1)
            again = {"resume": True} if folder.exists() else {}
            assert "after epoch" in host.refusal(folder, **changes, **again)
    assert host.epoch(host.checkpoint(folder)) == 3
    monkeypatch.undo()
    host.train(folder, **changes, resume=True)
    assert [row["epoch"] for row in host.evaluations(folder)] == [1, 2, 3, 4]
    names = [{path.name for path in run.rglob("*.pth*")} for run in (folder, tmp_path / "whole")]
    assert names[0] == names[1]
    weights = [host.parameters(host.checkpoint(run)) for run in (folder, tmp_path / "whole")]
    assert unequal(*weights) == []


def test_metrics_of_the_targets_before_are_kept(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, changes = tmp_path / "run", {**tiny(host), **host.evaluated_on(host.target, "again")}
    with host.named_again("again"):
        with monkeypatch.context() as patch:
            failing_ranking(host, patch, RuntimeError("no"), before=1)
            host.refusal(folder, **changes)
        assert [row["target"] for row in host.evaluations(folder)] == [host.target]
        host.train(folder, **changes, resume=True)
    assert [row["target"] for row in host.evaluations(folder)] == [host.target, "again"]


def test_an_evaluation_alone_that_fails(
    host: Host, tmp_path: Path, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, checkpoint = tmp_path / "run", host.checkpoint(trained())
    with monkeypatch.context() as patch:
        failing_ranking(host, patch, RuntimeError("no"))
        error = host.refusal(folder, evaluate=checkpoint)
    assert error.startswith(f"evaluation of {host.target} failed: RuntimeError: no (")
    assert f"; the same command does it again; `drsl evaluate {folder}` does from " in error
    assert host.command("evaluate", folder).code == 0
    host.train(folder, evaluate=checkpoint)
    assert not (folder / "failed-evaluation.txt").exists()
    assert len(host.evaluations(folder)) == 1
