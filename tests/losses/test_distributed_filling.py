"""A memory's first filling in two processes: the same in both, of the batches of both."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from drsl_plugin import DRSLoss
from drsl_plugin.losses import FeatureLosses
from drsl_plugin.losses.filling import fill_memories
from drsl_plugin.losses.two_stage import unwrap

NAMES_ITS_PATHS = True  # no loss is computed here
SIZE = 2


def batches_of(rank: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(rank)
    images = torch.randn(6, 3, generator=generator)
    return list(zip(images.split(2), (torch.arange(6) + 10 * rank).split(2), strict=True))


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5)).train()


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    meeting, patience = Path(folder, "meeting").as_uri(), timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=SIZE, timeout=patience)
    model, losses = nn.parallel.DistributedDataParallel(network()), FeatureLosses(DRSLoss(memory_size=7))
    torch.manual_seed(rank)
    random.seed(rank)
    before = torch.get_rng_state(), random.getstate()

    def embed(batch: Any) -> Any:
        features = unwrap(model)(batch[0])
        return [features, features.half()], batch[1].int()

    fill_memories(losses, model, batches_of(rank), embed)
    is_as_before = torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()
    torch.save({"memories": losses.memory_state(), "is as before": is_as_before}, Path(folder, f"{rank}.pt"))
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("world")
    torch.multiprocessing.spawn(process, (str(folder),), nprocs=SIZE)
    return [torch.load(folder / f"{rank}.pt") for rank in range(SIZE)]


@pytest.mark.parametrize("feature", [0, 1])
def test_memories_are_equal_bit_for_bit(left: list[dict[str, Any]], feature: int) -> None:
    first, second = (each["memories"][feature] for each in left)
    for key, value in first.items():
        assert torch.equal(value, second[key]) if isinstance(value, Tensor) else value == second[key]
    assert (first["filled"], first["position"], first["batches"]) == (7, 0, 0)


def test_they_hold_the_batches_of_all_in_the_order_of_the_processes(left: list[dict[str, Any]]) -> None:
    memory, model = left[0]["memories"][0], network()
    pairs = [pair for step in zip(*map(batches_of, range(SIZE)), strict=True) for pair in step]
    expected = torch.cat([model(images).detach() for images, _ in pairs])[:7]
    assert torch.equal(memory["embeddings"], expected)
    assert memory["labels"].tolist() == torch.cat([labels for _, labels in pairs])[:7].tolist()
    assert torch.equal(left[0]["memories"][1]["embeddings"], expected.half().float())


def test_each_process_has_its_own_random_states_afterwards(left: list[dict[str, Any]]) -> None:
    assert [each["is as before"] for each in left] == [True, True]
