"""DRSL as a module that holds its settings."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor, nn

from drsl_plugin.losses.checks import (
    Backend,
    Distance,
    Relaxation,
    Sort,
    check_batch,
    check_computation,
    check_settings,
)
from drsl_plugin.losses.functional import DRSLParts, drsl_loss
from drsl_plugin.losses.memory import EmbeddingMemory, check_memory


class DRSLoss(nn.Module):
    """Differentiable Retrieval-Sort Loss with fixed settings; the formula stands in :func:`drsl_loss`.

    Args:
        distance: the ranking score, ``"cosine"`` or ``"euclidean"``.
        temperature: width of the relaxed step, above 0.
        relaxation: the step, ``"sigmoid"`` or ``"linear"``.
        sort: the sorting term, ``"angle"``, ``"order"`` or ``"none"``.
        sort_weight: weight of the sorting term, 0 or above.
        memory_size: how many embeddings of earlier batches are references too, at least a batch; 0 for none. See
            :class:`~drsl_plugin.losses.EmbeddingMemory`; it is ``criterion.memory``.
        memory_warmup: how many batches are stored before the memory takes part.
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
        memory_size: int = 0,
        memory_warmup: int = 0,
        backend: Backend = "auto",
        chunk_budget: int | None = None,
    ) -> None:
        """Check the settings and keep them."""
        super().__init__()
        check_settings(distance, temperature, relaxation, sort, sort_weight)
        check_memory(memory_size, memory_warmup)
        check_computation(backend, chunk_budget)
        self.distance: Distance = distance
        self.temperature = temperature
        self.relaxation: Relaxation = relaxation
        self.sort: Sort = sort
        self.sort_weight = sort_weight
        self.memory = EmbeddingMemory(memory_size, memory_warmup) if memory_size else None
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
        remember: bool = True,
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
        remember: bool = True,
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
        remember: bool = True,
    ) -> Tensor | tuple[Tensor, DRSLParts]: ...

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        ref_embeddings: Tensor | None = None,
        ref_labels: Tensor | None = None,
        *,
        return_parts: bool = False,
        remember: bool = True,
    ) -> Tensor | tuple[Tensor, DRSLParts]:
        """Return the loss of a batch, and with ``return_parts`` its parts: see :func:`drsl_loss`.

        In training mode the memory's embeddings are references behind those given, and behind the loss the batch is
        stored. In evaluation mode the memory is left alone. Without gradients (``torch.no_grad``), or with ``remember``
        False, nothing is stored: a step that is only looked at is none.
        """
        memory = self.memory if self.training else None
        if memory is not None:
            check_batch(embeddings, labels, ref_embeddings, ref_labels)
            memory.check(embeddings)
            ref_embeddings, ref_labels = memory.join(embeddings, ref_embeddings, ref_labels)
        result = drsl_loss(
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
        if memory is not None and remember and torch.is_grad_enabled():
            memory.store(embeddings, labels)
        return result

    def extra_repr(self) -> str:
        """Show the settings."""
        return (
            f"distance={self.distance!r}, temperature={self.temperature}, relaxation={self.relaxation!r}, "
            f"sort={self.sort!r}, sort_weight={self.sort_weight}"
        )
