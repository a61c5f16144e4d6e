"""What the processes of one training share: its batches, its gradient, its logs and its random states."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader

from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.torchreid import processes
from drsl_plugin.torchreid.generators import read_generators, set_generators
from drsl_plugin.torchreid.host import torchreid
from drsl_plugin.torchreid.types import DataManager


class SharedBatches:
    """A process's share of each batch; the main process draws the batches, as it would alone.

    Args:
        batches: the loader's own batch sampler.
    """

    def __init__(self, batches: BatchSampler) -> None:
        """Keep it."""
        self._batches = batches
        self.batch_size = batches.batch_size
        """Of all processes together."""

    def __len__(self) -> int:
        """Return the number of batches that the sampler announces."""
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        """Draw an epoch, and go through this process's shares."""
        drawn = [[list(map(int, each)) for each in self._batches] if processes.rank() == 0 else None]
        dist.broadcast_object_list(drawn, src=0)
        for batch in drawn[0] or []:
            share = len(batch) // processes.count()
            yield batch[processes.rank() * share :][:share]


def share_batches(datamanager: DataManager) -> None:
    """Let the training loader of a data manager give each process its share of each batch."""
    if processes.count() == 1:
        return
    loader = datamanager.train_loader
    drawn: Any = loader.batch_sampler  # its type says that it may be None
    batches: Any = SharedBatches(drawn)
    datamanager.train_loader = DataLoader(
        loader.dataset, batch_sampler=batches, num_workers=loader.num_workers, pin_memory=loader.pin_memory
    )
    datamanager.train_loader.worker_init_fn = loader.worker_init_fn


def parallelize(model: nn.Module) -> nn.Module:
    """Put a model on this process's CUDA device, or, in a single process, on all, as Torchreid does."""
    devices = None if processes.count() == 1 else [processes.local_rank()]
    return nn.DataParallel(model, device_ids=devices).cuda()


def seed_apart() -> None:
    """Give each process but the main one random numbers of its own, which follow from the states that all share."""
    if processes.rank() > 0:
        number = int(torch.randint(2**31, ()))
        torchreid.utils.set_random_seed(int(np.random.SeedSequence([number, processes.rank()]).generate_state(1)[0]))


def gather_generators() -> dict[str, Any]:
    """Return what a checkpoint holds of the random states of the other processes; all call it together."""
    if processes.count() == 1:
        return {}
    states: list[Any] = [None] * processes.count()
    dist.all_gather_object(states, read_generators())
    return {"other_random_states": states[1:]}


def resume_generators(checkpoint: Mapping[str, Any]) -> None:
    """Go on with this process's random state; where the earlier run had fewer processes, it begins anew."""
    if "random_state" not in checkpoint:
        return
    others = checkpoint.get("other_random_states", [])
    rank = processes.rank()
    set_generators(others[rank - 1] if 0 < rank <= len(others) else checkpoint["random_state"])
    if rank > len(others):
        seed_apart()


class SharedRun(torchreid.engine.Engine):
    """Mixed in below the recorded run: what a process does otherwise where it is one of several.

    The engine's models stay as they are, for evaluations and checkpoints; only a training's steps go through
    ``DistributedDataParallel``, made anew when ``train.open_layers`` are opened or the others with them.
    """

    _parallel: DistributedDataParallel | None = None
    _open: list[bool] | None = None

    def run_folder(self, save_dir: str) -> RunFolder:
        """Return the run's folder; only the main process writes into it, and for TensorBoard."""
        if processes.rank() == 0:
            return RunFolder(save_dir)
        self.writer = _Unwritten()
        return _UnwrittenFolder(save_dir)

    def train(self, *args: Any, **kwargs: Any) -> None:
        """Train one epoch."""
        super().train(*args, **kwargs)
        if self._parallel is not None:
            self.model = self._models["model"]

    def two_stepped_transfer_learning(self, *args: Any, **kwargs: Any) -> None:
        """Open the layers of this epoch, and share the gradients of what is open."""
        super().two_stepped_transfer_learning(*args, **kwargs)
        if processes.count() == 1:
            return
        module = self.model.module if isinstance(self.model, nn.DataParallel) else self.model
        now_open = [each.requires_grad for each in module.parameters()]
        if now_open != self._open:
            self._parallel, self._open = None, now_open  # the old one lets go of its buffers first
            # Without cross-entropy the classifier gets no gradient, and the others would wait for it.
            unused = getattr(self, "weight_x", 1) == 0
            devices = [processes.local_rank()] if self.use_gpu else None
            self._parallel = DistributedDataParallel(module, device_ids=devices, find_unused_parameters=unused)
        self.model = self._parallel

    def forward_backward(self, data: dict[str, Any]) -> dict[str, float]:
        """Take the engine's step; its values are those of the whole batch."""
        summary: dict[str, float] = super().forward_backward(data)
        if processes.count() == 1:
            return summary
        values = torch.tensor(list(summary.values()), dtype=torch.float64, device="cuda" if self.use_gpu else "cpu")
        dist.all_reduce(values)
        return dict(zip(summary, (values / processes.count()).tolist(), strict=True))

    def test(self, *args: Any, **kwargs: Any) -> float:
        """Evaluate in the main process; the others wait for it."""
        evaluate = functools.partial(super().test, *args, **kwargs)
        rank1: float = evaluate() if processes.rank() == 0 else math.nan
        processes.wait_for_main()
        return rank1


class _UnwrittenFolder(RunFolder):
    """The run's folder in a process that is not the main one: to be read only."""

    def log(self, **values: Any) -> None:
        """Leave it to the main process."""

    def save_features(self, target: str, arrays: Mapping[str, Any]) -> Path:
        """Leave it to the main process."""
        return self.path

    def write_text(self, name: str, text: str) -> None:
        """Leave it to the main process."""


class _Unwritten:
    """TensorBoard's writer in such a process."""

    def add_scalar(self, *args: Any, **kwargs: Any) -> None:
        """Leave it to the main process."""

    def close(self) -> None:
        """Leave it to the main process."""
