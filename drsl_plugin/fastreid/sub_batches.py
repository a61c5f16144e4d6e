"""``MODEL.LOSSES.DRSL.SUB_BATCH``: FastReID's training step in two stages, for large batches on small memory."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from drsl_plugin.errors import SettingError
from drsl_plugin.fastreid.compat import keep_images
from drsl_plugin.fastreid.config import training_settings
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.keys import DRSL_KEYS
from drsl_plugin.fastreid.types import Loop
from drsl_plugin.losses import TwoStage
from drsl_plugin.losses.two_stage import indivisible_batch, unwrap
from drsl_plugin.toolbox.patching import replaced
from drsl_plugin.toolbox.types import ConfigNode


def find_sub_batch(cfg: ConfigNode) -> int:
    """Return the size of a sub-batch, 0 for the batch in one piece, as it is without ``DRSLoss`` among the losses."""
    training = training_settings(cfg)
    return 0 if training is None else training.sub_batch


def step_in_sub_batches(loop: Loop, sub_batch: int) -> None:
    """Take the step of FastReID's ``SimpleTrainer`` or ``AMPTrainer`` in two stages.

    All the losses are computed once, of the outputs of the whole batch; see :class:`~drsl_plugin.losses.TwoStage`.

    Args:
        loop: the trainer.
        sub_batch: how many images are forwarded at once.

    Raises:
        SettingError: the sub-batch does not divide the batch, or the architecture does not hand its outputs to
            ``losses``.
    """
    assert loop.model.training, "model was changed to eval mode!"
    start = time.perf_counter()
    data = next(loop._data_loader_iter)
    data_time = time.perf_counter() - start

    scaler = getattr(loop, "grad_scaler", None)
    context = mixed_precision(loop)
    architecture: Any = unwrap(loop.model)
    parts = split_batch(data, sub_batch)
    with return_outputs(architecture), blame_sub_batch(sub_batch):
        two_stage = TwoStage(loop.model, parts, context)
        arguments, options = two_stage.outputs
    with context():
        loss_dict = architecture.losses(*arguments, **options)
        losses = sum(loss_dict.values())

    loop.optimizer.zero_grad()
    (losses if scaler is None else scaler.scale(losses)).backward()
    with return_outputs(architecture):
        two_stage.backward()

    loop._write_metrics(loss_dict, data_time)

    if scaler is None:
        loop.optimizer.step()
    else:
        scaler.step(loop.optimizer)
        scaler.update()
    if isinstance(loop.param_wrapper, fastreid.utils.params.ContiguousParams):
        loop.param_wrapper.assert_buffer_is_valid()


def mixed_precision(loop: Loop) -> Callable[[], AbstractContextManager[Any]]:
    """Return what makes the context of a forward pass: that of mixed precision for FastReID's ``AMPTrainer``."""
    if getattr(loop, "grad_scaler", None) is None:
        return contextlib.nullcontext
    return functools.partial(torch.autocast, "cuda")


@contextlib.contextmanager
def return_outputs(architecture: nn.Module) -> Iterator[None]:
    """Let an architecture return what it would give to its ``losses``, of which it makes its losses otherwise."""
    with (
        replaced(architecture, "losses", lambda *outputs, **options: (outputs, options)),
        keep_images(architecture),  # it is given them twice
    ):
        yield


@contextlib.contextmanager
def blame_sub_batch(sub_batch: int) -> Iterator[None]:
    """Name the setting in errors of the first stage: batch norm's of a single sample, an architecture that is unfit."""
    try:
        yield
    except ValueError as error:
        raise SettingError(DRSL_KEYS.dotted("sub_batch"), sub_batch, " ".join(str(error).split())) from error


def split_batch(data: dict[str, Any], sub_batch: int) -> list[dict[str, Any]]:
    """Cut a batch into sub-batches: everything in it that there is one of for each image."""
    batch = len(data["targets"])
    for error in indivisible_batch(sub_batch, batch, f"a batch of {batch}"):
        raise error.named(DRSL_KEYS.dotted("sub_batch"))
    whole = {key: value for key, value in data.items() if not (hasattr(value, "__len__") and len(value) == batch)}
    return [
        {key: value if key in whole else value[first : first + sub_batch] for key, value in data.items()}
        for first in range(0, batch, sub_batch)
    ]
