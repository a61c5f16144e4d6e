"""What a cell of a table holds: mean and deviation over seeds, and a difference with its interval over queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drsl_plugin.evaluation import Ranking

TABLE_RANKS = (1, 5, 10, 20)
RANKING_METRICS = ("mAP", "mINP", *(f"rank{k}" for k in TABLE_RANKS))
LEVEL = 0.95
_CHUNK = 2**21
"""Queries drawn at a time: 8 MiB of indices, 16 MiB of the values that they name."""


class Difference(NamedTuple):
    """A metric less the baseline's, and the interval that the bootstrap gives it; fractions of 1."""

    value: float
    low: float
    high: float


class Published(NamedTuple):
    """What others publish for a cell."""

    value: float | None
    """A fraction of 1; None where the authors' number is not public."""
    source: str


class Cell(NamedTuple):
    """One row of a table in one column; fractions of 1."""

    mean: float | None
    """None where there is no number to show."""
    sd: float | None
    """The sample standard deviation over seeds (divisor n − 1); None with fewer than two."""
    seeds: int
    """How many runs are in."""
    wanted: int
    """How many there should be."""
    difference: Difference | None = None
    published: Published | None = None
    problem: str | None = None
    """Why runs are missing: ``"not run"``, ``"failed: …"``."""


def mean_and_sd(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the mean and the sample standard deviation (divisor n − 1) of what the seeds gave.

    Args:
        values: a number a seed.

    Returns:
        The two; None for what too few values leave open.

    Example:
        >>> mean_and_sd([0.5, 0.75])
        (0.625, 0.1767766952966369)
        >>> mean_and_sd([0.5])
        (0.5, None)
    """
    mean = float(np.mean(values)) if len(values) > 0 else None
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def metric_values(ranking: Ranking, metric: str) -> NDArray[np.float64]:
    """Return what each query contributes to a metric; their mean is the metric.

    Args:
        ranking: of the queries that have a correct match.
        metric: one of ``RANKING_METRICS``.

    Returns:
        ``(queries,)``: average precisions, inverse negative penalties, or 1 where a correct match is among the first k.

    Raises:
        ValueError: an unknown metric, or a rank beyond the ranking's curves.

    Example:
        >>> curves = np.array([[0.0, 1.0], [1.0, 1.0]])
        >>> ranking = Ranking(curves.mean(0), 0.75, 0.7, np.array([0.5, 1.0]), np.array([0.4, 1.0]), curves)
        >>> metric_values(ranking, "rank1").tolist()
        [0.0, 1.0]
    """
    if metric not in RANKING_METRICS:
        raise ValueError(f"metric: one of {', '.join(RANKING_METRICS)}, not {metric!r}")
    if metric in ("mAP", "mINP"):
        return ranking.ap if metric == "mAP" else ranking.inp
    rank = int(metric.removeprefix("rank"))
    if rank > ranking.curves.shape[1]:
        raise ValueError(f"metric {metric}: the ranking holds ranks up to {ranking.curves.shape[1]}")
    return ranking.curves[:, rank - 1]


def paired_bootstrap(
    values: NDArray[np.floating],
    baseline: NDArray[np.floating],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = LEVEL,
) -> Difference:
    r"""Compare two rows of runs query by query, and say how much other queries would change the difference.

    .. math::

        \Delta = \frac{1}{Q} \sum_{q=1}^{Q} \delta_q, \qquad
        \delta_q = \frac{1}{S} \sum_{s=1}^{S} v_{sq} - \frac{1}{S'} \sum_{s=1}^{S'} b_{sq}

    The interval holds the middle ``level`` of the means of :math:`\delta` over Q queries drawn with replacement (the
    percentile interval). Since both rows are taken at the same queries, that some queries are harder than others for
    every model does not widen it.

    It covers the choice of the queries: what to expect of other queries against the same gallery, from the models that
    were trained. It does not cover the noise of training (other seeds: the standard deviation beside the mean shows
    that), nor another data set, nor that several rows are compared with one baseline.

    Args:
        values: ``(S, Q)``, S runs at Q queries, finite.
        baseline: ``(S', Q)``, at the same queries in the same order, finite.
        resamples: how many times queries are drawn, 1 or above.
        seed: of the draws.
        level: between 0 and 1.

    Returns:
        The difference, and the interval's ends.

    Raises:
        ValueError: not two arrays of runs × queries at as many queries, a value that is no number, or a setting out of
            its range.

    Example:
        >>> values, baseline = np.array([[0.9, 0.5, 0.6]]), np.array([[0.7, 0.3, 0.4]])
        >>> [round(each, 3) for each in paired_bootstrap(values, baseline)]
        [0.2, 0.2, 0.2]

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile interval). Of retrieval
        metrics over queries: Sakai, "Evaluating Evaluation Metrics based on the Bootstrap", SIGIR 2006.
    """
    _check(values, baseline)
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples {resamples}, level {level}: must be 1 or above, and between 0 and 1")
    differences: NDArray[np.float64] = values.mean(axis=0, dtype=np.float64) - baseline.mean(axis=0, dtype=np.float64)
    queries = len(differences)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, _CHUNK // queries)
    for start in range(0, resamples, step):
        rows = means[start : start + step]
        drawn = generator.integers(queries, size=(len(rows), queries), dtype=np.int32)
        rows[:] = differences[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(differences.mean()), float(low), float(high))


def _check(values: NDArray[np.floating], baseline: NDArray[np.floating]) -> None:
    for name, array in (("values", values), ("baseline", baseline)):
        if array.ndim != 2 or 0 in array.shape:
            raise ValueError(f"{name}: must be runs × queries, at least one of each, not of shape {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: holds a value that is no finite number")
    if values.shape[1] != baseline.shape[1]:
        raise ValueError(f"values and baseline: {values.shape[1]} and {baseline.shape[1]} queries, must be the same")
