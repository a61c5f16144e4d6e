"""CMC, mAP and mINP as arrays, from a distance matrix or from features; knows no toolbox."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from drsl_plugin.evaluation.matches import NO_MATCH
from drsl_plugin.evaluation.single_shot import expected_cmc

METRICS = ("cosine", "euclidean")
JUNK = -1
CHUNK_BUDGET = 2**27
"""Bytes of distances that :func:`evaluate_features` holds at a time."""


class Ranking(NamedTuple):
    """Retrieval metrics over the queries that have a correct match, all fractions of 1."""

    cmc: NDArray[np.float64]
    """``(max_rank,)``: the share of queries with a correct match among the first k, k = 1, 2, …"""
    mAP: float  # noqa: N815  (the field's name for it)
    mINP: float  # noqa: N815
    ap: NDArray[np.float64]
    """``(valid queries,)``: the average precision of each query."""
    inp: NDArray[np.float64]
    """``(valid queries,)``: the inverse negative penalty of each query."""
    curves: NDArray[np.float64]
    """``(valid queries, max_rank)``: the CMC curve of each query; ``cmc`` is their mean."""


def evaluate_ranking(
    distances: NDArray[np.floating],
    query_pids: NDArray[np.integer],
    gallery_pids: NDArray[np.integer],
    query_camids: NDArray[np.integer],
    gallery_camids: NDArray[np.integer],
    max_rank: int = 50,
) -> Ranking:
    r"""Rank the gallery for each query and average CMC, AP and INP.

    .. math::

        AP = \frac{1}{n} \sum_{i=1}^{n} \frac{i}{r_i}, \qquad INP = \frac{n}{r_n}

    with :math:`r_1 < \dots < r_n` the ranks of a query's n correct matches. Gallery images of the query's identity
    from the query's camera are left out before ranking, as Torchreid's and FastReID's evaluators do.

    Equal distances rank in the gallery's order, and NaN after all numbers. Both toolboxes sort with numpy's default,
    which leaves the order of equal distances open: with them, their results may differ from one machine to another.

    Args:
        distances: ``(Q, G)``, smaller is nearer.
        query_pids: ``(Q,)`` identities.
        gallery_pids: ``(G,)`` identities.
        query_camids: ``(Q,)`` cameras.
        gallery_camids: ``(G,)`` cameras.
        max_rank: length of the CMC curve; beyond the gallery's size it stays at its last value.

    Returns:
        The metrics; queries without a correct match do not count.

    Raises:
        ValueError: no query has a correct match in the gallery.

    Example:
        >>> import numpy as np
        >>> cameras = np.array([1, 1, 1])
        >>> ranking = evaluate_ranking(
        ...     np.array([[0.1, 0.2, 0.3]]), np.array([7]), np.array([5, 7, 7]), np.array([0]), cameras, max_rank=3
        ... )
        >>> ranking.cmc.tolist(), round(ranking.mAP, 4), round(ranking.mINP, 4)
        ([0.0, 1.0, 1.0], 0.5833, 0.6667)

    Source:
        mAP and CMC: Zheng et al., ICCV 2015. mINP: Ye et al., "Deep Learning for Person Re-identification: A Survey
        and Outlook", TPAMI 2021.
    """
    return _average(list(_match_ranks(distances, query_pids, gallery_pids, query_camids, gallery_camids)), max_rank)


def evaluate_features(
    query_features: NDArray[np.floating],
    gallery_features: NDArray[np.floating],
    query_pids: NDArray[np.integer],
    gallery_pids: NDArray[np.integer],
    query_camids: NDArray[np.integer],
    gallery_camids: NDArray[np.integer],
    *,
    metric: str = "cosine",
    max_rank: int = 50,
    single_shot: bool = False,
    chunk_budget: int = CHUNK_BUDGET,
) -> Ranking:
    """Rank and average as :func:`evaluate_ranking` does, with the distances of a chunk of queries at a time.

    Gallery images of identity −1 (junk) are left out; identity 0 (distractors) stays. The distances are the toolboxes':
    1 − cos, or the squared Euclidean distance, in the features' precision, at least single.

    Args:
        query_features: ``(Q, D)``, finite.
        gallery_features: ``(G, D)``, finite.
        query_pids: ``(Q,)`` identities.
        gallery_pids: ``(G,)`` identities.
        query_camids: ``(Q,)`` cameras.
        gallery_camids: ``(G,)`` cameras.
        metric: ``"cosine"`` or ``"euclidean"``.
        max_rank: length of the CMC curve.
        single_shot: CMC of CUHK03's protocol, see :func:`~drsl_plugin.evaluation.expected_cmc`; AP and INP are of the
            whole gallery, as Torchreid's AP is.
        chunk_budget: bytes of distances at a time; a chunk has at least one query.

    Returns:
        The metrics; queries without a correct match do not count.

    Raises:
        ValueError: an unknown metric, or no query has a correct match in the gallery.

    Example:
        >>> import numpy as np
        >>> labels = np.array([7]), np.array([5, 7, 7]), np.array([0]), np.array([1, 1, 1])
        >>> gallery = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> round(evaluate_features(np.array([[1.0, 0.1]]), gallery, *labels).mAP, 4)
        0.5833

    Source:
        As for :func:`evaluate_ranking`. Junk and distractors: Zheng et al., ICCV 2015.
    """
    if metric not in METRICS:
        raise ValueError(f"metric: {' or '.join(METRICS)}, not {metric!r}")
    kept = gallery_pids != JUNK
    pids, camids = gallery_pids[kept], gallery_camids[kept]
    ranks: list[NDArray[np.integer]] = []
    curves: list[NDArray[np.float64]] = []
    start = 0
    for distances in distance_chunks(query_features, gallery_features, metric, chunk_budget):
        chunk = slice(start, start + len(distances))
        start = chunk.stop
        if len(pids) < len(kept):
            distances = distances[:, kept]
        labels = query_pids[chunk], pids, query_camids[chunk], camids
        ranks += _match_ranks(distances, *labels)
        if single_shot:
            curves.append(expected_cmc(distances, *labels, max_rank=max_rank))
    ranking = _average(ranks, max_rank)
    if not single_shot:
        return ranking
    expected = np.concatenate(curves)
    return ranking._replace(cmc=expected.mean(axis=0), curves=expected)


def distance_chunks(
    queries: NDArray[np.floating], gallery: NDArray[np.floating], metric: str, budget: int = CHUNK_BUDGET
) -> Iterator[NDArray[np.floating]]:
    """Yield the distances of a chunk of queries at a time, by the toolboxes' own formulas.

    Args:
        queries: ``(Q, D)``, finite.
        gallery: ``(G, D)``, finite.
        metric: ``"cosine"``, for 1 − cos, or ``"euclidean"``, for the squared Euclidean distance.
        budget: bytes of distances at a time; a chunk has at least one query.

    Yields:
        ``(queries of the chunk, G)``, in the features' precision, at least single; the caller's to write to.
    """
    precision = torch.float64 if np.float64 in (queries.dtype, gallery.dtype) else torch.float32
    q, g = (torch.from_numpy(np.require(each, requirements=["C", "W"])).to(precision) for each in (queries, gallery))
    if metric == "cosine":
        q, g = torch.nn.functional.normalize(q, dim=1), torch.nn.functional.normalize(g, dim=1)
    squares = torch.cat([part.square().sum(dim=1) for part in torch.split(g, 2**16)])  # no second gallery
    for rows in torch.split(q, max(1, budget // (g.element_size() * max(1, len(g))))):
        if metric == "cosine":
            yield (rows @ g.T).neg_().add_(1).numpy()
        else:
            distances = rows.square().sum(dim=1, keepdim=True) + squares
            yield distances.addmm_(rows, g.T, alpha=-2).numpy()


def _match_ranks(
    distances: NDArray[np.floating],
    query_pids: NDArray[np.integer],
    gallery_pids: NDArray[np.integer],
    query_camids: NDArray[np.integer],
    gallery_camids: NDArray[np.integer],
) -> Iterator[NDArray[np.integer]]:
    """Yield the ranks of the correct matches of each query that has any, ascending, from 1."""
    for row, pid, camid in zip(distances, query_pids, query_camids, strict=True):
        same = np.flatnonzero(gallery_pids == pid)
        own = gallery_camids[same] == camid
        if own.all():
            continue
        kept = np.delete(row, same[own])
        matches = same[~own] - np.cumsum(own)[~own]  # their places once the query's own camera is left out
        yield _rank_stably(kept, matches)


def _rank_stably(values: NDArray[np.floating], places: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the ranks that a stable sort gives to the values at ``places``, ascending, from 1.

    Sorting values is several times as fast as sorting places, and only a few ranks are asked for.
    """
    if np.isnan(values).any():
        values = np.where(np.isnan(values), np.inf, values)
    ordered, asked = np.sort(values), values[places]
    ranks = np.searchsorted(ordered, asked) + 1
    for tied in np.flatnonzero(np.searchsorted(ordered, asked, side="right") > ranks):
        ranks[tied] += np.count_nonzero(values[: places[tied]] == asked[tied])
    return np.sort(ranks)


def _average(ranks: Sequence[NDArray[np.integer]], max_rank: int) -> Ranking:
    if not ranks:
        raise ValueError(NO_MATCH)
    ap = np.array([np.mean(np.arange(1, len(each) + 1) / each) for each in ranks])
    inp = np.array([len(each) / each[-1] for each in ranks])
    firsts = np.array([each[0] for each in ranks])
    curves = (firsts[:, None] <= np.arange(1, max_rank + 1)).astype(np.float64)
    return Ranking(curves.mean(axis=0), float(ap.mean()), float(inp.mean()), ap, inp, curves)
