"""The shapes of Torchreid's objects that are used here: Torchreid itself is untyped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from drsl_plugin.toolbox.types import Scheduler

Features: TypeAlias = "Tensor | Sequence[Tensor]"
"""What a model returns for a batch: one tensor, or several of them for models with several branches."""
Sample: TypeAlias = "tuple[Any, ...]"
"""Path (in video paths of the frames), identity, camera, and what else a data set tells of a sample."""


class Pipeline(Protocol):
    """The transforms of an image, one after another."""

    transforms: Sequence[object]


class DataManager(Protocol):
    """The data of a run, to train on and to evaluate on."""

    num_train_pids: int
    train_loader: DataLoader[Any]
    test_loader: Mapping[str, Any]
    transform_tr: Pipeline

    def fetch_test_loaders(self, name: str) -> tuple[list[Sample], list[Sample]]:
        """Return the queries and the gallery of a target."""


class Engine(Protocol):
    """What trains and evaluates."""

    epoch: int
    model: nn.Module
    datamanager: DataManager
    _models: Mapping[str, nn.Module]
    _optims: Mapping[str, torch.optim.Optimizer]
    _scheds: Mapping[str, Scheduler | None]

    def get_model_names(self) -> list[str]:
        """Return the names under which models were registered."""

    def run(self, save_dir: str = ..., **kwargs: Any) -> None:
        """Train and evaluate."""
