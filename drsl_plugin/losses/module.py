"""DRSL as a module that holds its settings."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from drsl_plugin.errors import RangeError, SettingError
from drsl_plugin.losses.backends.centering import count_moving
from drsl_plugin.losses.backends.choice import compute_loss
from drsl_plugin.losses.checks import check_batch
from drsl_plugin.losses.functional import DRSLParts
from drsl_plugin.losses.memory import EmbeddingMemory
from drsl_plugin.losses.settings import DRSLOptions, DRSLSettings, LossOptions
from drsl_plugin.losses.signatures import show_options


class DRSLoss(nn.Module):
    """Differentiable Retrieval-Sort Loss with fixed settings; the formula stands in :func:`drsl_loss`.

    Each setting is an attribute; all but those of the memory can be set anew, such as the temperature by a schedule.

    Args:
        distance: the ranking score, ``"cosine"`` or ``"euclidean"``.
        temperature: width of the relaxed step, above 0.
        relaxation: the step, ``"sigmoid"`` or ``"linear"``.
        sort: the sorting term, ``"angle"``, ``"order"`` or ``"none"``.
        sort_weight: weight of the sorting term, 0 or above.
        gradient: of the ranks, ``"slope"`` or ``"error"``.
        terms: how a positive's two errors make its loss, ``"error"``, ``"log"`` or ``"graded"``.
        center: take the mean from the batch's embeddings, and from those of the memory theirs.
        memory_size: how many embeddings of earlier batches are references too, at least a batch; 0 for none. See
            :class:`~drsl_plugin.losses.EmbeddingMemory`; it is ``criterion.memory``.
        memory_share: the memory's size as a share of the training images, from 0 to 1, in place of ``memory_size``;
            :meth:`make_memory` is then told how many there are.
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
        >>> criterion  # doctest: +NORMALIZE_WHITESPACE
        DRSLoss(distance='cosine', temperature=0.02, relaxation='sigmoid', sort='none', sort_weight=1.0,
                gradient='error', terms='error', center=False)
    """

    settings: DRSLSettings
    memory: EmbeddingMemory | None

    @show_options(DRSLOptions)
    def __init__(self, *values: Any, **options: Unpack[DRSLOptions]) -> None:
        """Check the settings and keep them."""
        super().__init__()
        self.settings = DRSLSettings(*values, **options)
        self.memory = (
            EmbeddingMemory(self.settings.memory_size, self.settings.memory_warmup)
            if self.settings.memory_size
            else None
        )

    @classmethod
    def from_settings(cls, settings: DRSLSettings) -> DRSLoss:
        """Make the loss of settings that are built already.

        Example:
            >>> DRSLoss.from_settings(DRSLSettings(sort="order")).sort
            'order'
        """
        return cls(**dataclasses.asdict(settings))

    def __getattr__(self, name: str) -> Any:
        """Return a setting by its name, or what any module has."""
        if name in DRSLSettings.settings() and "settings" in self.__dict__:
            return getattr(self.settings, name)
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: object) -> None:
        """Set a setting by its name, or what any module has.

        Raises:
            SettingError: a value that the setting does not take.
            AttributeError: a setting of the memory, which is made once.
        """
        if name in LossOptions.__annotations__:
            changed: dict[str, Any] = {name: value}
            self.settings = dataclasses.replace(self.settings, **changed)
        elif name in DRSLOptions.__annotations__:
            raise AttributeError(f"{name} cannot be set anew: the memory is made with the loss")
        else:
            super().__setattr__(name, value)  # type: ignore[arg-type]  # torch names tensors and modules alone

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

        In training mode the memory's embeddings are references after those given, and after the loss the batch is
        stored. In evaluation mode the memory is left alone. Without gradients (``torch.no_grad``), or with ``remember``
        False, nothing is stored: a step that is only looked at is none.
        """
        check_batch(embeddings, labels, ref_embeddings, ref_labels)
        memory = self.active_memory
        if memory is not None:
            memory.check(embeddings)
        loss, parts = self.compute(embeddings, labels, ref_embeddings, ref_labels, exact=return_parts)
        if memory is not None and remember and torch.is_grad_enabled():
            memory.store(embeddings, labels)
        return (loss, DRSLParts(*parts.unbind())) if return_parts else loss

    def make_memory(self, images: int, batch: int = 1) -> int:
        """Make the memory whose size was given as a share of the training images, before the first batch.

        Args:
            images: how many there are, of all sources joined.
            batch: how many embeddings are stored at a time, those of all processes: its least size.

        Returns:
            Its size; ``memory_size`` stays 0.

        Raises:
            SettingError: no share was given.

        Example:
            >>> criterion = DRSLoss(memory_share=0.25, memory_warmup=100)
            >>> criterion.make_memory(images=12936, batch=64)
            3234
            >>> criterion.memory
            EmbeddingMemory(size=3234, warmup=100)
        """
        if self.settings.memory_share == 0:
            raise RangeError("memory_share", 0, "above 0 where a memory is made by it")
        size = max(round(self.settings.memory_share * images), batch, 1)
        self.memory = EmbeddingMemory(size, self.settings.memory_warmup)
        return size

    @property
    def lacks_memory(self) -> bool:
        """Whether :meth:`make_memory` has yet to be called."""
        return self.settings.memory_share > 0 and self.memory is None

    @property
    def memory_setting(self) -> tuple[str, float]:
        """The setting that gives the memory its size, and its value."""
        name = "memory_share" if self.settings.memory_share > 0 else "memory_size"
        return name, getattr(self.settings, name)

    @property
    def active_memory(self) -> EmbeddingMemory | None:
        """The memory where it takes part: in training mode.

        Raises:
            SettingError: it is to be a share of training images whose number nobody has told.
        """
        if not self.training:
            return None
        if self.lacks_memory:
            needs = "a share of how many training images? make_memory(images) of the loss takes their number"
            raise SettingError("memory_share", self.settings.memory_share, needs)
        return self.memory

    def compute(
        self,
        embeddings: Tensor,
        labels: Tensor,
        ref_embeddings: Tensor | None,
        ref_labels: Tensor | None,
        *,
        exact: bool,
        of_batch: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return loss and parts, ``(4,)``, of a batch that has been checked, against the memory too; store nothing.

        Args:
            embeddings: ``(N, D)``.
            labels: ``(N,)``.
            ref_embeddings: ``(M, D)`` extra references, or None.
            ref_labels: ``(M,)``, or None.
            exact: compute ap and above_all too; they are 0 otherwise.
            of_batch: how many of the extra references, the first, are of the queries' batch, where it is centred; None
                for all, or none where they have no gradient.
        """
        if of_batch is None:
            of_batch = count_moving(ref_embeddings)
        if self.active_memory is not None:
            ref_embeddings, ref_labels = self.active_memory.join(embeddings, ref_embeddings, ref_labels)
        batch = (embeddings, labels, ref_embeddings, ref_labels)
        return compute_loss(*batch, self.settings, exact=exact, of_batch=of_batch)

    def extra_repr(self) -> str:
        """Show the settings that the loss's value depends on; the memory shows its own."""
        shown = (name for name in LossOptions.__annotations__ if name not in ("backend", "chunk_budget"))
        return ", ".join(f"{name}={getattr(self.settings, name)!r}" for name in shown)
