"""A memory of earlier embeddings: a ring from which a batch gets references without gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from drsl_plugin.errors import RangeError
from drsl_plugin.losses.settings import DRSLSettings

_NUMBERS = ("size", "filled", "position", "batches")


class MemoryState(TypedDict):
    """What a checkpoint keeps of a memory."""

    size: int
    filled: int
    position: int
    batches: int
    embeddings: Tensor | None
    """``(filled, D)``; None before the first batch."""
    labels: Tensor | None
    """``(filled,)``; None likewise."""


def write_ring(ring: Tensor, rows: Tensor, position: int) -> None:
    """Write rows into a ring from a position on; after its end they go on at its beginning.

    Args:
        ring: ``(M, …)``, changed in place.
        rows: ``(N, …)`` of any dtype, N ≤ M.
        position: where the first of them goes, from 0.

    Example:
        >>> ring = torch.zeros(4, dtype=torch.int64)
        >>> write_ring(ring, torch.tensor([5, 6, 7]), position=2)
        >>> ring
        tensor([7, 0, 5, 6])
    """
    before_the_end = min(len(rows), len(ring) - position)
    ring[position : position + before_the_end].copy_(rows[:before_the_end])
    ring[: len(rows) - before_the_end].copy_(rows[before_the_end:])


class EmbeddingMemory(nn.Module):
    """A ring of the embeddings and labels of earlier batches, without gradient.

    The oldest go first. Its tensors are buffers that follow ``.to(device)`` and are in no ``state_dict``, so that a
    model which holds one has the weights of one which does not; :meth:`state` and :meth:`load` are for checkpoints.
    What it counts are Python integers: none is read from the device, and ``torch.compile`` would compile every step
    anew. Compile the network, and not a loss with a memory.

    Args:
        size: how many embeddings it holds, at least the largest batch (of all processes).
        warmup: how many batches are stored before it takes part. Storing begins with the first: embeddings of the
            first steps soon mean nothing, and with a warm-up of ``size`` over the batch none of them takes part.

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> memory = EmbeddingMemory(size=3)
        >>> memory.store(torch.eye(2), torch.tensor([7, 8]))
        >>> memory.store(torch.eye(2), torch.tensor([9, 9]))  # the oldest makes room
        >>> memory.entries()[1]
        tensor([9, 8, 9])

    Source:
        X. Wang, H. Zhang, W. Huang, M. R. Scott, "Cross-Batch Memory for Embedding Learning", CVPR 2020. Its own
        stores nothing during the warm-up, and is filled after it: :func:`~drsl_plugin.losses.filling.fill_memories`.
    """

    embeddings: Tensor | None
    labels: Tensor | None

    def __init__(self, size: int, warmup: int = 0) -> None:
        """Check the settings; the ring is made with the first batch, of its width, precision and device."""
        super().__init__()
        DRSLSettings(memory_size=size, memory_warmup=warmup)
        if size == 0:
            raise RangeError("memory_size", size, "a whole number, 1 or above")
        self.size = size
        self.warmup = warmup
        self.filled = self.position = self.batches = 0
        self.register_buffer("embeddings", None, persistent=False)
        self.register_buffer("labels", None, persistent=False)

    def check(self, embeddings: Tensor, processes: int = 1) -> None:
        """Check that a batch can be stored; reads no value of a tensor.

        Args:
            embeddings: ``(N, D)``, those of one process.
            processes: how many processes store as many.

        Raises:
            ValueError: more than it holds, another width or another device.
        """
        count = len(embeddings) * processes
        if count > self.size:
            of = f"{count}" if processes == 1 else f"{processes} processes, {count} embeddings in all"
            raise RangeError("memory_size", self.size, f"at least the batch of {of}")
        if self.embeddings is None:
            return
        if embeddings.shape[1] != self.embeddings.shape[1]:
            raise ValueError(
                f"embeddings must have the {self.embeddings.shape[1]} dimensions of those in the memory, got shape "
                f"{tuple(embeddings.shape)}; each feature needs a memory of its own"
            )
        if embeddings.device != self.embeddings.device:
            raise ValueError(
                f"embeddings must be on the device of the memory, {self.embeddings.device}, got {embeddings.device}; "
                "criterion.to(device) moves it"
            )

    def entries(self) -> tuple[Tensor, Tensor] | None:
        """Return the embeddings, ``(M, D)``, and labels, ``(M,)``, that take part; None while none do.

        They are views of the ring, which the next :meth:`store` changes.
        """
        if self.embeddings is None or self.labels is None or self.batches < self.warmup:
            return None
        return self.embeddings[: self.filled], self.labels[: self.filled]

    def join(
        self, embeddings: Tensor, ref_embeddings: Tensor | None, ref_labels: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the extra references of a batch, and after them those of the memory.

        Args:
            embeddings: ``(N, D)``, the batch, whose precision and device the references get.
            ref_embeddings: ``(M, D)`` extra references, or None.
            ref_labels: ``(M,)``, their labels, or None.
        """
        entries = self.entries()
        if entries is None:
            return ref_embeddings, ref_labels
        if ref_embeddings is None or ref_labels is None:
            return entries
        dtype = torch.float64 if embeddings.dtype == torch.float64 else torch.float32
        kept, kept_labels = entries[0].to(dtype), entries[1]
        return torch.cat([ref_embeddings.to(kept), kept]), torch.cat([ref_labels.to(kept_labels), kept_labels])

    def store(self, embeddings: Tensor, labels: Tensor) -> None:
        """Store copies of a batch in place of the oldest; float64 is kept, anything lower becomes float32.

        Args:
            embeddings: ``(N, D)``.
            labels: ``(N,)`` integers.

        Raises:
            ValueError: more than it holds, another width or another device.
        """
        self.put(embeddings, labels)
        self.batches += 1

    def put(self, embeddings: Tensor, labels: Tensor) -> None:
        """Store rows as :meth:`store` does, but count no batch.

        Args:
            embeddings: ``(N, D)``.
            labels: ``(N,)`` integers.

        Raises:
            ValueError: more than it holds, another width or another device.
        """
        self.check(embeddings)
        if self.embeddings is None or self.labels is None:
            dtype = torch.float64 if embeddings.dtype == torch.float64 else torch.float32
            self.embeddings = embeddings.new_zeros((self.size, embeddings.shape[1]), dtype=dtype)
            self.labels = torch.zeros(self.size, dtype=torch.int64, device=embeddings.device)
        write_ring(self.embeddings, embeddings.detach(), self.position)
        write_ring(self.labels, labels, self.position)
        self.position = (self.position + len(embeddings)) % self.size
        self.filled = min(self.filled + len(embeddings), self.size)

    def clear(self) -> None:
        """Forget all embeddings; the batches stay counted."""
        self.filled = self.position = 0

    def state(self) -> MemoryState:
        """Return all that :meth:`load` needs, copied: numbers and the tensors as far as they are filled."""
        return MemoryState(
            size=self.size,
            filled=self.filled,
            position=self.position,
            batches=self.batches,
            embeddings=None if self.embeddings is None else self.embeddings[: self.filled].clone(),
            labels=None if self.labels is None else self.labels[: self.filled].clone(),
        )

    def load(self, state: Mapping[str, Any], device: torch.device | str | None = None) -> None:
        """Go on from a state of :meth:`state`.

        Args:
            state: the state.
            device: where the ring shall be; by default where the state's tensors are.

        Raises:
            ValueError: no such state, or that of a memory of another size.
        """
        missing = [name for name in (*_NUMBERS, "embeddings", "labels") if name not in state]
        if missing:
            raise ValueError(f"not the state of a memory: no {' and no '.join(missing)} in it")
        if state["size"] != self.size:
            raise RangeError("memory_size", self.size, f"{state['size']}, that of the saved memory")
        self.filled, self.position, self.batches = (int(state[name]) for name in _NUMBERS[1:])
        self.embeddings = self.labels = None
        if state["embeddings"] is not None:
            for name in ("embeddings", "labels"):
                saved = state[name].detach()
                ring = saved.new_zeros((self.size, *saved.shape[1:]), device=device or saved.device)
                write_ring(ring, saved, 0)
                setattr(self, name, ring)

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"size={self.size}, warmup={self.warmup}"
