"""The ranks of the positives of some rows of scores, among each other and against the negatives."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from drsl_plugin.losses.settings import DRSLSettings


class Steps(NamedTuple):
    """Relaxed steps, and the mask or values that their slopes come from."""

    values: Tensor
    inside: Tensor | None


class Ahead(NamedTuple):
    """The K positives of n queries among each other."""

    steps: Tensor
    """``(n, K, K)``: how far the second is ahead of the first."""
    slope: Tensor | None
    """``(n, K, K)``: of the steps, in their own unit; None where the gradient is the errors themselves."""
    rank: Tensor
    """``(n, K)``, from 1."""
    hard_rank: Tensor | None
    """Likewise by the exact step, where it is asked for."""


class FalsePositives(NamedTuple):
    """The negatives ahead of the K positives of n queries."""

    number: Tensor
    """``(n, K)``."""
    movable: Tensor
    """``(n, K, R)``: by how much a move of each score counts: the slope of its step in the step's own unit, or, where
    the gradient is the errors themselves, the step."""
    movable_sum: Tensor
    """``(n, K)``: its sums."""
    hard_number: Tensor | None
    """``(n, K)``: by the exact step, where it is asked for."""


def rank_among_positives(positive_scores: Tensor, is_real: Tensor, settings: DRSLSettings, exact: bool) -> Ahead:
    """Rank each positive of some queries among the others."""
    count = positive_scores.shape[1]
    among = torch.ones(count, count, dtype=positive_scores.dtype, device=positive_scores.device).fill_diagonal_(0)
    among = among * is_real.unsqueeze(1)
    gaps = positive_scores.unsqueeze(1) - positive_scores.unsqueeze(2)
    hard_rank = 1 + ((gaps >= 0) * among).sum(dim=2) if exact else None
    steps = _step(gaps, settings)
    ahead = steps.values * among
    slope = _slope(steps) * among if settings.gradient == "slope" else None
    return Ahead(ahead, slope, 1 + ahead.sum(dim=2), hard_rank)


def rank_against_negatives(
    negatives: Tensor, positive_scores: Tensor, settings: DRSLSettings, exact: bool, workspace: Tensor
) -> FalsePositives:
    """Count the negatives ahead of each positive of some queries; ``workspace`` becomes what is movable."""
    gaps = torch.sub(negatives.unsqueeze(1), positive_scores.unsqueeze(2), out=workspace)
    hard_number = (gaps >= 0).sum(dim=2) if exact else None
    steps = _step(gaps, settings)
    number = steps.values.sum(dim=2)
    if settings.gradient == "error":
        return FalsePositives(number, steps.values, number, hard_number)
    slope = _slope(steps)
    return FalsePositives(number, slope, slope.sum(dim=2), hard_number)  # summed up here, while it is in the cache


def _step(gaps: Tensor, settings: DRSLSettings) -> Steps:
    """Relaxed step of the gaps, in place."""
    if settings.relaxation == "sigmoid":
        return Steps(gaps.div_(settings.temperature).sigmoid_(), None)
    inside = gaps.abs() < settings.temperature
    line = gaps / (2 * settings.temperature) + 0.5
    # Not `inside` alone: a NaN is neither inside nor outside, and has to stay.
    outside = gaps.abs() >= settings.temperature
    return Steps(torch.where(outside, (gaps > 0).to(gaps.dtype), line), inside)


def _slope(steps: Steps) -> Tensor:
    """Slope of the relaxed step at the same places, in its own unit; of a sigmoid in place."""
    values = steps.values
    return values.addcmul_(values, values, value=-1) if steps.inside is None else steps.inside.to(values.dtype)
