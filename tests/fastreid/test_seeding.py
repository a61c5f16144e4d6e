"""What keeps a run of FastReID from being resumed exactly, and the way round it.

When the half of a test fails that asks the stock toolbox, FastReID or torch has mended the fault, and the function that
the docstring names can go.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from toys import Images, Toy, config, take_steps

from drsl_plugin.fastreid.compat import (
    FrozenSteps,
    keep_gradient_buffers,
)
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.seeding import choose_seed, derive_seed, seed_process, start_epoch_of_data


@pytest.fixture
def random_state() -> Iterator[None]:
    """The random numbers go on as before."""
    states = torch.get_rng_state(), np.random.get_state()
    yield
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])


def draws() -> tuple[float, ...]:
    return (torch.rand(()).item(), np.random.rand(), importlib.import_module("random").random())


@pytest.mark.usefixtures("log_handlers", "random_state")
def test_stock_setup_seeds_by_the_clock(tmp_path: Path) -> None:
    """When the first half fails, FastReID can be seeded, and ``SEED`` and ``seeding.choose_seed`` can go."""
    cfg = config("SEED", 7, "OUTPUT_DIR", str(tmp_path), "CUDNN_BENCHMARK", False)
    args = argparse.Namespace(config_file="", eval_only=True)
    found = []
    for _ in range(2):
        fastreid.engine.default_setup(cfg, args)
        found.append(draws())
    assert all(first != second for first, second in zip(*found, strict=True))

    assert choose_seed(cfg) == 7
    found = []
    for seed in (7, 7, 8):
        seed_process(seed)
        found.append(draws())
    assert found[0] == found[1]
    assert all(first != second for first, second in zip(found[0], found[2], strict=True))


@pytest.mark.usefixtures("random_state")
def test_each_process_has_random_numbers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seed_process(7)
    first = draws()
    monkeypatch.setattr(fastreid.utils.comm, "get_rank", lambda: 1)
    seed_process(7)
    assert all(one != other for one, other in zip(first, draws(), strict=True))


@pytest.mark.parametrize("cfg", [config(), config("SEED", -5), fastreid.config.get_cfg()])
def test_without_a_seed_each_run_has_another(cfg: Any) -> None:
    seeds = {choose_seed(cfg) for _ in range(8)}
    assert len(seeds) > 1
    assert min(seeds) >= 0


def test_seeds_are_mixed_well() -> None:
    numbers = {derive_seed(seed, epoch) for seed, epoch in itertools.product(range(30), repeat=2)}
    assert len(numbers) == 900
    assert all(0 <= number < 2**31 for number in numbers)


def items() -> list[tuple[str, str, str]]:
    return [(f"{index}.jpg", f"p{index // 4}", f"c{index % 2}") for index in range(16)]


SAMPLERS: dict[str, Callable[[], Any]] = {
    "TrainingSampler": lambda: fastreid.data.samplers.TrainingSampler(16),
    "NaiveIdentitySampler": lambda: fastreid.data.samplers.NaiveIdentitySampler(items(), 8, 4),
    "BalancedIdentitySampler": lambda: fastreid.data.samplers.BalancedIdentitySampler(items(), 8, 4),
    "ImbalancedDatasetSampler": lambda: fastreid.data.samplers.ImbalancedDatasetSampler(items()),
}


@pytest.mark.usefixtures("random_state")
@pytest.mark.parametrize("name", SAMPLERS)
def test_stock_sampler_starts_again(name: str) -> None:
    """When the first half fails, FastReID's samplers can be resumed, and ``seeding.start_epoch_of_data`` can go."""
    sampler = SAMPLERS[name]()

    def stream() -> list[int]:
        return [int(index) for index in itertools.islice(iter(sampler), 32)]

    torch.manual_seed(1)
    first = stream()
    torch.manual_seed(1)  # of which one of the samplers draws
    assert stream() == first, "a run that is resumed after its first epoch begins with the same images"
    assert not hasattr(sampler, "state_dict")

    batch_sampler = torch.utils.data.BatchSampler(sampler, 8, drop_last=True)
    loader = torch.utils.data.DataLoader(Images(), batch_sampler=batch_sampler, collate_fn=list)
    trainer = SimpleNamespace(data_loader=loader, _data_loader_iter=iter([]))
    epochs = []
    for seed, epoch in ((3, 0), (3, 1), (3, 2), (3, 1), (4, 1)):
        start_epoch_of_data(trainer, seed, epoch)
        batches = [next(trainer._data_loader_iter) for _ in range(3)]
        epochs.append([int(image["targets"]) for batch in batches for image in batch])
    assert epochs[1] == epochs[3], "the seed and the epoch decide"
    assert len({tuple(epoch) for epoch in epochs}) == 4, "nothing else does"


class Stream:
    """What stands for a CUDA stream."""

    def wait_stream(self, _other: Any) -> None:
        return


@pytest.fixture
def pretended_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """So much of CUDA as FastReID's loader asks for."""
    monkeypatch.setattr(torch.cuda, "Stream", lambda _device: Stream())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Stream())
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "set_device", lambda _device: None)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, **_kwargs: self)


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("pretended_cuda", "random_state")
@pytest.mark.filterwarnings("ignore:'pin_memory' argument")
@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_that_reads_ahead_is_started_anew_each_epoch(workers: int) -> None:
    """With CUDA ``start_epoch_of_data`` ends a thread and starts another: none may be left, and none may wait."""
    sampler = fastreid.data.samplers.NaiveIdentitySampler(items(), 8, 4)
    loader = fastreid.data.build.build_reid_train_loader(
        Images(), sampler=sampler, total_batch_size=4, num_workers=workers
    )
    assert isinstance(loader, fastreid.data.data_utils.DataLoaderX)
    trainer = SimpleNamespace(data_loader=loader, _data_loader_iter=iter(loader))
    threads = threading.active_count()
    epochs = []
    for epoch, steps in ((0, 1), (1, 3), (2, 0), (1, 3), (3, 25)):  # it reads ten batches ahead
        start_epoch_of_data(trainer, seed=3, epoch=epoch)
        taken = [next(trainer._data_loader_iter) for _ in range(steps)]
        epochs.append([(batch["targets"].tolist(), batch["noise"].tolist()) for batch in taken])
        assert threading.active_count() == threads
    assert epochs[1] == epochs[3]
    assert epochs[0][0] not in (epochs[1][0], epochs[4][0])
    loader.shutdown()


@pytest.mark.parametrize("clip", [False, True], ids=["plain", "clipped"])
@pytest.mark.parametrize("opt", ["SGD", "Adam"])
def test_stock_resume_freezes_again(opt: str, clip: bool) -> None:
    """When the first half fails, FastReID saves how long layers were frozen, and ``compat.FrozenSteps`` can go."""
    cfg = config("MODEL.FREEZE_LAYERS", ["backbone"], "SOLVER.FREEZE_ITERS", 2, "SOLVER.OPT", opt)
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = clip

    def trained(steps: int, state: dict[str, Any] | None = None, frozen: dict[str, int] | None = None) -> Any:
        """Take steps from a checkpoint; return whether the backbone moved, the optimizer's state and the number."""
        model = Toy()
        before = model.backbone.weight.detach().clone(), model.heads.weight.detach().clone()
        optimizer, wrapper = fastreid.solver.build_optimizer(cfg, model)
        keep_gradient_buffers(optimizer)
        counter = FrozenSteps(optimizer)
        if state is not None:
            optimizer.load_state_dict(state)
        if frozen is not None:
            counter.load_state_dict(frozen)
        take_steps(model, optimizer, wrapper, steps)
        assert not torch.equal(before[1], model.heads.weight), "the heads are not frozen"
        return not torch.equal(before[0], model.backbone.weight), optimizer.state_dict(), counter.state_dict()

    moved, state, frozen = trained(2)
    assert (moved, frozen) == (False, {"steps": 2})
    assert trained(3)[0], "a run that is not interrupted opens the backbone"
    assert not trained(1, state)[0]
    moved, _, frozen = trained(1, state, frozen)
    assert (moved, frozen) == (True, {"steps": 2})


def test_where_nothing_is_frozen_there_is_no_number() -> None:
    optimizer, _ = fastreid.solver.build_optimizer(config(), Toy())
    counter = FrozenSteps(optimizer)
    counter.load_state_dict({"steps": 3})
    assert counter.state_dict() == {"steps": 0}
