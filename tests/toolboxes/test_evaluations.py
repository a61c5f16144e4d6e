"""What an evaluation of either toolbox needs, and what is on disk whatever becomes of it."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hosts import Host
from scripts import fastreid_left_as_it_was, write_script
from small_galleries import make_small, make_unmatched

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
