"""The two scores of DRSL, higher is nearer: the cosine, and the scaled negative Euclidean distance."""

from __future__ import annotations

import torch
from torch import Tensor


def cosine_scores(queries: Tensor, references: Tensor) -> Tensor:
    r"""Cosine of the angle between each query and each reference.

    .. math:: \cos\theta_{qj} = \frac{x_q \cdot x_j}{\lVert x_q \rVert \lVert x_j \rVert}

    A zero vector has cosine 0 to everything, with zero gradient.

    Args:
        queries: ``(N, D)``, any scale.
        references: ``(R, D)``, any scale.

    Returns:
        ``(N, R)``, in [-1, 1] up to rounding.

    Example:
        >>> cosine_scores(torch.tensor([[2.0, 0.0]]), torch.tensor([[5.0, 0.0], [0.0, 0.0]]))
        tensor([[1., 0.]])
    """
    return _unit(queries) @ _unit(references).T


def euclidean_scores(queries: Tensor, references: Tensor, is_self: Tensor) -> Tensor:
    r"""Negative Euclidean distance in units of the query's mean distance to its references.

    .. math:: s_{qj} = -\frac{d_{qj}}{m_q}, \qquad m_q = \operatorname{mean}_{j} d_{qj}

    :math:`m_q` carries no gradient, so the scale of the embeddings does not matter. Where the distance is 0 its
    gradient is 0; where every reference is at distance 0, so is the score.

    Args:
        queries: ``(N, D)``, not normalised.
        references: ``(R, D)``, not normalised.
        is_self: ``(N, R)``, true where the reference is the query itself, which :math:`m_q` leaves out.

    Returns:
        ``(N, R)``, at most 0.

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [3.0]])
        >>> euclidean_scores(points[:1], points, torch.tensor([[True, False, False]])).neg()
        tensor([[0.0000, 0.5000, 1.5000]])
    """
    scale = torch.maximum(largest_entry(queries), largest_entry(references)).detach()
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    # Without the matrix product: exact where two embeddings nearly agree, which is where the ranks are decided.
    distances = torch.cdist(queries / scale, references / scale, compute_mode="donot_use_mm_for_euclid_dist")
    count = (~is_self).sum(dim=1, keepdim=True).clamp(min=1)
    mean = distances.detach().masked_fill(is_self, 0.0).sum(dim=1, keepdim=True) / count
    return -distances / torch.where(mean == 0, torch.ones_like(mean), mean)


def _unit(vectors: Tensor) -> Tensor:
    # Divided by the largest entry first, so that neither squares nor their sum over- or underflow.
    largest = vectors.detach().abs().amax(dim=1, keepdim=True)
    is_zero = largest < torch.finfo(vectors.dtype).tiny  # a NaN compares false and stays visible
    scaled = vectors / torch.where(is_zero, torch.ones_like(largest), largest)
    scaled = scaled.masked_fill(is_zero, 0.0)
    length = torch.where(is_zero, torch.ones_like(largest), scaled).pow(2).sum(dim=1, keepdim=True).sqrt()
    return scaled / length


def largest_entry(vectors: Tensor) -> Tensor:
    """Return the largest absolute entry, a scalar; 0 of no vectors."""
    return vectors.abs().amax() if vectors.numel() else vectors.new_zeros(())
