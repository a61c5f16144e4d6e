"""The two scores of DRSL for rows of queries, with a gradient that is added up by hand rather than kept in a graph."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from drsl_plugin.losses.backends.scores import largest_entry


class RowScores(Protocol):
    """Scores of queries against references, forward and backward for a slice of the queries."""

    def rows(self, rows: slice) -> Tensor:
        """Return the scores of these queries, ``(n, R)``: against all queries, then against the other references."""

    def add(self, rows: slice, gradient: Tensor) -> None:
        """Add to the gradient of the embeddings what a gradient of the last rows' scores, ``(n, R)``, says of it."""

    def gradients(self) -> list[Tensor]:
        """Return the gradient of the queries and, if there are any, of the other references; empty where not wanted."""


class _Directions(NamedTuple):
    unit: Tensor
    per_length: Tensor
    gradient: Tensor | None


class CosineRows:
    """Cosines; zero vectors as :func:`~drsl_plugin.losses.backends.scores.cosine_scores` has them.

    Args:
        queries: ``(N, D)``.
        others: ``(M, D)``, or None.
        wanted: whether the gradient of the one and of the other is.
    """

    def __init__(self, queries: Tensor, others: Tensor | None, wanted: tuple[bool, bool]) -> None:
        """Normalise all of them."""
        self._queries = _directions(queries, wanted=True in wanted)
        self._others = None if others is None else _directions(others, wanted=wanted[1])

    def rows(self, rows: slice) -> Tensor:
        """Return the cosines of these queries."""
        unit = self._queries.unit
        if self._others is None:
            return unit[rows] @ unit.T
        scores = unit.new_empty(len(unit[rows]), len(unit) + len(self._others.unit))
        torch.mm(unit[rows], unit.T, out=scores[:, : len(unit)])
        torch.mm(unit[rows], self._others.unit.T, out=scores[:, len(unit) :])
        return scores

    def add(self, rows: slice, gradient: Tensor) -> None:
        """Take the gradient through the product."""
        unit, _, total = self._queries
        if total is None:
            return
        among, rest = gradient[:, : len(unit)], gradient[:, len(unit) :]
        if len(gradient) == len(unit):
            total.addmm_(among + among.T, unit)
        else:
            total[rows].addmm_(among, unit)
            total.addmm_(among.T, unit[rows])
        if self._others is not None:
            total[rows].addmm_(rest, self._others.unit)
            if self._others.gradient is not None:
                self._others.gradient.addmm_(rest.T, unit[rows])

    def gradients(self) -> list[Tensor]:
        """Return the gradients, taken through the normalisation."""
        return [_through_normalisation(each) for each in (self._queries, self._others) if each is not None]


class EuclideanRows:
    """Scaled negative distances, as :func:`~drsl_plugin.losses.backends.scores.euclidean_scores` has them.

    Args:
        queries: ``(N, D)``.
        others: ``(M, D)``, or None.
        wanted: whether the gradient of the one and of the other is.
    """

    def __init__(self, queries: Tensor, others: Tensor | None, wanted: tuple[bool, bool]) -> None:
        """Bring all of them to entries of 1 at most."""
        scale = largest_entry(queries)
        if others is not None:
            scale = torch.maximum(scale, largest_entry(others))
        self._scale = torch.where(scale == 0, torch.ones_like(scale), scale)
        self._blocks = [each / self._scale for each in (queries, others) if each is not None]
        self._gradients: list[Tensor | None] = [torch.zeros_like(self._blocks[0]) if True in wanted else None]
        if others is not None:
            self._gradients.append(torch.zeros_like(self._blocks[1]) if wanted[1] else None)
        self._distances: list[Tensor] = []

    def rows(self, rows: slice) -> Tensor:
        """Return the scores of these queries, and keep what their gradient needs."""
        queries = self._blocks[0][rows]
        # Without the matrix product: exact where two embeddings nearly agree, which is where the ranks are decided.
        self._distances = [torch.ops.aten._cdist_forward(queries, block, 2.0, 2) for block in self._blocks]
        distances = torch.cat(self._distances, dim=1)
        is_self = torch.zeros_like(distances, dtype=torch.bool)
        is_self.diagonal(rows.start).fill_(True)
        mean = distances.masked_fill(is_self, 0.0).sum(dim=1, keepdim=True) / max(distances.shape[1] - 1, 1)
        self._mean = torch.where(mean == 0, torch.ones_like(mean), mean)
        return -distances / self._mean

    def add(self, rows: slice, gradient: Tensor) -> None:
        """Take the gradient through the distances."""
        of_queries, queries = self._gradients[0], self._blocks[0][rows]
        if of_queries is None:
            return
        of_distances = torch.split(-gradient / self._mean, [len(block) for block in self._blocks], dim=1)
        for block, distances, each, total in zip(
            self._blocks, self._distances, of_distances, self._gradients, strict=True
        ):
            backward = torch.ops.aten._cdist_backward
            of_queries[rows] += backward(each.contiguous(), queries, block, 2.0, distances)
            if total is not None:
                total += backward(each.T.contiguous(), block, queries, 2.0, distances.T.contiguous())

    def gradients(self) -> list[Tensor]:
        """Return the gradients, taken through the scaling."""
        return [self._scale.new_empty(0) if each is None else each / self._scale for each in self._gradients]


def _directions(vectors: Tensor, *, wanted: bool) -> _Directions:
    # Divided by the largest entry first, so that neither squares nor their sum over- or underflow.
    largest = vectors.abs().amax(dim=1, keepdim=True)
    is_zero = largest < torch.finfo(vectors.dtype).tiny  # a NaN compares false and stays visible
    largest = largest.masked_fill(is_zero, torch.inf)
    unit = vectors / largest
    length = torch.linalg.vector_norm(unit, dim=1, keepdim=True)
    length = torch.where(is_zero, torch.ones_like(length), length)
    unit /= length
    return _Directions(unit, 1 / length / largest, torch.zeros_like(unit) if wanted else None)


def _through_normalisation(directions: _Directions) -> Tensor:
    unit, per_length, gradient = directions
    if gradient is None:
        return unit.new_empty(0)
    along = (gradient * unit).sum(dim=1, keepdim=True)
    return gradient.addcmul_(unit, along, value=-1).mul_(per_length)
