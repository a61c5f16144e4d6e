"""DRSL as a module that holds its settings."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor, nn

from drsl_plugin.losses.checks import Backend, Distance, Relaxation, Sort, check_computation, check_settings
from drsl_plugin.losses.functional import DRSLParts, drsl_loss


class DRSLoss(nn.Module):
    """Differentiable Retrieval-Sort Loss with fixed settings; the formula stands in :func:`drsl_loss`.

    Args:
        distance: the ranking score, ``"cosine"`` or ``"euclidean"``.
        temperature: width of the relaxed step, above 0.
        relaxation: the step, ``"sigmoid"`` or ``"linear"``.
        sort: the sorting term, ``"angle"``, ``"order"`` or ``"none"``.
        sort_weight: weight of the sorting term, 0 or above.
        backend: how it is computed, see :func:`drsl_loss`, like the next.
        chunk_budget: bytes for the rows that a fused path works on at a time.

    Raises:
        ValueError: a setting outside its values or range.

    Example:
        >>> import torch
        >>> criterion = DRSLoss(temperature=0.02, sort="none")
        >>> criterion(torch.eye(4), torch.tensor([0, 0, 1, 1])).item()
        0.5
        >>> criterion
        DRSLoss(distance='cosine', temperature=0.02, relaxation='sigmoid', sort='none', sort_weight=1.0)
    """

    def __init__(
        self,
        distance: Distance = "cosine",
        temperature: float = 0.05,
        relaxation: Relaxation = "sigmoid",
        sort: Sort = "angle",
        sort_weight: float = 1.0,
        backend: Backend = "auto",
        chunk_budget: int | None = None,
    ) -> None:
        """Check the settings and keep them."""
        super().__init__()
        check_settings(distance, temperature, relaxation, sort, sort_weight)
        check_computation(backend, chunk_budget)
        self.distance: Distance = distance
        self.temperature = temperature
        self.relaxation: Relaxation = relaxation
        self.sort: Sort = sort
        self.sort_weight = sort_weight
        self.backend: Backend = backend
        self.chunk_budget = chunk_budget

    @overload
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        ref_embeddings: Tensor | None = None,
        ref_labels: Tensor | None = None,
        *,
        return_parts: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        ref_embeddings: Tensor | None = None,
        ref_labels: Tensor | None = None,
        *,
        return_parts: Literal[True],
    ) -> tuple[Tensor, DRSLParts]: ...

    @overload
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        ref_embeddings: Tensor | None = None,
        ref_labels: Tensor | None = None,
        *,
        return_parts: bool,
    ) -> Tensor | tuple[Tensor, DRSLParts]: ...

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        ref_embeddings: Tensor | None = None,
        ref_labels: Tensor | None = None,
        *,
        return_parts: bool = False,
    ) -> Tensor | tuple[Tensor, DRSLParts]:
        """Return the loss of a batch, and with ``return_parts`` its parts: see :func:`drsl_loss`."""
        return drsl_loss(
            embeddings,
            labels,
            ref_embeddings,
            ref_labels,
            distance=self.distance,
            temperature=self.temperature,
            relaxation=self.relaxation,
            sort=self.sort,
            sort_weight=self.sort_weight,
            backend=self.backend,
            chunk_budget=self.chunk_budget,
            return_parts=return_parts,
        )

    def extra_repr(self) -> str:
        """Show the settings."""
        return (
            f"distance={self.distance!r}, temperature={self.temperature}, relaxation={self.relaxation!r}, "
            f"sort={self.sort!r}, sort_weight={self.sort_weight}"
        )
