"""DRSL as one pure function."""

from __future__ import annotations

from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor

from drsl_plugin.losses.checks import Distance, Relaxation, Sort, check_batch, check_settings
from drsl_plugin.losses.scores import cosine_scores, euclidean_scores
from drsl_plugin.losses.terms import (
    differences,
    exact_parts,
    pad_positives,
    query_weights,
    relaxed_step,
    sorting_error,
    sum_where,
)


class DRSLParts(NamedTuple):
    """The parts of the loss that logs show: detached scalars, each averaged per query, then over the queries."""

    ranking: Tensor
    """Ranking error, in [0, 1): the relaxed 1 - AP."""
    sorting: Tensor
    """Sorting error, in [0, 1], before its weight."""
    ap: Tensor
    """Average precision of the exact ranks, in [0, 1]; a negative at a tie counts as ranked before."""
    above_all: Tensor
    """Share of the positives that are ranked above every negative, in [0, 1]."""


@overload
def drsl_loss(
    embeddings: Tensor,
    labels: Tensor,
    ref_embeddings: Tensor | None = None,
    ref_labels: Tensor | None = None,
    *,
    distance: Distance = "cosine",
    temperature: float = 0.05,
    relaxation: Relaxation = "sigmoid",
    sort: Sort = "angle",
    sort_weight: float = 1.0,
    return_parts: Literal[False] = False,
) -> Tensor: ...


@overload
def drsl_loss(
    embeddings: Tensor,
    labels: Tensor,
    ref_embeddings: Tensor | None = None,
    ref_labels: Tensor | None = None,
    *,
    distance: Distance = "cosine",
    temperature: float = 0.05,
    relaxation: Relaxation = "sigmoid",
    sort: Sort = "angle",
    sort_weight: float = 1.0,
    return_parts: Literal[True],
) -> tuple[Tensor, DRSLParts]: ...


@overload
def drsl_loss(
    embeddings: Tensor,
    labels: Tensor,
    ref_embeddings: Tensor | None = None,
    ref_labels: Tensor | None = None,
    *,
    distance: Distance = "cosine",
    temperature: float = 0.05,
    relaxation: Relaxation = "sigmoid",
    sort: Sort = "angle",
    sort_weight: float = 1.0,
    return_parts: bool,
) -> Tensor | tuple[Tensor, DRSLParts]: ...


def drsl_loss(
    embeddings: Tensor,
    labels: Tensor,
    ref_embeddings: Tensor | None = None,
    ref_labels: Tensor | None = None,
    *,
    distance: Distance = "cosine",
    temperature: float = 0.05,
    relaxation: Relaxation = "sigmoid",
    sort: Sort = "angle",
    sort_weight: float = 1.0,
    return_parts: bool = False,
) -> Tensor | tuple[Tensor, DRSLParts]:
    r"""Differentiable Retrieval-Sort Loss: rank each positive before the negatives, sort the positives by angle.

    .. math::

        L = \frac{1}{|Q|} \sum_{q \in Q} \frac{1}{|P_q|} \sum_{i \in P_q}
            \left[ \frac{F_q(i)}{R^+_q(i) + F_q(i)} + \lambda\, \ell_S(q, i) \right]

        a_q(i, j) = H(s_{qj} - s_{qi}), \quad
        R^+_q(i) = 1 + \sum_{j \in P_q, j \neq i} a_q(i, j), \quad
        F_q(i) = \sum_{j \in N_q} a_q(i, j)

    Each sample of the batch is a query; its references are the other samples and all extra references;
    :math:`P_q` are those of its label, :math:`N_q` the others, :math:`Q` the queries with a positive. The score
    :math:`s` is the cosine, or the negative Euclidean distance over the query's mean distance; :math:`H(x)` is
    :math:`\sigma(x/\tau)` (``"sigmoid"``) or :math:`\min(1, \max(0, x/2\tau + 1/2))` (``"linear"``). With the quality
    :math:`y_{qj} = (1 + \cos\theta_{qj})/2` of a positive, the sorting error is

    .. math::

        \ell_S(q, i) = \frac{(1 - y_{qi}) + \sum_{j \in P_q, j \neq i} a_q(i, j)(1 - y_{qj})}{R^+_q(i)}

    for ``sort="angle"`` (the gradient goes through the angle as well); for ``"order"`` the same with y detached, minus
    the same sums over :math:`\{j : y_{qj} \ge y_{qi}\}`; for ``"none"`` it is 0 and the loss is Smooth-AP.

    The mathematics runs in float32 (float64 stays float64) with autocast off; memory grows as N·K·(N + M) with K the
    largest number of positives of a query. A NaN in the embeddings makes the loss NaN where any query has a positive,
    so that loggers see it.

    Args:
        embeddings: ``(N, D)`` floating point; need not be normalised.
        labels: ``(N,)`` integers, in any order, with any number of instances for each.
        ref_embeddings: ``(M, D)`` extra references, with or without gradient: other processes' embeddings, a memory.
        ref_labels: ``(M,)`` integers, the labels of ``ref_embeddings``.
        distance: the ranking score, ``"cosine"`` or ``"euclidean"`` (of the embeddings as they are).
        temperature: :math:`\tau > 0`, the width of the relaxed step in units of the score; not comparable between the
            two distances, nor between the relaxations.
        relaxation: the step, ``"sigmoid"`` or ``"linear"``.
        sort: the sorting term, ``"angle"``, ``"order"`` or ``"none"``. On L2-normalised embeddings with
            ``distance="cosine"`` the two orders agree and ``"order"`` has nothing to say.
        sort_weight: :math:`\lambda \ge 0`.
        return_parts: also return the parts for the logs.

    Returns:
        The loss, a scalar in :math:`[0, 1 + \lambda]`; with ``return_parts`` the pair ``(loss, DRSLParts)``. Where no
        query has a positive, the loss and its parts are 0 and the loss keeps its graph.

    Raises:
        ValueError: a setting outside its range, or shapes that do not go together.
        TypeError: embeddings that are not floating point, labels that are not integers.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> loss, parts = drsl_loss(embeddings, labels, return_parts=True)
        >>> round(loss.item(), 4), parts.ap.item()
        (0.0025, 1.0)

    Source:
        X. Xu, X. Yuan, Z. Wang, K. Zhang, R. Hu, "Rank-in-Rank Loss for Person Re-identification", ACM TOMM 2022,
        doi 10.1145/3532866. The paper's equations are not public: this is a reconstruction. Rank by distance and sort
        by angle is the abstract's; the ranking error is Smooth-AP's (Brown et al., ECCV 2020), the linear step and the
        sorting error RS loss's (Oksuz et al., ICCV 2021); the angle as quality, its weight and the temperature are
        ours.
    """
    check_settings(distance, temperature, relaxation, sort, sort_weight)
    check_batch(embeddings, labels, ref_embeddings, ref_labels)
    with torch.autocast(device_type=embeddings.device.type, enabled=False):
        queries, references, is_self, is_positive = _gather(embeddings, labels, ref_embeddings, ref_labels)
        cosines = cosine_scores(queries, references)
        scores = cosines if distance == "cosine" else euclidean_scores(queries, references, is_self)
        is_negative = ~(is_positive | is_self)
        positives, is_real = pad_positives(is_positive)

        positive_scores = scores.gather(1, positives)
        among_positives = relaxed_step(differences(positive_scores, positive_scores), temperature, relaxation)
        counted = is_real.unsqueeze(1) & ~torch.eye(positives.shape[1], dtype=torch.bool, device=positives.device)
        among_positives = among_positives * counted
        before = relaxed_step(differences(scores, positive_scores), temperature, relaxation)
        false_positives = sum_where(before, is_negative)
        positive_rank = 1 + among_positives.sum(dim=2)
        ranking = false_positives / (positive_rank + false_positives)
        quality = (1 + cosines.gather(1, positives)) / 2
        sorting = sorting_error(among_positives, positive_rank, quality, sort)

        weights = query_weights(is_real.to(scores.dtype))
        ranking_mean, sorting_mean = (weights * ranking).sum(), (weights * sorting).sum()
        loss = ranking_mean + sort_weight * sorting_mean
        if not return_parts:
            return loss
        with torch.no_grad():
            ap, above_all = exact_parts(scores, positive_scores, is_negative, counted)
            parts = DRSLParts(
                ranking_mean.detach(),
                sorting_mean.detach(),
                (weights * ap).sum(),
                (weights * above_all).sum(),
            )
        return loss, parts


def _gather(
    embeddings: Tensor, labels: Tensor, ref_embeddings: Tensor | None, ref_labels: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, references, and the (N, R) masks of the query itself and of its positives."""
    dtype = torch.float64 if embeddings.dtype == torch.float64 else torch.float32
    queries = references = embeddings.to(dtype)
    labels = all_labels = labels.to(queries.device, torch.int64)
    if ref_embeddings is not None and ref_labels is not None:
        references = torch.cat([queries, ref_embeddings.to(queries)])
        all_labels = torch.cat([labels, ref_labels.to(labels)])
    is_self = torch.eye(len(queries), len(references), dtype=torch.bool, device=queries.device)
    is_positive = (labels.unsqueeze(1) == all_labels.unsqueeze(0)) & ~is_self
    return queries, references, is_self, is_positive
