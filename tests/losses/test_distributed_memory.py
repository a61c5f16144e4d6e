"""The memory over two processes, step by step, against one process with the whole batch.

Spawning costs seconds, the loss nothing: the world does all its jobs in one go, and the tests read what they left.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from cases import EVERY, assert_near, follow_calls, name
from oracle import oracle

from drsl_plugin import DRSLoss, DRSLParts
from drsl_plugin.losses.distributed import distributed_drsl_loss

SIZE = 2
STEPS = 4
# The labels of each process, step by step.
LAYOUTS = {
    "positives everywhere": [[[0, 0, 1, 2], [1, 3, 0, 4]]] * STEPS,
    # None in the batch of any process from the second step on: all that there are lie in the ring.
    "positives in the ring alone": [[[0, 1, 2, 3], [4, 5, 6, 7]], [[0, 4, 9, 1], [10, 11, 2, 12]]] * 2,
    "one without a query": [[[0, 0, 1, 1], [20, 21, 22, 23]], [[0, 1, 0, 2], [30, 31, 32, 33]]] * 2,
    "no query at first": [
        [[8 * step + 4 * rank + i for i in range(4)] for rank in range(SIZE)] for step in (0, 1, 0, 1)
    ],
}
CRITERIA = {name(settings): {**settings, "temperature": 0.3, "sort_weight": 0.7} for settings in EVERY}
FIRST = next(iter(CRITERIA))
MEMORY = {"memory_size": 11, "memory_warmup": 0}
JOBS = [
    *((layout, FIRST, MEMORY) for layout in LAYOUTS),
    *(("positives everywhere", criterion, MEMORY) for criterion in list(CRITERIA)[1:]),
    ("positives everywhere", FIRST, {"memory_size": 8, "memory_warmup": 2}),
    ("positives in the ring alone", FIRST, {"memory_size": 100, "memory_warmup": 3}),
]


def key_of(*job: Any) -> str:
    return " | ".join(map(str, job))


def batch_of(layout: str, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All processes' samples, one process behind the other."""
    labels = torch.tensor(LAYOUTS[layout][step])
    generator = torch.Generator().manual_seed(step)
    return torch.randn(*labels.shape, 5, generator=generator, dtype=torch.float64), labels


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    meeting, patience = Path(folder, "meeting").as_uri(), timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=SIZE, timeout=patience)
    left = {key_of(*job): steps(rank, *job) for job in JOBS}
    left["looked at"] = looked_at(rank)
    left["half"] = half(rank)
    left["too large"] = too_large(rank)
    left["checks"] = checks(rank)
    torch.save(left, Path(folder, f"{rank}.pt"))
    dist.barrier()
    dist.destroy_process_group()


def steps(rank: int, layout: str, criterion: str, memory: dict[str, int]) -> list[dict[str, Any]]:
    loss = DRSLoss(**CRITERIA[criterion], **memory)
    left = []
    for step in range(STEPS):
        embeddings, labels = (tensor[rank].clone() for tensor in batch_of(layout, step))
        share, parts = distributed_drsl_loss(loss, embeddings.requires_grad_(), labels)
        share.backward()
        state = loss.memory.state()
        left.append({"share": share.detach(), "parts": torch.stack(parts), "gradient": embeddings.grad, "state": state})
    return left


def looked_at(rank: int) -> list[int]:
    """The batches that are stored after an evaluation, and after a step without gradients."""
    loss, batch = DRSLoss(memory_size=8), [tensor[rank] for tensor in batch_of("positives everywhere", 0)]
    distributed_drsl_loss(loss.eval(), *batch)
    counts = [loss.memory.batches]
    with torch.no_grad():
        distributed_drsl_loss(loss.train(), *batch)
    return [*counts, loss.memory.batches]


def half(rank: int) -> dict[str, Any]:
    loss, batch = DRSLoss(memory_size=8), [tensor[rank] for tensor in batch_of("positives everywhere", 0)]
    distributed_drsl_loss(loss, batch[0].half(), batch[1])
    return loss.memory.state()


def too_large(rank: int) -> str:
    loss, batch = DRSLoss(memory_size=7), [tensor[rank] for tensor in batch_of("positives everywhere", 0)]
    try:
        distributed_drsl_loss(loss, *batch)
    except ValueError as problem:
        return str(problem)
    return ""


def checks(rank: int) -> list[int]:
    """How often a batch is checked, without and with a memory."""
    counts = []
    for size in (0, 8):
        with follow_calls() as calls:
            batch = [tensor[rank] for tensor in batch_of("positives everywhere", 0)]
            distributed_drsl_loss(DRSLoss(memory_size=size), *batch)
        counts.append([call.function for call in calls].count("check_batch"))
    return counts


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("world")
    torch.multiprocessing.spawn(process, (str(folder),), nprocs=SIZE)
    return [torch.load(folder / f"{rank}.pt") for rank in range(SIZE)]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: key_of(*job))
def test_every_step_is_that_of_one_process_with_the_whole_batch(left: list[dict[str, Any]], job: Any) -> None:
    """Loss, parts and gradients by the definition, with the ring of a single process as references."""
    layout, criterion, settings = job
    alone = DRSLoss(**CRITERIA[criterion], **settings)
    for step in range(STEPS):
        found = [each[key_of(*job)][step] for each in left]
        embeddings, labels = (tensor.flatten(0, 1) for tensor in batch_of(layout, step))
        embeddings.requires_grad_()
        truth = oracle(embeddings, labels, *(alone.memory.entries() or ()), **CRITERIA[criterion])
        truth.loss.backward()
        assert_near(torch.stack([each["share"] for each in found]).mean(), truth.loss)
        assert_near(torch.cat([each["gradient"] for each in found]), SIZE * embeddings.grad)
        expected = torch.tensor([getattr(truth, part) for part in DRSLParts._fields], dtype=torch.float64)
        for each in found:
            assert_near(each["parts"], expected)
        if layout == "positives in the ring alone":
            assert (truth.loss > 0) == (step >= max(1, settings["memory_warmup"]))
        alone(embeddings.detach().requires_grad_(), labels)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: key_of(*job))
def test_rings_are_equal_bit_for_bit(left: list[dict[str, Any]], job: Any) -> None:
    """Those of the processes, and that of one with the whole batch."""
    layout, criterion, settings = job
    alone = DRSLoss(**CRITERIA[criterion], **settings)
    for step in range(STEPS):
        alone(*(tensor.flatten(0, 1) for tensor in batch_of(layout, step)))
        expected = alone.memory.state()
        for each in left:
            found = each[key_of(*job)][step]["state"]
            assert found.keys() == expected.keys()
            for key, value in expected.items():
                assert torch.equal(found[key], value) if isinstance(value, torch.Tensor) else found[key] == value


def test_batches_that_are_only_looked_at_are_not_stored(left: list[dict[str, Any]]) -> None:
    assert [each["looked at"] for each in left] == [[0, 0], [0, 0]]


def test_half_precision_is_stored_in_float32(left: list[dict[str, Any]]) -> None:
    expected = batch_of("positives everywhere", 0)[0].flatten(0, 1).half().float()
    for each in left:
        assert each["half"]["embeddings"].dtype == torch.float32
        assert torch.equal(each["half"]["embeddings"], expected)


def test_a_memory_smaller_than_the_batch_of_all_processes(left: list[dict[str, Any]]) -> None:
    message = "memory_size must be at least the batch of 2 processes, 8 embeddings in all, got 7"
    assert [each["too large"] for each in left] == [message, message]


def test_a_batch_is_checked_once(left: list[dict[str, Any]]) -> None:
    assert [each["checks"] for each in left] == [[1, 1], [1, 1]]
