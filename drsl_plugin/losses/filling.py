"""A memory's first filling: all of it at once, with embeddings of training images by the model as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from drsl_plugin.errors import SettingError
from drsl_plugin.losses.distributed import gather_batch
from drsl_plugin.losses.features import FeatureLosses
from drsl_plugin.losses.module import DRSLoss
from drsl_plugin.losses.replay import keep_buffers, use_other_generators

Batch = TypeVar("Batch")


def is_filling_due(losses: FeatureLosses) -> bool:
    """Tell whether the step to come is the first in which the memories take part.

    Example:
        >>> losses = FeatureLosses(DRSLoss(memory_size=4, memory_warmup=1))
        >>> is_filling_due(losses)
        False
        >>> loss = losses.of(0)(torch.eye(2, requires_grad=True), torch.tensor([0, 0]))
        >>> is_filling_due(losses)
        True
    """
    memory = losses.of(0).active_memory
    return memory is not None and memory.batches == memory.warmup


def fill_memories(
    losses: FeatureLosses,
    model: nn.Module,
    batches: Iterable[Batch],
    embed: Callable[[Batch], tuple[Sequence[Tensor], Tensor]],
    *,
    repeat: bool = False,
) -> int:
    """Fill the memory of each feature in place of what it holds; all processes call it together.

    No graph is kept, and neither the model's buffers, nor the random states, nor the count of stored batches are other
    ones afterwards. The memories of several processes are equal bit for bit.

    Args:
        losses: with memories.
        model: whose buffers are kept; in the mode that ``embed`` shall have, which in training is training's.
        batches: of training images; as many are taken as it needs, and of the last one no more than there is room for.
            They are drawn by other random numbers than the training's next.
        embed: returns what each feature's loss would get of a batch, ``(N, D)`` each, and the labels, ``(N,)``.
        repeat: go through the batches again, where they are fewer than it needs.

    Returns:
        How many embeddings each of them has: all that it has room for.

    Raises:
        SettingError: no memory, or too few batches.

    Example:
        >>> losses, model = FeatureLosses(DRSLoss(memory_size=6)), nn.Linear(3, 2)
        >>> loader = [(torch.randn(4, 3), torch.tensor([0, 0, 1, 1])) for _ in range(2)]
        >>> fill_memories(losses, model, loader, lambda batch: ([model(batch[0])], batch[1]))
        6
        >>> losses.of(0).memory.entries()[1]
        tensor([0, 0, 1, 1, 0, 0])

    Source:
        X. Wang, H. Zhang, W. Huang, M. R. Scott, "Cross-Batch Memory for Embedding Learning", CVPR 2020: after a
        warm-up the memory is filled with a set of training images, encoded by the model that has warmed up.
    """
    memory = losses.of(0).memory
    if memory is None:
        raise SettingError("memory_size", 0, "no memory to fill; a number of embeddings gives one")
    rows = 0
    with (
        use_other_generators(model),
        keep_buffers(model),
        torch.no_grad(),
        contextlib.closing(_go_through(batches, repeat)) as stream,  # workers draw nothing after it
    ):
        for batch in stream:
            features, labels = embed(batch)
            taken = _put(losses, features, labels, rows)
            rows += taken
            if rows == memory.size:
                return rows
    raise _too_few(losses.of(0), memory.size, f"the training's batches have {rows} images in all", rows)


def too_few_images(criterion: DRSLoss, images: int) -> Iterator[SettingError]:
    """Yield an error where a memory that is to be filled has room for more than there are training images.

    Args:
        criterion: the loss.
        images: how many there are.

    Example:
        >>> print(*too_few_images(DRSLoss(memory_size=64), 40))
        memory_size 64: there are 40 training images to fill it with (memory_fill fresh); 40 at most would do
    """
    memory = criterion.memory
    if memory is not None and memory.size > images:
        yield _too_few(criterion, memory.size, f"there are {images} training images", images)


def _too_few(criterion: DRSLoss, size: int, images: str, count: int) -> SettingError:
    """Return the error of a memory that has room for more images than there are, in words and in number."""
    setting, value = criterion.memory_setting
    if setting == "memory_share":
        needs = f"a memory of {size} embeddings, and {images} to fill it with (memory_fill fresh)"
        return SettingError(setting, value, f"{needs}; a smaller share, or a smaller batch, would do")
    needs = f"{images} to fill it with (memory_fill fresh); {count} at most would do"
    return SettingError(setting, value, needs)


def _go_through(batches: Iterable[Batch], repeat: bool) -> Generator[Batch, None, None]:
    """Yield the batches, once or without an end; closing it closes what it goes through."""
    goes_on = True
    while goes_on:
        goes_on = False
        with contextlib.ExitStack() as stack:
            one_pass = iter(batches)
            if isinstance(one_pass, Generator):
                stack.callback(one_pass.close)
            for batch in one_pass:
                goes_on = repeat
                yield batch


def _put(losses: FeatureLosses, features: Sequence[Tensor], labels: Tensor, rows: int) -> int:
    """Put a batch of all processes behind so many rows into each memory, as far as there is room; return how far."""
    taken = 0
    for number, feature in enumerate(features):
        memory = losses.of(number).memory
        assert memory is not None
        if rows == 0:
            memory.clear()
        everyone, all_labels = gather_batch(feature, labels)
        taken = min(len(everyone), memory.size - rows)
        memory.put(everyone[:taken], all_labels[:taken])
    return taken
