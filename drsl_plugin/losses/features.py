"""The loss of a model that returns several features: a memory for each of them."""

from __future__ import annotations

import copy
import enum
from collections.abc import Sequence

import torch
from torch import nn

from drsl_plugin.errors import SettingError
from drsl_plugin.losses.memory import EmbeddingMemory, MemoryState
from drsl_plugin.losses.module import DRSLoss


class MemoryCase(enum.Enum):
    """What a run that goes on from a checkpoint finds there of its memory."""

    NONE = enum.auto()
    """Neither the checkpoint nor the run has a memory."""
    SAME = enum.auto()
    """Both have one of the same size."""
    NONE_SAVED = enum.auto()
    """The run's starts empty."""
    NONE_WANTED = enum.auto()
    """The checkpoint's is left aside."""
    ANOTHER_SIZE = enum.auto()
    """The run cannot go on from it: :meth:`FeatureLosses.load_memory_state` raises."""


def compare_memories(saved: Sequence[MemoryState] | None, size: int) -> MemoryCase:
    """Tell which case a run that goes on from a checkpoint is.

    Args:
        saved: the states of the memories in the checkpoint, one a feature; None or empty where it has none.
        size: how many embeddings the run's memory holds; 0 for none.

    Example:
        >>> compare_memories([EmbeddingMemory(8).state()], size=0).name
        'NONE_WANTED'
    """
    if not saved:
        return MemoryCase.NONE_SAVED if size else MemoryCase.NONE
    if not size:
        return MemoryCase.NONE_WANTED
    return MemoryCase.SAME if all(state.get("size") == size for state in saved) else MemoryCase.ANOTHER_SIZE


class FeatureLosses(nn.ModuleList):
    """A :class:`DRSLoss` for each feature of a model, alike but for its memory; one for all where there is none.

    Args:
        criterion: that of the first feature.

    Example:
        >>> losses = FeatureLosses(DRSLoss(memory_size=8))
        >>> losses.of(1).memory is losses.of(0).memory
        False
        >>> losses = FeatureLosses(DRSLoss())
        >>> losses.of(1) is losses.of(0)
        True
    """

    def __init__(self, criterion: DRSLoss) -> None:
        """Begin with the first feature's; others are made when they are asked for."""
        super().__init__([criterion])

    def of(self, feature: int) -> DRSLoss:
        """Return the loss of a feature.

        Args:
            feature: its number, from 0; the same in every step.
        """
        first = self._all()[0]
        memory = first.memory
        if memory is None:
            return first
        while len(self) <= feature:
            empty = EmbeddingMemory(memory.size, memory.warmup)
            self.append(copy.deepcopy(first, {id(memory): empty}))  # all but what the first one's memory holds
        return self._all()[feature]

    def set_temperature(self, temperature: float) -> None:
        """Give all of them a temperature."""
        for criterion in self._all():
            criterion.temperature = temperature

    def memory_state(self) -> list[MemoryState]:
        """Return the states of the memories, one a feature; empty where there is none."""
        return [criterion.memory.state() for criterion in self._all() if criterion.memory is not None]

    def load_memory_state(self, states: Sequence[MemoryState], device: torch.device | str | None = None) -> None:
        """Go on from the states of :meth:`memory_state`.

        Args:
            states: the states; each feature that they have gets its loss.
            device: where the memories shall be; by default where the states' tensors are.

        Raises:
            ValueError: no such states, or those of memories of another size.
        """
        share, first = self.of(0).memory_share, self.of(0).memory
        for feature, state in enumerate(states):
            saved = state.get("size")
            if share > 0 and first is not None and saved not in (None, first.size):
                needs = (
                    f"gives a memory of {first.size} embeddings here, and the saved one has {saved}; memory_share 0 "
                )
                raise SettingError("memory_share", share, f"{needs}with memory_size {saved} goes on with that")
            memory = self.of(feature).memory
            if memory is not None:
                memory.load(state, device)

    def _all(self) -> list[DRSLoss]:
        return [criterion for criterion in self if isinstance(criterion, DRSLoss)]
