"""DRSL's memories of earlier embeddings in FastReID's checkpoints, beside optimizer and scheduler."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from drsl_plugin.errors import SettingError
from drsl_plugin.fastreid.keys import DRSL_KEYS
from drsl_plugin.losses import FeatureLosses
from drsl_plugin.losses.features import MemoryCase, compare_memories
from drsl_plugin.losses.memory import MemoryState

logger = logging.getLogger("fastreid.drsl")

KEY = "drsl_memory"
"""Of a checkpoint."""


class Memories:
    """The memories of a model's DRSL, one a feature, as FastReID's checkpointer wants them.

    Args:
        model: the model, without its wrapper.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        """Find the losses; none where the model has no DRSL."""
        losses = getattr(model, "drsl_features", None)
        self._losses = losses if isinstance(losses, FeatureLosses) else None
        self._model = model

    @property
    def size(self) -> int:
        """How many embeddings each holds; 0 where there is none."""
        memory = self._losses.of(0).memory if self._losses is not None else None
        return memory.size if memory is not None else 0

    def state_dict(self) -> list[MemoryState]:
        """Return their states."""
        return self._losses.memory_state() if self._losses is not None else []

    def load_state_dict(self, states: list[MemoryState]) -> None:
        """Take them from a checkpoint.

        Raises:
            SettingError: memories of another size.
        """
        if self._losses is not None:
            try:
                self._losses.load_memory_state(states, next(self._model.parameters()).device)
            except SettingError as error:
                raise error.named(DRSL_KEYS.dotted("memory_size")) from error


def tell_of_memories(checkpoint: Mapping[str, Any], memories: Memories | None, where: str) -> None:
    """Log where a resumed run has no memory to go on with, or none to put it into.

    Args:
        checkpoint: what it goes on from.
        memories: those of the run, or None.
        where: the setting and the file, for the line.
    """
    size = 0 if memories is None else memories.size
    case = compare_memories(checkpoint.get(KEY), size)
    if case is MemoryCase.NONE_SAVED:
        setting = f"{DRSL_KEYS.dotted('memory_size')} {size}"
        logger.warning(f"{where}: holds no memory of embeddings; that of {setting} starts empty")
    elif case is MemoryCase.NONE_WANTED:
        logger.warning(f"{where}: holds a memory of embeddings, which this run leaves aside: it has none")
