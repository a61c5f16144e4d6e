"""Rows of scores to the loss of their queries and its gradient, in closed form: no graph, one reading of each row."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from drsl_plugin.losses.backends.identities import Identities
from drsl_plugin.losses.backends.row_errors import Errors, Sorting, sort_positives, weigh_errors
from drsl_plugin.losses.backends.row_ranks import (
    Ahead,
    FalsePositives,
    rank_against_negatives,
    rank_among_positives,
)
from drsl_plugin.losses.settings import DRSLSettings


class RowGradients(NamedTuple):
    """What some rows of scores give; the weights of the queries are in all of it."""

    parts: Tensor
    """``(n, 5)``: ranking, sorting, ap, above_all of each query, and its loss where that is not their weighted sum."""
    scores: Tensor
    """``(n, R)``: gradient of the loss in the scores."""
    cosines: Tensor | None
    """``(n, R)``: gradient in the cosines, where they are not the scores themselves and get one."""


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

    Where the gradient is the errors themselves, :math:`a(i, j) / 2\tau R` on each negative and its sum against i.

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
    ahead = rank_among_positives(positive_scores, is_real, settings, exact)
    # A score of minus infinity is never ahead and has no slope: so the sums are over negatives alone.
    negatives = scores.masked_fill(identities.is_same(rows), -math.inf)
    false = rank_against_negatives(negatives, positive_scores, settings, exact, workspace[: len(scores)])
    sorting = sort_positives(ahead, quality, settings) if settings.sort != "none" else None
    errors = weigh_errors(weights, ahead, false, sorting, settings)

    update = _share_out if settings.gradient == "error" else _differentiate
    of_negatives, of_gaps = update(ahead, sorting, errors, settings)
    gradient = torch.bmm(of_negatives.unsqueeze(1), false.movable).squeeze(1)
    of_positives = -of_negatives * false.movable_sum
    if of_gaps is not None:
        of_positives = of_gaps.sum(dim=1) - of_gaps.sum(dim=2) + of_positives
    of_cosines = None
    if settings.sort == "angle":
        share = errors.of_sorting / ahead.rank
        of_angles = -0.5 * (share + torch.bmm(share.unsqueeze(1), ahead.steps).squeeze(1))  # dy / dcos = 1/2
        if cosines is not None:
            of_cosines = torch.zeros_like(cosines).scatter_add_(1, columns, of_angles)
        else:
            of_positives = of_positives + of_angles
    gradient.scatter_add_(1, columns, of_positives)
    return RowGradients(_parts(weights, ahead, false, sorting, errors), gradient, of_cosines)


def _differentiate(
    ahead: Ahead, sorting: Sorting | None, errors: Errors, settings: DRSLSettings
) -> tuple[Tensor, Tensor | None]:
    """Return the derivative of the loss in the gaps: a factor of the negatives' slopes, and of the positives'."""
    assert ahead.slope is not None
    per_unit = 1 / (settings.temperature if settings.relaxation == "sigmoid" else 2 * settings.temperature)
    of_ahead = -(errors.of_ranking * errors.ranking / errors.total).unsqueeze(2)
    if sorting is not None:
        of_ahead = of_ahead + errors.of_sorting.unsqueeze(2) * sorting.of_steps
    of_negatives = per_unit * errors.of_ranking * ahead.rank / (errors.total * errors.total)
    return of_negatives, per_unit * of_ahead * ahead.slope


def _share_out(
    ahead: Ahead, sorting: Sorting | None, errors: Errors, settings: DRSLSettings
) -> tuple[Tensor, Tensor | None]:
    """Return the errors as pulls in the gaps: a factor of the negatives' steps, and what the positives cause."""
    per_unit = 1 / (2 * settings.temperature)
    of_negatives = per_unit * errors.of_ranking / errors.total
    if sorting is None or settings.sort != "order":
        return of_negatives, None
    return of_negatives, (per_unit * errors.of_sorting * sorting.error).unsqueeze(2) * sorting.of_steps


def _parts(weights: Tensor, ahead: Ahead, false: FalsePositives, sorting: Sorting | None, errors: Errors) -> Tensor:
    """Sum up the parts of each query and its joint value, ``(n, 5)``."""
    parts = torch.zeros(len(weights), 5, dtype=weights.dtype, device=weights.device)
    parts[:, 0] = (weights * errors.ranking).sum(dim=1)
    if sorting is not None:
        parts[:, 1] = (weights * sorting.error).sum(dim=1)
    if ahead.hard_rank is not None and false.hard_number is not None:
        parts[:, 2] = (weights * (ahead.hard_rank / (ahead.hard_rank + false.hard_number))).sum(dim=1)
        parts[:, 3] = (weights * (false.hard_number == 0)).sum(dim=1)
    if errors.joint is not None:
        parts[:, 4] = (weights * errors.joint).sum(dim=1)
    return parts
