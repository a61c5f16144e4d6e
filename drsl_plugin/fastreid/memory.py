"""DRSL's memories of earlier embeddings in FastReID's checkpoints, beside optimizer and scheduler."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from drsl_plugin.errors import SettingError
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.keys import DRSL_KEYS
from drsl_plugin.fastreid.meta_arch import find_losses
from drsl_plugin.fastreid.types import Loader
from drsl_plugin.losses import FeatureLosses
from drsl_plugin.losses.features import MemoryCase, compare_memories
from drsl_plugin.losses.memory import MemoryState
from drsl_plugin.toolbox.types import ConfigNode

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
        self._losses = find_losses(model)
        self._model = model

    @property
    def size(self) -> int:
        """How many embeddings each holds; 0 where there is none."""
        memory = self._losses.of(0).memory if self._losses is not None else None
        return memory.size if memory is not None else 0

    @property
    def setting(self) -> str:
        """The key that gives them their size, and its value."""
        name, value = ("memory_size", 0) if self._losses is None else self._losses.of(0).memory_setting
        return f"{DRSL_KEYS.dotted(name)} {value}"

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
                raise error.named(DRSL_KEYS.dotted(error.setting)) from error


def tell_of_memories(checkpoint: Mapping[str, Any], memories: Memories | None, where: str) -> None:
    """Log where a resumed run has no memory to go on with, or none to put it into.

    Args:
        checkpoint: what it goes on from.
        memories: those of the run, or None.
        where: the setting and the file, for the line.
    """
    size = 0 if memories is None else memories.size
    case = compare_memories(checkpoint.get(KEY), size)
    if case is MemoryCase.NONE_SAVED and memories is not None:
        logger.warning(f"{where}: holds no memory of embeddings; that of {memories.setting} starts empty")
    elif case is MemoryCase.NONE_WANTED:
        logger.warning(f"{where}: holds a memory of embeddings, which this run leaves aside: it has none")


class WaitingHook(fastreid.engine.train_loop.HookBase):
    """A hook that lets memories wait while ``MODEL.FREEZE_LAYERS`` are frozen.

    Frozen layers are in evaluation mode: their embeddings are none to compare those of the training with.

    Args:
        losses: the model's DRSL.
    """

    def __init__(self, losses: FeatureLosses) -> None:
        """Keep it."""
        self._losses = losses

    def before_step(self) -> None:
        """See whether they are frozen in this step, behind FastReID's hook that does it."""
        freezing = (hook for hook in self.trainer._hooks if isinstance(hook, fastreid.engine.hooks.LayerFreeze))
        self._losses.train(not any(hook.is_frozen for hook in freezing))


def build_waiting_hooks(model: torch.nn.Module) -> list[WaitingHook]:
    """Return the hook of a model whose DRSL has a memory; none for any other.

    Args:
        model: the model, without its wrapper.
    """
    losses = find_losses(model)
    return [] if losses is None or losses.of(0).memory is None else [WaitingHook(losses)]


def make_memory(cfg: ConfigNode, model: torch.nn.Module, loader: Loader) -> None:
    """Make the memory of a model's DRSL whose size is a share of the training images; leave any other as it is.

    Args:
        cfg: the configuration.
        model: the model, without its wrapper.
        loader: of the training images.
    """
    losses = find_losses(model)
    if losses is None or not losses.of(0).lacks_memory:
        return
    criterion, images = losses.of(0), len(loader.dataset)
    size = criterion.make_memory(images, cfg.SOLVER.IMS_PER_BATCH)
    share = f"{DRSL_KEYS.dotted('memory_share')} {criterion.memory_share}"
    logger.info(f"{share} of {images} training images: a memory of {size} embeddings")
