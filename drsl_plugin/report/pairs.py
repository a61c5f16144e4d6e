"""How far positive and negative query-gallery pairs lie apart: counts of all pairs that the evaluation ranks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drsl_plugin.evaluation import JUNK, distance_chunks
from drsl_plugin.runs.features import FeatureFile

BINS = {"cosine": 200, "angle": 180}
"""Bins over 0…2 and over 0…180 degrees."""
EUCLIDEAN_BINS = (200, 4000)
"""Bins over the distances that occur, at most; and as they are counted, before the empty ones at the end go."""
PAIR_BUDGET = 2**25
"""Bytes of distances at a time; their bins take three times as many."""


class Histogram(NamedTuple):
    """Counts of the pairs in equal bins."""

    top: float
    """Where the last bin ends; the first begins at 0."""
    positive: NDArray[np.int64]
    negative: NDArray[np.int64]

    def shares(self) -> NDArray[np.float64]:
        """Return ``(2, bins)``: each bin's share of the positive and of the negative pairs."""
        counts = np.stack([self.positive, self.negative])
        return np.asarray(counts / np.maximum(1, counts.sum(axis=1, keepdims=True)))

    def densities(self) -> NDArray[np.float64]:
        """Return the shares over the width of a bin."""
        return self.shares() * (len(self.positive) / self.top)

    def overlap(self) -> float:
        r"""Return the overlap coefficient.

        .. math::

            \sum_b \min(p_b, n_b)

        with :math:`p_b` and :math:`n_b` the shares of the positive and of the negative pairs in bin b: 0 where no bin
        has both, 1 where the two are distributed alike.

        Example:
            >>> Histogram(3.0, np.array([1, 3, 0]), np.array([0, 2, 6])).overlap()
            0.25
        """
        return float(self.shares().min(axis=0).sum())


class PairHistograms(NamedTuple):
    """Of one run and target."""

    distance: Histogram
    """1 − cos, or the Euclidean distance."""
    angle: Histogram
    """In degrees, whatever the metric."""


def counted_queries(arrays: FeatureFile) -> NDArray[np.bool_]:
    """Return ``(Q,)``: which queries have a correct match from another camera; the others do not count.

    Args:
        arrays: features and labels.
    """
    cameras: dict[int, set[int]] = defaultdict(set)
    for pid, camid in zip(arrays.gallery_pids.tolist(), arrays.gallery_camids.tolist(), strict=True):
        if pid != JUNK:
            cameras[pid].add(camid)
    queries = zip(arrays.query_pids.tolist(), arrays.query_camids.tolist(), strict=True)
    return np.array([bool(cameras[pid] - {camid}) for pid, camid in queries])


def pair_histograms(arrays: FeatureFile, metric: str, chunk_budget: int = PAIR_BUDGET) -> PairHistograms:
    """Count every pair of a query that counts and a gallery image that is ranked for it.

    Positive are the pairs of one identity from two cameras, negative those of two identities. Junk is left out, and
    pairs of one identity from one camera.

    Args:
        arrays: features and labels.
        metric: ``"cosine"`` or ``"euclidean"``.
        chunk_budget: bytes of distances at a time.

    Returns:
        The counts of distances and of angles.
    """
    kept, counted = arrays.gallery_pids != JUNK, counted_queries(arrays)
    features = arrays.query_features[counted], arrays.gallery_features
    bins = {"cosine": (BINS["cosine"], 2.0), "euclidean": (EUCLIDEAN_BINS[1], _bound_distances(*features))}[metric]
    distance, angle = _Counts(*bins), _Counts(BINS["angle"], 180.0)
    pids, camids = arrays.query_pids[counted], arrays.query_camids[counted]
    start = 0
    for cosines, others in _measure_chunks(*features, metric, chunk_budget):
        chunk = slice(start, start + len(cosines))
        start = chunk.stop
        same = _find_same_identity(pids[chunk], camids[chunk], arrays.gallery_pids[kept], arrays.gallery_camids[kept])
        cosines = cosines[:, kept]
        distance.add(cosines if others is None else np.sqrt(np.maximum(others[:, kept], 0)), *same)
        cosines = np.subtract(1, cosines, out=cosines)
        angle.add(np.degrees(np.arccos(np.clip(cosines, -1, 1, out=cosines), out=cosines), out=cosines), *same)
    return PairHistograms(distance.histogram() if metric == "cosine" else _trim(distance), angle.histogram())


class _Counts:
    """Counts of all pairs, of those of one identity, and of those among them that are from one camera."""

    def __init__(self, bins: int, top: float) -> None:
        self.bins, self.top = bins, top
        self.all, self.same, self.own = (np.zeros(bins, np.int64) for _ in range(3))

    def add(
        self, values: NDArray[np.floating], rows: NDArray[np.intp], columns: NDArray[np.intp], own: NDArray[np.bool_]
    ) -> None:
        places = (values * (self.bins / self.top)).astype(np.intp)
        np.clip(places, 0, self.bins - 1, out=places)
        same = places[rows, columns]
        for counts, chosen in ((self.all, places.ravel()), (self.same, same), (self.own, same[own])):
            counts += np.bincount(chosen, minlength=self.bins)

    def histogram(self) -> Histogram:
        return Histogram(self.top, self.same - self.own, self.all - self.same)


def _trim(counts: _Counts) -> Histogram:
    """Leave out the empty bins at the end, and join the others until they are few enough."""
    most, bins = EUCLIDEAN_BINS
    used = int(np.flatnonzero(counts.all)[-1]) + 1
    joined = -(-used // most)
    length = -(-used // joined) * joined
    _, *parts = counts.histogram()
    positive, negative = (np.pad(part, (0, joined))[:length].reshape(-1, joined).sum(axis=1) for part in parts)
    return Histogram(counts.top * length / bins, positive, negative)


def _measure_chunks(
    queries: NDArray[np.floating], gallery: NDArray[np.floating], metric: str, budget: int
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.floating] | None]]:
    """Yield 1 − cos of a chunk of queries, and beside it the squared Euclidean distance where that is the metric."""
    cosines = distance_chunks(queries, gallery, "cosine", budget)
    if metric == "cosine":
        yield from ((each, None) for each in cosines)
    else:
        yield from zip(cosines, distance_chunks(queries, gallery, metric, budget), strict=True)


def _bound_distances(queries: NDArray[np.floating], gallery: NDArray[np.floating]) -> float:
    """Return a distance that no pair exceeds, and not 0."""
    lengths = [max(float(np.linalg.norm(part, axis=1).max()) for part in _split(each)) for each in (queries, gallery)]
    return sum(lengths) * 1.001 or 1.0


def _split(features: NDArray[np.floating]) -> Iterator[NDArray[np.floating]]:
    yield from (features[start : start + 2**14] for start in range(0, len(features), 2**14))


def _find_same_identity(
    query_pids: NDArray[np.integer],
    query_camids: NDArray[np.integer],
    gallery_pids: NDArray[np.integer],
    gallery_camids: NDArray[np.integer],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """Return the places of the pairs of one identity, and which of them are from one camera."""
    places = [np.flatnonzero(gallery_pids == pid) for pid in query_pids]
    rows = np.repeat(np.arange(len(places)), [len(each) for each in places])
    columns = np.concatenate(places)
    return rows, columns, query_camids[rows] == gallery_camids[columns]
