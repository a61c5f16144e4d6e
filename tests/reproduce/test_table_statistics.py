"""The numbers of a table, against their definitions by plain loops."""

from __future__ import annotations

import itertools
import math
import time
import tracemalloc

import numpy as np
import pytest

from drsl_plugin.evaluation import evaluate_ranking
from drsl_plugin.reproduce import statistics
from drsl_plugin.reproduce.statistics import RANKING_METRICS, mean_and_sd, metric_values, paired_bootstrap


def random_runs(seed: int, runs: int, queries: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=(runs, queries))


# Mean and deviation


@pytest.mark.parametrize("values", [[0.2, 0.5], [0.1, 0.4, 0.9], [0.3] * 5])
def test_mean_and_sample_deviation(values: list[float]) -> None:
    mean = sum(values) / len(values)
    sd = math.sqrt(sum((each - mean) ** 2 for each in values) / (len(values) - 1))
    assert mean_and_sd(values) == pytest.approx((mean, sd), abs=1e-12)


def test_what_too_few_values_leave_open() -> None:
    assert mean_and_sd([0.25]) == (0.25, None)
    assert mean_and_sd([]) == (None, None)


# What each query contributes


@pytest.mark.parametrize("metric", RANKING_METRICS)
def test_the_mean_over_queries_is_the_metric(metric: str) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(4, size=12), generator.integers(4, size=30)
    cameras = generator.integers(3, size=12), generator.integers(3, size=30)
    ranking = evaluate_ranking(generator.uniform(size=(12, 30)), *labels, *cameras)
    metrics = {"mAP": ranking.mAP, "mINP": ranking.mINP, **{f"rank{k}": ranking.cmc[k - 1] for k in (1, 5, 10, 20)}}
    values = metric_values(ranking, metric)
    assert values.shape == ranking.ap.shape
    assert values.mean() == pytest.approx(metrics[metric], abs=1e-12)
    assert sorted(metrics) == sorted(RANKING_METRICS)


def test_what_a_ranking_does_not_hold_is_refused() -> None:
    one = np.ones(1, int)
    ranking = evaluate_ranking(np.ones((1, 1)), one, one, one, 0 * one, max_rank=5)
    with pytest.raises(ValueError, match="one of mAP, mINP, rank1, rank5, rank10, rank20, not 'map'"):
        metric_values(ranking, "map")
    with pytest.raises(ValueError, match="metric rank10: the ranking holds ranks up to 5"):
        metric_values(ranking, "rank10")


# The bootstrap


@pytest.mark.parametrize(("runs", "baseline_runs", "level"), [(1, 1, 0.95), (3, 2, 0.95), (2, 3, 0.5)])
def test_the_bootstrap_is_its_definition(runs: int, baseline_runs: int, level: float) -> None:
    """Of five queries all 3,125 draws can be gone through, in place of a sample of them."""
    values, baseline = random_runs(1, runs, 5), random_runs(2, baseline_runs, 5)
    deltas = [
        sum(run[query] for run in values) / runs - sum(run[query] for run in baseline) / baseline_runs
        for query in range(5)
    ]
    means = sorted(sum(deltas[query] for query in draw) / 5 for draw in itertools.product(range(5), repeat=5))
    difference = paired_bootstrap(values, baseline, resamples=50_000, level=level)
    assert difference.value == pytest.approx(sum(deltas) / 5, abs=1e-12)
    for end, share in ((difference.low, (1 - level) / 2), (difference.high, (1 + level) / 2)):
        margin = 4 * math.sqrt(share * (1 - share) / 50_000)  # of the share of draws below an end, four standard errors
        below, above = (means[round((share + sign * margin) * (len(means) - 1))] for sign in (-1, 1))
        assert below - 1e-12 <= end <= above + 1e-12


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    truth, trials, covered = 0.1, 400, 0
    for _ in range(trials):
        hardness = generator.normal(size=60)
        values = hardness + truth + generator.normal(scale=0.5, size=(2, 60))
        baseline = hardness + generator.normal(scale=0.5, size=(3, 60))
        _, low, high = paired_bootstrap(values, baseline, resamples=500, level=0.9)
        covered += low <= truth <= high
    assert 0.9 - 3 * math.sqrt(0.9 * 0.1 / trials) <= covered / trials <= 0.9 + 3 * math.sqrt(0.9 * 0.1 / trials)


def test_identical_runs_differ_by_nothing() -> None:
    runs = random_runs(4, 3, 50)
    assert paired_bootstrap(runs, runs.copy()) == (0.0, 0.0, 0.0)


def test_how_hard_the_queries_are_does_not_matter() -> None:
    values, baseline = random_runs(5, 2, 80), random_runs(6, 2, 80)
    hardness = np.random.default_rng(7).normal(scale=100, size=80)
    assert paired_bootstrap(values + hardness, baseline + hardness) == pytest.approx(
        paired_bootstrap(values, baseline), abs=1e-9
    )


def test_the_difference_has_the_sign_of_the_better_row() -> None:
    worse = random_runs(8, 2, 30)
    assert paired_bootstrap(worse + 0.25, worse) == pytest.approx((0.25, 0.25, 0.25))


def test_the_same_seed_draws_the_same_whatever_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    values, baseline = random_runs(9, 2, 33), random_runs(10, 2, 33)
    whole = paired_bootstrap(values, baseline, resamples=100)
    assert paired_bootstrap(values, baseline, resamples=100) == whole
    assert paired_bootstrap(values, baseline, resamples=100, seed=1) != whole
    monkeypatch.setattr(statistics, "_CHUNK", 100)
    assert paired_bootstrap(values, baseline, resamples=100) == whole
    monkeypatch.setattr(statistics, "_CHUNK", 1)
    assert paired_bootstrap(values, baseline, resamples=100) == whole


def test_it_takes_what_market1501_has_in_bounded_time_and_memory() -> None:
    values, baseline = random_runs(11, 3, 3368), random_runs(12, 3, 3368)
    start = time.process_time()
    paired_bootstrap(values, baseline)
    assert time.process_time() - start < 4
    tracemalloc.start()
    paired_bootstrap(values, baseline, resamples=2000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


@pytest.mark.parametrize(
    ("values", "baseline", "told"),
    [
        (np.ones((1, 3)), np.ones((2, 4)), "3 and 4 queries, must be the same"),
        (np.ones(3), np.ones((1, 3)), r"values: must be runs × queries, at least one of each, not of shape \(3,\)"),
        (np.ones((1, 3)), np.ones((0, 3)), r"baseline: must be .* not of shape \(0, 3\)"),
        (np.full((1, 3), np.nan), np.ones((1, 3)), "values: holds a value that is no finite number"),
    ],
)
def test_what_cannot_be_compared_is_refused(values: np.ndarray, baseline: np.ndarray, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        paired_bootstrap(values, baseline)


@pytest.mark.parametrize("settings", [{"resamples": 0}, {"level": 0.0}, {"level": 1.0}])
def test_settings_out_of_their_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be 1 or above, and between 0 and 1"):
        paired_bootstrap(np.ones((1, 2)), np.ones((1, 2)), **settings)
