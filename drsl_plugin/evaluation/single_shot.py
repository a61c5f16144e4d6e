"""CUHK03's single-gallery-shot CMC: its exact expectation, where the toolboxes draw at random; knows no toolbox."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def expected_cmc(
    distances: NDArray[np.floating],
    query_pids: NDArray[np.integer],
    gallery_pids: NDArray[np.integer],
    query_camids: NDArray[np.integer],
    gallery_camids: NDArray[np.integer],
    max_rank: int = 50,
) -> NDArray[np.float64]:
    r"""Return each query's expected CMC curve when one image of every gallery identity is drawn at random.

    .. math::

        P(\text{rank} \le k) = \frac{1}{n} \sum_{i=1}^{n} P\Big(\sum_g B_{ig} < k\Big),
        \qquad P(B_{ig} = 1) = \frac{b_{ig}}{m_g}

    with :math:`b_{ig}` the images of identity g that rank before the correct match i, of its :math:`m_g`; the draws of
    the identities are independent. Left out before drawing, and equal distances: as in
    :func:`~drsl_plugin.evaluation.ranking.evaluate_ranking`.

    Args:
        distances: ``(Q, G)``, smaller is nearer; no NaN.
        query_pids: ``(Q,)`` identities.
        gallery_pids: ``(G,)`` identities.
        query_camids: ``(Q,)`` cameras.
        gallery_camids: ``(G,)`` cameras.
        max_rank: length of the curves.

    Returns:
        ``(valid queries, max_rank)``: the curves of the queries that have a correct match.

    Example:
        >>> import numpy as np
        >>> labels = np.array([7]), np.array([5, 7, 5]), np.array([0]), np.array([1, 1, 1])
        >>> expected_cmc(np.array([[0.1, 0.2, 0.3]]), *labels, max_rank=2).tolist()
        [[0.5, 1.0]]

    Source:
        Protocol: Li et al., "DeepReID", CVPR 2014, as Torchreid's ``eval_cuhk03`` draws it. The expectation is ours.
    """
    identities, sizes = np.unique(gallery_pids, return_counts=True)
    order = np.argsort(gallery_pids, kind="stable")  # the images of an identity stand together
    starts = np.cumsum(sizes) - sizes
    chances, counts = [np.zeros((0, len(identities)))], []
    for row, pid, camid in zip(distances, query_pids, query_camids, strict=True):
        matches = np.flatnonzero((gallery_pids == pid) & (gallery_camids != camid))
        if not len(matches):
            continue
        grouped, limits = row[order], row[matches, None]
        before = (grouped < limits) | ((grouped == limits) & (order < matches[:, None]))
        share = np.add.reduceat(before, starts, axis=1, dtype=np.int64) / sizes
        share[:, identities == pid] = 0.0  # the match is the one drawn of its identity
        chances.append(share)
        counts.append(len(matches))
    curves = _accumulate(np.concatenate(chances), max_rank)
    ends = np.cumsum(counts, dtype=np.int64)
    means = [curves[end - count : end].mean(axis=0) for count, end in zip(counts, ends, strict=True)]
    return np.array(means).reshape(-1, max_rank)


def _accumulate(chances: NDArray[np.float64], max_rank: int) -> NDArray[np.float64]:
    """Return P(0), P(≤ 1), …, P(≤ max_rank − 1) of how many of each row's independent events happen."""
    exactly = np.zeros((len(chances), max_rank))
    exactly[:, 0] = 1.0
    for chance in chances.T[:, :, None]:
        happened = exactly[:, :-1] * chance
        exactly *= 1 - chance
        exactly[:, 1:] += happened
    return np.minimum(np.cumsum(exactly, axis=1), 1.0)
