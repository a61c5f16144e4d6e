"""Torchreid's evaluator on galleries of any size, as it is and as it works here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchreid
from hosts import Torchreid
from scripts import write_script

from drsl_plugin.evaluation import evaluate_ranking, expected_cmc
from drsl_plugin.torchreid.main import main
from drsl_plugin.torchreid.ranking import listen_to_ranking, rank_any_gallery

# The first query has a gallery image of its own camera, which is left out; the second has none.
UNEQUAL: tuple[Any, ...] = (
    np.array([[0.1, 0.2, 0.3], [0.3, 0.1, 0.2]]),
    np.array([1, 2]),
    np.array([1, 1, 2]),
    np.array([0, 1]),
    np.array([0, 1, 0]),
)


def test_stock_ranking_needs_a_large_gallery() -> None:
    with pytest.raises(ValueError, match="inhomogeneous"):
        torchreid.metrics.evaluate_rank(*UNEQUAL, use_cython=False)


def test_a_gallery_of_three() -> None:
    stock = torchreid.metrics.evaluate_rank
    with rank_any_gallery():
        cmc, mean_ap = torchreid.metrics.evaluate_rank(*UNEQUAL)
    assert mean_ap == pytest.approx(0.75)
    assert (cmc[0], cmc[1], cmc[2], cmc[49]) == pytest.approx((0.5, 1.0, 1.0, 1.0))
    assert torchreid.metrics.evaluate_rank is stock


def drawn(seed: int, gallery: int) -> tuple[Any, ...]:
    generator = np.random.default_rng(seed)
    pids, camids = generator.integers(0, 6, 12 + gallery), generator.integers(0, 3, 12 + gallery)
    distances = generator.permutation(12 * gallery).reshape(12, gallery) / (12 * gallery)
    return distances, pids[:12], pids[12:], camids[:12], camids[12:]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("gallery", [8, 49, 50, 55, 80])
def test_galleries_of_any_size(gallery: int, seed: int) -> None:
    arguments = drawn(seed, gallery)
    expected = evaluate_ranking(*arguments)
    with rank_any_gallery():
        cmc, mean_ap = torchreid.metrics.evaluate_rank(*arguments)
    assert mean_ap == pytest.approx(expected.mAP)
    assert cmc == pytest.approx(expected.cmc)


def test_single_gallery_shot_of_a_small_gallery() -> None:
    arguments = drawn(0, 12)
    cmcs = []
    with rank_any_gallery():
        for _ in range(30):
            cmc, mean_ap = torchreid.metrics.evaluate_rank(*arguments, use_metric_cuhk03=True)
            cmcs.append(cmc)
    assert mean_ap == pytest.approx(evaluate_ranking(*arguments).mAP)
    assert np.mean(cmcs, axis=0) == pytest.approx(expected_cmc(*arguments).mean(axis=0), abs=0.05)


def test_queries_without_any_match_are_torchreids_own_error() -> None:
    with rank_any_gallery(), pytest.raises(AssertionError, match="do not appear"):
        torchreid.metrics.evaluate_rank(np.eye(2), *[np.arange(2), np.arange(2) + 5] * 2)


def test_ranks_beyond_50_are_those_of_a_large_gallery() -> None:
    distances = np.arange(80)[None] / 80
    arguments = distances, np.array([1]), np.array([0] * 70 + [1] * 10), np.array([0]), np.ones(80)
    heard: list[Any] = []
    with listen_to_ranking(100, lambda *told: heard.append(told)):
        cmc, _ = torchreid.metrics.evaluate_rank(*arguments)
    assert (cmc[49], cmc[69], cmc[70], cmc[99]) == (0, 0, 1, 1)
    ((asked, told, mean_ap),) = heard
    assert asked[0] is distances
    assert told is cmc
    assert mean_ap == pytest.approx(evaluate_ranking(*arguments).mAP)


def test_small_gallery_needs_padding(host: Torchreid, tmp_path: Path) -> None:
    """Torchreid prints ranks that a small gallery does not have: its curve ends before them, ours stays at its end."""
    evaluation = main(host.words(tmp_path / "run", **{"test.ranks": [1, 50]}))["market1501"]
    assert evaluation.row([50])["rank50"] == evaluation.cmc.max()
    cmc, _ = torchreid.metrics.evaluate_rank(np.eye(3), *[np.arange(3)] * 2, np.zeros(3), np.ones(3))
    assert len(cmc) == 3


def test_cuhk03_np_bool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchreid's evaluator of CUHK03 uses ``np.bool``, which numpy had not from 1.24 to 1.26."""
    monkeypatch.delattr(np, "bool", raising=False)
    arguments = np.eye(3), np.arange(3), np.arange(3), np.zeros(3), np.ones(3)
    with pytest.raises(AttributeError, match="bool"):
        torchreid.metrics.evaluate_rank(*arguments, use_metric_cuhk03=True)
    with rank_any_gallery():
        torchreid.metrics.evaluate_rank(*arguments, use_metric_cuhk03=True)
    assert not hasattr(np, "bool")


@pytest.mark.parametrize("losses", ["drsl", "triplet"])
def test_a_script_evaluates_on_a_small_gallery(losses: str, small: Torchreid, tmp_path: Path) -> None:
    ended = small.command("run", *write_script(small, tmp_path), *small.words(tmp_path / "run", losses=losses))
    assert (ended.code, ended.lines) == (0, [])
    assert "Rank-20 : 100.0%" in ended.output


def test_stock_engine_prints_no_short_epoch(host: Torchreid, tmp_path: Path) -> None:
    changes = {"losses": "triplet", "train.print_freq": 1000}
    ended = host.command("run", *write_script(host, tmp_path), *host.words(tmp_path / "run", **changes))
    assert ended.code == 0
    assert "=> Start training" in ended.output
    assert "loss_t" not in ended.output
