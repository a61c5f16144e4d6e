"""The errors of the positives of some rows, and what the loss says of each of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from drsl_plugin.losses.backends.row_ranks import Ahead, FalsePositives
from drsl_plugin.losses.backends.terms import LEAST_PRECISION, joint_error, share_out
from drsl_plugin.losses.settings import DRSLSettings


class Sorting(NamedTuple):
    """The sorting of the K positives of n queries."""

    error: Tensor
    """``(n, K)``."""
    of_steps: Tensor
    """``(n, K, K)``: its derivative in the steps among positives; for ``order``, where the gradient is the errors
    themselves, the share of it that each other positive has caused."""


class Errors(NamedTuple):
    """The errors of the K positives of n queries, and how the loss depends on them."""

    total: Tensor
    """``(n, K)``: the rank among all references."""
    ranking: Tensor
    """``(n, K)``: the ranking error."""
    joint: Tensor | None
    """``(n, K)``: both errors as one, where the loss is not their weighted sum."""
    of_ranking: Tensor
    """``(n, K)``: derivative of the loss in the ranking error."""
    of_sorting: Tensor
    """``(n, K)``: in the sorting error."""


def sort_positives(ahead: Ahead, quality: Tensor, settings: DRSLSettings) -> Sorting:
    """Return how far each positive's order is from that of the angles.

    Args:
        ahead: the positives among each other.
        quality: ``(n, K)``.
        settings: of the loss; its sort is not ``none``.
    """
    lack, steps = 1 - quality, ahead.steps
    error = (lack + torch.bmm(steps, lack.unsqueeze(2)).squeeze(2)) / ahead.rank
    if settings.sort == "angle":
        return Sorting(error, (lack.unsqueeze(1) - error.unsqueeze(2)) / ahead.rank.unsqueeze(2))
    is_better = quality.unsqueeze(1) >= quality.unsqueeze(2)
    better = steps * is_better
    rank = 1 + better.sum(dim=2)
    target = (lack + torch.bmm(better, lack.unsqueeze(2)).squeeze(2)) / rank
    if settings.gradient == "error":
        return Sorting(error - target, share_out(steps * ~is_better))
    of_steps = (lack.unsqueeze(1) - error.unsqueeze(2)) / ahead.rank.unsqueeze(2)
    of_steps = of_steps - is_better * (lack.unsqueeze(1) - target.unsqueeze(2)) / rank.unsqueeze(2)
    return Sorting(error - target, of_steps)


def weigh_errors(
    weights: Tensor, ahead: Ahead, false: FalsePositives, sorting: Sorting | None, settings: DRSLSettings
) -> Errors:
    """Return the errors, and how the loss depends on them.

    Args:
        weights: ``(n, K)``: of each positive, 0 of padding.
        ahead: the positives among each other.
        false: the negatives ahead of them.
        sorting: of the positives, or None.
        settings: of the loss.
    """
    total = ahead.rank + false.number
    ranking, of_sorting = false.number / total, settings.sort_weight * weights
    if settings.terms == "error":
        return Errors(total, ranking, None, weights, of_sorting)
    error = torch.zeros_like(weights) if sorting is None else sorting.error
    joint = joint_error(false.number, ahead.rank, error, settings)
    if settings.terms == "graded":
        of_ranking = weights * (1 - settings.sort_weight * error)
        return Errors(total, ranking, joint, of_ranking, of_sorting * ahead.rank / total)
    precision = 1 - error
    of_sorting = torch.where(precision < LEAST_PRECISION, torch.zeros_like(error), of_sorting / precision)
    return Errors(total, ranking, joint, weights * total / ahead.rank, of_sorting)
