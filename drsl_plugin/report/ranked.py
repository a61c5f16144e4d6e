"""Ranked lists of the worst, the median and the best queries, as the evaluation ranks them."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drsl_plugin.evaluation import JUNK, distance_chunks
from drsl_plugin.report.pairs import counted_queries
from drsl_plugin.runs.features import FeatureFile

QUERIES = 4
"""Of each kind."""
LENGTH = 10


class RankedImage(NamedTuple):
    """A query or gallery image."""

    path: str | None
    pid: int
    camid: int


class Hit(NamedTuple):
    """A gallery image in a ranked list."""

    image: RankedImage
    rank: int
    distance: float
    correct: bool


class RankedList(NamedTuple):
    """What one query got."""

    query: RankedImage
    ap: float
    matches: int
    first_match: int
    """The first correct match's rank, perhaps beyond the list."""
    hits: list[Hit]


def ranked_lists(
    arrays: FeatureFile, ap: NDArray[np.float64], metric: str, count: int = QUERIES, length: int = LENGTH
) -> dict[str, list[RankedList]]:
    """Rank the gallery for a few queries: ``worst`` from the lowest AP up, ``median``, ``best`` from the highest down.

    Left out before ranking, and equal distances: as in :func:`~drsl_plugin.evaluation.evaluate_features`.

    Args:
        arrays: features and labels.
        ap: average precision of the queries that count, in their order.
        metric: ``"cosine"`` or ``"euclidean"``.
        count: queries of each kind; where there are too few of them, no query is in two kinds.
        length: images in a list.

    Returns:
        The lists, distances as 1 − cos or Euclidean.
    """
    queries = np.flatnonzero(counted_queries(arrays))
    chosen = {name: queries[places] for name, places in choose(ap, count).items()}
    every = np.concatenate([*chosen.values()])
    lists = {}
    kept = np.flatnonzero(arrays.gallery_pids != JUNK)
    rows = (
        row for chunk in distance_chunks(arrays.query_features[every], arrays.gallery_features, metric) for row in chunk
    )
    value = dict(zip(queries.tolist(), ap.tolist(), strict=True))
    for query, row in zip(every.tolist(), rows, strict=True):
        if metric == "euclidean":
            row = np.sqrt(np.maximum(row, 0))
        lists[query] = _rank(arrays, query, value[query], row[kept], kept, length)
    return {name: [lists[query] for query in places.tolist()] for name, places in chosen.items()}


def choose(ap: NDArray[np.float64], count: int) -> dict[str, NDArray[np.intp]]:
    """Choose the places of the worst, the median and the best values.

    Args:
        ap: a value a query.
        count: how many of each, fewer where there are not three times as many.

    Example:
        >>> {name: places.tolist() for name, places in choose(np.array([0.9, 0.1, 0.5, 0.4]), 1).items()}
        {'worst': [1], 'median': [3], 'best': [0]}
    """
    order = np.argsort(ap, kind="stable")
    count = min(count, max(1, len(order) // 3))
    middle = max(count, (len(order) - count) // 2)
    best = order[max(count, len(order) - count) :][::-1]
    return {"worst": order[:count], "median": order[middle : min(middle + count, len(order) - len(best))], "best": best}


def _rank(
    arrays: FeatureFile, query: int, ap: float, distances: NDArray[np.floating], kept: NDArray[np.intp], length: int
) -> RankedList:
    pid, camid = arrays.query_pids[query], arrays.query_camids[query]
    correct = arrays.gallery_pids[kept] == pid
    ranked = ~(correct & (arrays.gallery_camids[kept] == camid))
    distances, correct, kept = distances[ranked], correct[ranked], kept[ranked]
    order = np.argsort(distances, kind="stable")
    hits = [
        Hit(_describe_image(arrays, "gallery", kept[place]), rank, float(distances[place]), bool(correct[place]))
        for rank, place in enumerate(order[:length], 1)
    ]
    first = int(np.flatnonzero(correct[order])[0]) + 1
    return RankedList(_describe_image(arrays, "query", query), ap, int(correct.sum()), first, hits)


def _describe_image(arrays: FeatureFile, part: str, place: int) -> RankedImage:
    paths = arrays.query_paths if part == "query" else arrays.gallery_paths
    pids, camids = getattr(arrays, f"{part}_pids"), getattr(arrays, f"{part}_camids")
    return RankedImage(None if paths is None else os.fsdecode(paths[place]), int(pids[place]), int(camids[place]))
