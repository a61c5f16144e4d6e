"""CMC, mAP and mINP against loops written from their definitions, and against Torchreid's evaluator."""

from __future__ import annotations

import numpy as np
import pytest
import torchreid

from drsl_plugin.evaluation import evaluate_ranking


def random_problem(seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    queries, gallery = 12, 40
    labels = [rng.integers(0, 5, queries), rng.integers(0, 7, gallery), rng.integers(0, 3, queries)]
    return rng.random((queries, gallery)), *labels, rng.integers(0, 3, gallery)


def oracle(distances: np.ndarray, qp: np.ndarray, gp: np.ndarray, qc: np.ndarray, gc: np.ndarray) -> dict[str, float]:
    precisions, penalties, firsts = [], [], []
    for q in range(len(qp)):
        rank, found, total, precision = 0, 0, 0, 0.0
        last = first = 0
        for j in sorted(range(len(gp)), key=lambda j: distances[q, j]):
            if gp[j] == qp[q] and gc[j] == qc[q]:
                continue
            rank += 1
            if gp[j] == qp[q]:
                found += 1
                precision += found / rank
                first, last = first or rank, rank
        total = found
        if total:
            precisions.append(precision / total)
            penalties.append(total / last)
            firsts.append(first)
    mean = len(precisions)
    return {
        "mAP": sum(precisions) / mean,
        "mINP": sum(penalties) / mean,
        "rank1": sum(first == 1 for first in firsts) / mean,
        "rank5": sum(first <= 5 for first in firsts) / mean,
    }


@pytest.mark.parametrize("seed", range(4))
def test_metrics_follow_their_definitions(seed: int) -> None:
    problem = random_problem(seed)
    expected, ranking = oracle(*problem), evaluate_ranking(*problem)
    measured = {"mAP": ranking.mAP, "mINP": ranking.mINP, "rank1": ranking.cmc[0], "rank5": ranking.cmc[4]}
    assert measured == pytest.approx(expected, abs=1e-12)
    assert ranking.ap.mean() == ranking.mAP


@pytest.mark.parametrize("seed", range(4))
def test_metrics_equal_torchreids(seed: int) -> None:
    problem = random_problem(seed)
    cmc, mean_ap = torchreid.metrics.evaluate_rank(*problem, max_rank=20)
    ranking = evaluate_ranking(*problem, max_rank=20)
    assert ranking.mAP == pytest.approx(mean_ap, abs=1e-6)
    assert ranking.cmc == pytest.approx(cmc, abs=1e-6)


def test_no_correct_match_is_an_error() -> None:
    with pytest.raises(ValueError, match="no query has a correct match"):
        evaluate_ranking(np.zeros((1, 2)), np.array([1]), np.array([1, 2]), np.array([0]), np.array([0, 0]))
