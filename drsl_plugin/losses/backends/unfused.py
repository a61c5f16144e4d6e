"""DRSL as its formula reads, on (N, K, R) tensors: for small batches, and what the fused paths are compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from drsl_plugin.losses.backends.held import Ranks, held_pulls, with_gradient_of
from drsl_plugin.losses.backends.scores import cosine_scores, euclidean_scores
from drsl_plugin.losses.backends.terms import (
    differences,
    exact_parts,
    joint_error,
    pad_positives,
    query_weights,
    relaxed_step,
    sorting_error,
    sum_where,
)
from drsl_plugin.losses.settings import DRSLSettings


def compute_unfused(
    queries: Tensor,
    others: Tensor | None,
    labels: Tensor,
    other_labels: Tensor | None,
    settings: DRSLSettings,
    *,
    exact: bool,
) -> tuple[Tensor, Tensor]:
    """Return loss and parts ``(4,)`` of a batch, with a graph that autograd made: it can be differentiated twice.

    Args:
        queries: ``(N, D)``, float32 or float64.
        others: ``(M, D)`` extra references of the same, or None.
        labels: ``(N,)``.
        other_labels: ``(M,)``, or None.
        settings: of the loss.
        exact: compute ap and above_all too; they are 0 otherwise.
    """
    references, all_labels = queries, labels
    if others is not None and other_labels is not None:
        references, all_labels = torch.cat([queries, others]), torch.cat([labels, other_labels])
    is_self = torch.eye(len(queries), len(references), dtype=torch.bool, device=queries.device)
    is_positive = (labels.unsqueeze(1) == all_labels.unsqueeze(0)) & ~is_self
    cosines = cosine_scores(queries, references)
    scores = cosines if settings.distance == "cosine" else euclidean_scores(queries, references, is_self)
    is_negative = ~(is_positive | is_self)
    positives, is_real = pad_positives(is_positive)

    positive_scores = scores.gather(1, positives)
    gaps_among, gaps = differences(positive_scores, positive_scores), differences(scores, positive_scores)
    counted = is_real.unsqueeze(1) & ~torch.eye(positives.shape[1], dtype=torch.bool, device=positives.device)
    among_positives = relaxed_step(gaps_among, settings.temperature, settings.relaxation) * counted
    before = relaxed_step(gaps, settings.temperature, settings.relaxation)
    if settings.gradient == "error":
        among_positives, before = among_positives.detach(), before.detach()
    false_positives = sum_where(before, is_negative)
    positive_rank = 1 + among_positives.sum(dim=2)
    ranking = false_positives / (positive_rank + false_positives)
    quality = (1 + cosines.gather(1, positives)) / 2
    sorting = sorting_error(among_positives, positive_rank, quality, settings.sort)

    weights = query_weights(is_real.to(scores.dtype))
    ranking_mean, sorting_mean = (weights * ranking).sum(), (weights * sorting).sum()
    if settings.terms == "error":
        loss = ranking_mean + settings.sort_weight * sorting_mean
    else:
        loss = (weights * joint_error(false_positives, positive_rank, sorting, settings)).sum()
    if settings.gradient == "error":
        before = before * is_negative.unsqueeze(1)
        ranks = Ranks(among_positives, before, positive_rank + false_positives, ranking, sorting, quality)
        loss = with_gradient_of(loss, (weights * held_pulls(gaps, gaps_among, ranks, settings)).sum())
    ap = above_all = torch.zeros_like(ranking)
    if exact:
        with torch.no_grad():
            ap, above_all = exact_parts(scores, positive_scores, is_negative, counted)
    parts = [ranking_mean.detach(), sorting_mean.detach(), (weights * ap).sum(), (weights * above_all).sum()]
    return loss, torch.stack(parts)
