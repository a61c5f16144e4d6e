"""The shapes of FastReID's objects that are used here; FastReID itself is untyped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

Results: TypeAlias = "Mapping[str, Any]"
"""Of an evaluation: a target's metrics in percent, or those of each target by its name."""


class Loader(Protocol):
    """A loader of training images."""

    dataset: Any

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield batches."""


class Loop(Protocol):
    """FastReID's ``SimpleTrainer`` or ``AMPTrainer``: what a ``DefaultTrainer`` takes its steps with."""

    model: nn.Module
    data_loader: Loader
    optimizer: torch.optim.Optimizer
    param_wrapper: object
    iter: int
    _data_loader_iter: Any

    def _write_metrics(self, loss_dict: Mapping[str, Tensor], data_time: float) -> None: ...


class EventStorage(Protocol):
    """Where FastReID's training keeps what it tells of its steps."""

    epoch: int

    def latest(self) -> Mapping[str, tuple[float, int]]:
        """Return each value by its name, with its step."""

    def put_scalar(self, name: str, value: float) -> None:
        """Keep a value of this step."""


class Trainer(Protocol):
    """A :class:`~drsl_plugin.fastreid.DRSLTrainer` while it trains."""

    cfg: Any
    model: nn.Module
    iter: int
    epoch: int
    max_epoch: int
    storage: EventStorage
    checkpointer: Any
    _hooks: Sequence[Any]
    _periodic: Any


class EventWriter(Protocol):
    """Writes what a training has in its storage of events."""

    def write(self) -> None:
        """Write it."""

    def close(self) -> None:
        """Write what is left."""
