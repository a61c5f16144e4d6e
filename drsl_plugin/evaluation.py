"""CMC, mAP and mINP as arrays, from a distance matrix; knows no toolbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Ranking(NamedTuple):
    """Retrieval metrics over the queries that have a correct match, all fractions of 1."""

    cmc: NDArray[np.float64]
    """``(max_rank,)``: the share of queries with a correct match among the first k, k = 1, 2, …"""
    mAP: float  # noqa: N815  (the field's name for it)
    mINP: float  # noqa: N815
    ap: NDArray[np.float64]
    """``(valid queries,)``: the average precision of each query."""


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
    import numpy as np

    average_precisions, inverse_penalties, first_ranks = [], [], []
    for row, pid, camid in zip(distances, query_pids, query_camids, strict=True):
        kept = ~((gallery_pids == pid) & (gallery_camids == camid))
        order = np.argsort(row[kept], kind="stable")
        ranks = np.flatnonzero(gallery_pids[kept][order] == pid) + 1
        if not len(ranks):
            continue
        average_precisions.append(float(np.mean(np.arange(1, len(ranks) + 1) / ranks)))
        inverse_penalties.append(len(ranks) / ranks[-1])
        first_ranks.append(ranks[0])
    if not first_ranks:
        raise ValueError("no query has a correct match in the gallery from another camera")
    cmc = (np.asarray(first_ranks)[:, None] <= np.arange(1, max_rank + 1)).mean(axis=0)
    ap = np.asarray(average_precisions)
    return Ranking(cmc, float(ap.mean()), float(np.mean(inverse_penalties)), ap)
