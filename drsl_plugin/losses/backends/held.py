r"""The error-driven gradient on (N, K, R) tensors: pulls that are held while the scores are differentiated."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from drsl_plugin.losses.backends.derivatives import refuse_second_derivative
from drsl_plugin.losses.backends.terms import share_out
from drsl_plugin.losses.settings import DRSLSettings


class Ranks(NamedTuple):
    """What the pulls of N queries' K positives are made of."""

    among: Tensor
    """``(N, K, K)``: how far the second positive is ahead of the first."""
    before: Tensor
    """``(N, K, R)``: how far a reference is ahead of a positive, 0 where it is no negative."""
    total: Tensor
    """``(N, K)``: the rank of each positive among all."""
    ranking: Tensor
    """``(N, K)``, its ranking error."""
    sorting: Tensor
    """``(N, K)``, its sorting error."""
    quality: Tensor
    """``(N, K)``."""


def held_pulls(gaps: Tensor, gaps_among: Tensor, ranks: Ranks, settings: DRSLSettings) -> Tensor:
    r"""Return a sum for each positive i, (N, K), of which the derivative is the error-driven update.

    .. math:: \frac{1}{2\tau} \sum_j L_{ij} (s_j - s_i), \qquad \sum_j L_{ij} = \text{the error of } i

    with :math:`L_{ij}` the share of the error that j has caused: of the ranking error the negatives ahead, and for
    ``order`` of the sorting error the positives ahead of less quality. ``graded`` weighs each error by the
    precision that the other leaves.

    Args:
        gaps: ``(N, K, R)``, the scores of the references less those of the positives.
        gaps_among: ``(N, K, K)``, likewise of the positives.
        ranks: of which nothing is differentiated.
        settings: of the loss.
    """
    among, before, total, ranking, sorting, quality = (each.detach() for each in ranks)
    of_ranking, of_sorting = torch.ones_like(ranking), torch.full_like(ranking, settings.sort_weight)
    if settings.terms == "graded":
        of_ranking, of_sorting = 1 - settings.sort_weight * sorting, settings.sort_weight * (1 - ranking)
    pulls = of_ranking / total * (before * gaps).sum(dim=2)
    if settings.sort == "order":
        shares = share_out(among * (quality.unsqueeze(1) < quality.unsqueeze(2)))
        pulls = pulls + of_sorting * sorting * (shares * gaps_among).sum(dim=2)
    return pulls / (2 * settings.temperature)


def with_gradient_of(value: Tensor, surrogate: Tensor) -> Tensor:
    """Return a value whose gradient is its own and, added to it, that of another; it has no second derivative.

    Args:
        value: a scalar.
        surrogate: a scalar.
    """
    with_gradient: Tensor = _WithGradientOf.apply(value, surrogate)
    return with_gradient


class _WithGradientOf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor, surrogate: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        refuse_second_derivative("where its gradient is 'error', which is no derivative; gradient='slope' has one")
        return gradient, gradient
