"""Rows of scores to the loss of their queries and its gradient, in closed form: no graph, one reading of each row."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from drsl_plugin.losses.backends.identities import Identities
from drsl_plugin.losses.settings import DRSLSettings


class RowGradients(NamedTuple):
    """What some rows of scores give; the weights of the queries are in all of it."""

    parts: Tensor
    """``(n, 4)``: ranking, sorting, ap, above_all of each query."""
    scores: Tensor
    """``(n, R)``: gradient of the loss in the scores."""
    cosines: Tensor | None
    """``(n, R)``: gradient in the cosines, where they are not the scores themselves and get one."""


class Steps(NamedTuple):
    """Relaxed steps, and the mask or values that their slopes come from."""

    values: Tensor
    inside: Tensor | None


class Ahead(NamedTuple):
    """The K positives of n queries among each other."""

    steps: Tensor
    """``(n, K, K)``: how far the second is ahead of the first."""
    slope: Tensor
    """``(n, K, K)``: of the steps, in their own unit."""
    rank: Tensor
    """``(n, K)``, from 1."""
    hard_rank: Tensor | None
    """Likewise by the exact step, where it is asked for."""


class FalsePositives(NamedTuple):
    """The negatives ahead of the K positives of n queries."""

    number: Tensor
    """``(n, K)``."""
    slope: Tensor
    """``(n, K, R)``: of the steps, in their own unit."""
    slopes: Tensor
    """``(n, K)``: the sums of the slopes."""
    hard_number: Tensor | None
    """``(n, K)``: by the exact step, where it is asked for."""


def row_gradients(
    scores: Tensor,
    cosines: Tensor | None,
    identities: Identities,
    weights: Tensor,
    rows: slice,
    settings: DRSLSettings,
    exact: bool,
    workspace: Tensor,
) -> RowGradients:
    r"""Return the loss of some queries and its gradient in their scores.

    With :math:`R = R^+ + F`, the weight w of a query's positive and :math:`h = H'`:

    .. math::

        \frac{\partial \ell_R(i)}{\partial a(i, j)} = \begin{cases} -F / R^2 & j \in P \\ R^+ / R^2 & j \in N
        \end{cases}, \qquad \frac{\partial \ell_S(i)}{\partial a(i, j)} = \frac{1 - y_j - \ell_S(i)}{R^+}, \qquad
        \frac{\partial a(i, j)}{\partial s_j} = h(s_j - s_i) = -\frac{\partial a(i, j)}{\partial s_i}

    Args:
        scores: ``(n, R)``.
        cosines: ``(n, R)`` where they are not the scores themselves and are asked for, or None.
        identities: of all N queries and R references.
        weights: ``(N,)``: of each positive of a query.
        rows: the n queries.
        settings: of the loss.
        exact: compute ap and above_all too.
        workspace: ``(n, K, R)``, or with more rows, K the largest number of positives: overwritten.
    """
    columns, is_real = identities.columns(rows, workspace.shape[1])
    positive_scores = scores.gather(1, columns)
    quality = (1 + (positive_scores if cosines is None else cosines.gather(1, columns))) / 2
    weights = weights[rows].unsqueeze(1) * is_real
    ahead = _rank_among_positives(positive_scores, is_real, settings, exact)
    # A score of minus infinity is never ahead and has no slope: so the sums are over negatives alone.
    negatives = scores.masked_fill(identities.is_same(rows), -math.inf)
    false = _rank_against_negatives(negatives, positive_scores, settings, exact, workspace[: len(scores)])

    total = ahead.rank + false.number
    ranking = false.number / total
    per_unit = 1 / (settings.temperature if settings.relaxation == "sigmoid" else 2 * settings.temperature)
    of_negatives = per_unit * weights * ahead.rank / (total * total)
    gradient = torch.bmm(of_negatives.unsqueeze(1), false.slope).squeeze(1)
    of_ahead = -(weights * ranking / total).unsqueeze(2)
    sorting, of_angles = None, None
    if settings.sort != "none":
        sorting, of_sorting = _sorting(ahead.steps, ahead.rank, quality, settings)
        of_ahead = of_ahead + (settings.sort_weight * weights).unsqueeze(2) * of_sorting
        if settings.sort == "angle":
            share = settings.sort_weight * weights / ahead.rank
            of_angles = -0.5 * (share + torch.bmm(share.unsqueeze(1), ahead.steps).squeeze(1))  # dy / dcos = 1/2
    of_gaps = per_unit * of_ahead * ahead.slope
    of_positives = of_gaps.sum(dim=1) - of_gaps.sum(dim=2) - of_negatives * false.slopes
    of_cosines = None
    if of_angles is not None and cosines is not None:
        of_cosines = torch.zeros_like(cosines).scatter_add_(1, columns, of_angles)
    elif of_angles is not None:
        of_positives = of_positives + of_angles
    gradient.scatter_add_(1, columns, of_positives)
    return RowGradients(_parts(weights, ranking, sorting, ahead, false), gradient, of_cosines)


def _rank_among_positives(positive_scores: Tensor, is_real: Tensor, settings: DRSLSettings, exact: bool) -> Ahead:
    """Rank each positive of some queries among the others."""
    count = positive_scores.shape[1]
    among = torch.ones(count, count, dtype=positive_scores.dtype, device=positive_scores.device).fill_diagonal_(0)
    among = among * is_real.unsqueeze(1)
    gaps = positive_scores.unsqueeze(1) - positive_scores.unsqueeze(2)
    hard_rank = 1 + ((gaps >= 0) * among).sum(dim=2) if exact else None
    steps = _step(gaps, settings)
    ahead = steps.values * among
    slope = _slope(steps) * among
    return Ahead(ahead, slope, 1 + ahead.sum(dim=2), hard_rank)


def _rank_against_negatives(
    negatives: Tensor, positive_scores: Tensor, settings: DRSLSettings, exact: bool, workspace: Tensor
) -> FalsePositives:
    """Count the negatives ahead of each positive of some queries; ``workspace`` becomes the slope."""
    gaps = torch.sub(negatives.unsqueeze(1), positive_scores.unsqueeze(2), out=workspace)
    hard_number = (gaps >= 0).sum(dim=2) if exact else None
    steps = _step(gaps, settings)
    number = steps.values.sum(dim=2)
    slope = _slope(steps)
    return FalsePositives(number, slope, slope.sum(dim=2), hard_number)  # summed up here, while it is in the cache


def _parts(weights: Tensor, ranking: Tensor, sorting: Tensor | None, ahead: Ahead, false: FalsePositives) -> Tensor:
    """Sum up the parts of each query, ``(n, 4)``."""
    parts = torch.zeros(len(weights), 4, dtype=ranking.dtype, device=ranking.device)
    parts[:, 0] = (weights * ranking).sum(dim=1)
    if sorting is not None:
        parts[:, 1] = (weights * sorting).sum(dim=1)
    if ahead.hard_rank is not None and false.hard_number is not None:
        parts[:, 2] = (weights * (ahead.hard_rank / (ahead.hard_rank + false.hard_number))).sum(dim=1)
        parts[:, 3] = (weights * (false.hard_number == 0)).sum(dim=1)
    return parts


def _sorting(ahead: Tensor, rank: Tensor, quality: Tensor, settings: DRSLSettings) -> tuple[Tensor, Tensor]:
    """Sorting error of each positive, (n, K), and its gradient in the steps among positives, (n, K, K)."""
    lack = 1 - quality
    error = (lack + torch.bmm(ahead, lack.unsqueeze(2)).squeeze(2)) / rank
    gradient = (lack.unsqueeze(1) - error.unsqueeze(2)) / rank.unsqueeze(2)
    if settings.sort == "angle":
        return error, gradient
    is_better = quality.unsqueeze(1) >= quality.unsqueeze(2)
    better = ahead * is_better
    rank = 1 + better.sum(dim=2)
    target = (lack + torch.bmm(better, lack.unsqueeze(2)).squeeze(2)) / rank
    return error - target, gradient - is_better * (lack.unsqueeze(1) - target.unsqueeze(2)) / rank.unsqueeze(2)


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
