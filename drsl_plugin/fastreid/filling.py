"""``MODEL.LOSSES.DRSL.MEMORY_FILL``: a memory's first filling in a FastReID training."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from drsl_plugin.errors import SettingError
from drsl_plugin.fastreid.config import build_criterion, training_settings
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.keys import DRSL_KEYS
from drsl_plugin.fastreid.meta_arch import find_losses
from drsl_plugin.fastreid.seeding import derive_seed, find_sampler
from drsl_plugin.fastreid.sub_batches import blame_sub_batch, mixed_precision, return_outputs, split_batch
from drsl_plugin.fastreid.types import Loader, Loop
from drsl_plugin.losses import FeatureLosses
from drsl_plugin.losses.filling import fill_memories, is_filling_due, too_few_images
from drsl_plugin.losses.nested import join_outputs
from drsl_plugin.losses.two_stage import unwrap
from drsl_plugin.toolbox.patching import replaced
from drsl_plugin.toolbox.streams import copy_loader, keep_patch_pools
from drsl_plugin.toolbox.types import ConfigNode

logger = logging.getLogger("fastreid.drsl")


class FillingHook(fastreid.engine.train_loop.HookBase):
    """A hook that fills the memories of DRSL right before the first step in which they take part.

    Args:
        losses: the model's DRSL.
        sub_batch: how many images are forwarded at once; 0 for all.
    """

    def __init__(self, losses: FeatureLosses, sub_batch: int) -> None:
        """Keep both."""
        self._losses = losses
        self._sub_batch = sub_batch

    def before_step(self) -> None:
        """Fill them, where this is the step."""
        if not is_filling_due(self._losses):
            return
        loop: Loop = self.trainer._trainer
        assert loop.model.training, "model was changed to eval mode!"
        _wait_for_reader(loop.data_loader)
        embed = functools.partial(_embed, loop, self._sub_batch)
        with (
            DRSL_KEYS.name_errors(),
            keep_patch_pools(loop.data_loader),
            _other_order(loop.data_loader),
            fastreid.utils.events.EventStorage(),  # of the accuracy that every forward pass logs
        ):
            count = fill_memories(self._losses, loop.model, _read(copy_loader(loop.data_loader)), embed)
        logger.info(f"Memory filled with the embeddings of {count} training images")


def build_filling_hooks(cfg: ConfigNode, model: nn.Module, loader: Loader) -> list[FillingHook]:
    """Return the hook that a configuration asks for; none where memories keep what the steps before have stored.

    Args:
        cfg: the configuration.
        model: the model, without its wrapper.
        loader: of the training images.

    Raises:
        SettingError: fewer training images than a memory holds, or an architecture that is none of ours.
    """
    training, criterion = training_settings(cfg), build_criterion(cfg)
    if training is None or training.memory_fill == "stored" or criterion is None or not criterion.memory_setting[1]:
        return []
    losses = find_losses(model)
    if losses is None:
        raise _unfit(model)
    for error in too_few_images(losses.of(0), len(loader.dataset)):
        raise error.named(DRSL_KEYS.dotted(error.setting))
    return [FillingHook(losses, training.sub_batch)]


def _embed(loop: Loop, sub_batch: int, data: dict[str, Any]) -> tuple[Sequence[Tensor], Tensor]:
    """Return the features of a batch that DRSL would get in a step, and the labels."""
    architecture: Any = unwrap(loop.model)
    got: list[tuple[Sequence[Tensor], Tensor]] = []

    def note(features: dict[str, Tensor], labels: Tensor, weight: float) -> dict[str, Tensor]:
        got.append((list(features.values()), labels))
        return {}

    with replaced(architecture, "_drsl_losses", note), mixed_precision(loop)():
        if sub_batch:
            with return_outputs(architecture), blame_sub_batch(sub_batch):
                arguments, options = join_outputs([architecture(part) for part in split_batch(data, sub_batch)])
            architecture.losses(*arguments, **options)
        else:
            architecture(data)
    if not got:
        raise _unfit(architecture)
    return got[0]


def _unfit(architecture: nn.Module) -> SettingError:
    needs = f"{type(architecture).__name__} hands DRSL no features; derive it from DRSLBaseline or DRSLMGN, or set "
    return SettingError(DRSL_KEYS.dotted("memory_fill"), "fresh", f"{needs}stored")


def _read(loader: Any) -> Iterator[dict[str, Any]]:
    """Go through a loader that nobody else does, and end the thread in which FastReID's on CUDA reads ahead."""
    stream = iter(loader)
    try:
        with contextlib.suppress(StopIteration):
            while True:
                yield next(stream)  # a loop would begin it anew, with another thread
    finally:
        if hasattr(stream, "shutdown"):
            stream.shutdown()


@contextlib.contextmanager
def _other_order(loader: Loader) -> Iterator[None]:
    """Give the sampler another seed: one order of the images is that of this epoch's batches."""
    sampler = find_sampler(loader)
    if not hasattr(sampler, "_seed"):
        yield
        return
    with replaced(sampler, "_seed", derive_seed(sampler._seed, 1)):  # the same in every process
        yield


def _wait_for_reader(loader: Any) -> None:
    """Wait until the thread in which FastReID's loader on CUDA reads ahead has read as far as it can.

    Until then its sampler draws from numpy's one generator, as the filling does. All distributions. To see it gone:
    ``test_stock_loader_draws_in_a_thread``.
    """
    reader: Any = getattr(loader, "iter", None)
    if not isinstance(reader, fastreid.data.data_utils.BackgroundGenerator):
        return
    while reader.is_alive() and not reader.queue.not_full._waiters:
        time.sleep(0.001)
