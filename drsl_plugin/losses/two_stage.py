"""Large batches on small memory: a step in two stages, of which the second keeps the graph of a sub-batch alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from drsl_plugin.errors import SettingError
from drsl_plugin.losses.nested import count_samples, iterate_tensors, join_outputs
from drsl_plugin.losses.replay import keep_buffers, note_generators, restore_generators


class TwoStage:
    r"""Outputs of all sub-batches without a graph; then, after the loss of all of them, backward one at a time.

    .. math::

        \nabla_\theta L(o_1, \dots, o_K) = \sum_{k=1}^K \Big(\frac{\partial o_k}{\partial \theta}\Big)^{\!\top}
            \frac{\partial L}{\partial o_k}

    with :math:`o_k` the model's outputs of sub-batch k. It is the gradient of one graph over the same sub-batches: the
    second forward pass draws the random numbers of the first. Where no sample's output depends on the others (batch
    normalisation in training makes it), it is that of the whole batch in one piece as well. Afterwards running
    statistics, any other buffer and the random states are what one pass leaves.

    Args:
        model: takes a sub-batch, returns tensors with a row for each sample, nested in tuples, lists and dicts as it
            likes. Under ``DistributedDataParallel`` the gradients are averaged once, with the last sub-batch.
        sub_batches: what the model takes, a sub-batch each; not to be changed by it.
        context: makes the context of each forward pass, such as ``lambda: torch.autocast("cuda")``.

    Raises:
        ValueError: no sub-batches, or an output that has no row for each sample.

    Example:
        >>> model, images = nn.Linear(3, 2), torch.randn(8, 3)
        >>> step = TwoStage(model, images.split(2))
        >>> step.outputs.shape
        torch.Size([8, 2])
        >>> step.outputs.square().sum().backward()  # any loss of all the outputs
        >>> step.backward()
        >>> expected = torch.autograd.grad(model(images).square().sum(), model.weight)[0]
        >>> torch.allclose(model.weight.grad, expected, rtol=1e-4)
        True

    Source:
        L. Gao, Y. Zhang, J. Han, J. Callan, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
        RepL4NLP 2021 (gradient cache). The buffers' part is ours.
    """

    outputs: Any
    """The outputs of the whole batch, in the model's own nesting: leaves, in which the loss's gradient gathers."""

    def __init__(
        self,
        model: nn.Module,
        sub_batches: Iterable[Any],
        context: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        """Take the first stage: forward without a graph."""
        self._model = model
        self._sub_batches = list(sub_batches)
        self._is_done = False
        if not self._sub_batches or isinstance(sub_batches, Tensor):
            raise ValueError(
                "sub_batches must be what the model takes, a sub-batch each, such as images.split(32), got "
                + (f"a tensor of shape {tuple(sub_batches.shape)}" if isinstance(sub_batches, Tensor) else "none")
            )
        self._context = context
        self._states = []
        parts = []
        with keep_buffers(self._network), torch.no_grad():
            for sub_batch in self._sub_batches:
                self._states.append(note_generators(model))
                with context():
                    parts.append(self._network(sub_batch))
        torch.clear_autocast_cache()  # of older torch: weights that were cast without a graph
        self._sizes = [count_samples(part) for part in parts]
        self.outputs = join_outputs(parts)

    def backward(self) -> None:
        """Take the second stage, after the backward pass of the loss: add to the gradients of the parameters.

        Raises:
            RuntimeError: the loss has not gone backward yet, or this is the second time.
        """
        if self._is_done:
            raise RuntimeError("TwoStage.backward() has been called for this step: its gradients would be added twice")
        if all(output.grad is None for output in iterate_tensors(self.outputs)):
            raise RuntimeError("TwoStage.backward() comes after the loss's own backward(), which has not been called")
        self._is_done = True
        pieces = zip(*(_split(output.grad, self._sizes) for output in iterate_tensors(self.outputs)), strict=True)
        after = note_generators(self._model)
        try:
            for number, (sub_batch, state, piece) in enumerate(
                zip(self._sub_batches, self._states, pieces, strict=True), start=1
            ):
                restore_generators(state)
                torch.clear_autocast_cache()  # weights cast in a graph that is gone
                with self._no_sync(unless=number == len(self._sub_batches)):
                    _backward(self._forward(sub_batch), piece)  # nothing holds the graph while the next one grows
        finally:
            restore_generators(after)

    def _forward(self, sub_batch: Any) -> Any:
        with self._context():
            return self._model(sub_batch)

    @property
    def _network(self) -> nn.Module:
        """The model itself; a first stage needs nothing of what exchanges gradients."""
        return unwrap(self._model)

    def _no_sync(self, *, unless: bool) -> AbstractContextManager[Any]:
        if unless or not isinstance(self._model, DistributedDataParallel):
            return contextlib.nullcontext()
        return self._model.no_sync()


def unwrap(model: nn.Module) -> nn.Module:
    """Return a model without ``DistributedDataParallel``, which only a backward pass needs."""
    if isinstance(model, DistributedDataParallel):
        module: nn.Module = model.module
        return module
    return model


def indivisible_batch(
    sub_batch: int, batch: int, of: str, processes: int = 1, samples: str = "samples"
) -> Iterator[SettingError]:
    """Yield an error where the size of a sub-batch does not divide the batch; 0 switches sub-batches off.

    Args:
        sub_batch: the size.
        batch: the number of samples in a batch, that of all processes.
        of: the batch in words, such as ``"train.batch_size 64"``.
        processes: how many share the batch.
        samples: what they are called.

    Example:
        >>> print(*indivisible_batch(5, 16, "train.batch_size 16"))
        sub_batch 5: does not divide train.batch_size 16; 4 or 8 would do (0 is off)
    """
    if processes > 1:
        batch //= processes
        of = f"the {batch} {samples} of each of {processes} processes ({of})"
    if sub_batch < 0:
        yield SettingError("sub_batch", sub_batch, "must be 0 (off) or above")
    elif sub_batch > 0 and batch % sub_batch > 0:
        fitting = [size for size in range(1, batch + 1) if batch % size == 0]
        near = [max(size for size in fitting if size < sub_batch), *[size for size in fitting if size > sub_batch][:1]]
        offered = " or ".join(map(str, near))
        yield SettingError("sub_batch", sub_batch, f"does not divide {of}; {offered} would do (0 is off)")


def _backward(outputs: Any, gradients: Sequence[Tensor | None]) -> None:
    """Go backward from the outputs that the loss depends on."""
    pairs = [
        (o, g) for o, g in zip(iterate_tensors(outputs), gradients, strict=True) if g is not None and o.requires_grad
    ]
    if pairs:
        torch.autograd.backward([output for output, _ in pairs], [gradient for _, gradient in pairs])


def _split(gradient: Tensor | None, sizes: list[int]) -> Sequence[Tensor | None]:
    return [None] * len(sizes) if gradient is None else torch.split(gradient, sizes)
