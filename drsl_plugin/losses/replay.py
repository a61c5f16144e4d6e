"""What lets a forward pass be made again, or leave no trace: its random numbers, and the buffers that it changes."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from drsl_plugin.losses.memory import EmbeddingMemory


class GeneratorStates(NamedTuple):
    """The states of the random generators that a forward pass may draw from: torch's, Python's and numpy's."""

    cpu: Tensor
    cuda: dict[int, Tensor]
    """By the index of the device."""
    python: Any
    numpy: Any
    """None where nobody has imported numpy."""


def note_generators(model: nn.Module) -> GeneratorStates:
    """Return the states of the generators of the CPU and of the CUDA devices that a model is on."""
    numpy = sys.modules.get("numpy")
    return GeneratorStates(
        torch.get_rng_state(),
        {device: torch.cuda.get_rng_state(device) for device in _list_cuda_devices(model)},
        random.getstate(),
        numpy and numpy.random.get_state(),
    )


def restore_generators(states: GeneratorStates) -> None:
    """Put the generators back into the states that :func:`note_generators` returned."""
    torch.set_rng_state(states.cpu)
    for device, cuda in states.cuda.items():
        torch.cuda.set_rng_state(cuda, device)
    random.setstate(states.python)
    if states.numpy is not None:
        sys.modules["numpy"].random.set_state(states.numpy)


@contextlib.contextmanager
def use_other_generators(model: nn.Module) -> Iterator[None]:
    """Draw other random numbers than those that would come next, and leave the generators as they were found.

    The CPU's, Python's and numpy's are seeded by one number that torch draws: what shuffles in the block has not the
    order that the next to shuffle after it has.
    """
    states = note_generators(model)
    try:
        number = int(torch.randint(2**32, ()))
        torch.default_generator.manual_seed(number)
        random.seed(number)
        if states.numpy is not None:
            sys.modules["numpy"].random.seed(number)
        yield
    finally:
        restore_generators(states)


@contextlib.contextmanager
def keep_buffers(model: nn.Module) -> Iterator[None]:
    """Put a model's buffers back at the end: running statistics, their counts, whatever a forward pass changes.

    The memory of a ``DRSLoss`` in the model is left out: it may be large, and no forward pass of the network
    touches it.
    """
    owners = [module for module in model.modules() if not isinstance(module, EmbeddingMemory)]
    before = [(module._buffers, dict(module._buffers)) for module in owners if module._buffers]
    values = [[value if value is None else value.clone() for value in own.values()] for _, own in before]
    try:
        yield
    finally:
        with torch.no_grad():
            for (buffers, own), copies in zip(before, values, strict=True):
                buffers.update(own)  # a layer may have put another tensor in a buffer's place
                for buffer, value in zip(own.values(), copies, strict=True):
                    if buffer is not None and value is not None:
                        buffer.copy_(value)


def _list_cuda_devices(model: nn.Module) -> list[int]:
    """List the devices that hold a part of a model, or, under ``DataParallel``, get a copy of it."""
    tensors = [*model.parameters(), *model.buffers()]
    devices = {tensor.device.index for tensor in tensors if tensor.device.type == "cuda"}
    if isinstance(model, nn.DataParallel):
        devices.update(model.device_ids)
    return sorted(devices)
