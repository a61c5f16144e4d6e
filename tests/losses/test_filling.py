"""A memory's first filling: what it holds afterwards, and that nothing else is another than before."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from drsl_plugin import DRSLoss
from drsl_plugin.errors import SettingError
from drsl_plugin.losses import EmbeddingMemory, FeatureLosses
from drsl_plugin.losses.filling import fill_memories, is_filling_due, too_few_images

NAMES_ITS_PATHS = True  # no loss is computed here

IMAGES = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) // 2
BATCHES = list(zip(IMAGES.split(4), LABELS.split(4), strict=True))


def network(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(dropout)).train()


def fill(losses: FeatureLosses, model: nn.Module, batches: Any = BATCHES, **options: Any) -> int:
    return fill_memories(losses, model, batches, lambda batch: ([model(batch[0])], batch[1]), **options)


def losses_of(**settings: Any) -> FeatureLosses:
    return FeatureLosses(DRSLoss(**settings))


def memory_of(losses: FeatureLosses, feature: int = 0) -> EmbeddingMemory:
    memory = losses.of(feature).memory
    assert memory is not None
    return memory


def states() -> list[Any]:
    keys = np.random.get_state(legacy=False)["state"]
    return [torch.get_rng_state().tolist(), random.getstate(), keys["key"].tolist(), keys["pos"]]


# What it holds


@pytest.mark.parametrize("size", [4, 8, 10, 12])
def test_it_holds_the_embeddings_of_training_mode(size: int) -> None:
    model, losses = network(), losses_of(memory_size=size)
    expected = [copy.deepcopy(model)(images).detach() for images, _ in BATCHES]
    assert fill(losses, model) == size
    memory = memory_of(losses)
    embeddings, labels = memory.entries() or ()
    assert torch.equal(embeddings, torch.cat(expected)[:size])
    assert torch.equal(labels, LABELS[:size])
    assert (memory.filled, memory.position, memory.batches) == (size, 0, 0)
    assert not embeddings.requires_grad


def test_what_was_stored_makes_room_and_the_next_batch_takes_the_first_places() -> None:
    losses = losses_of(memory_size=10, memory_warmup=2)
    memory = memory_of(losses)
    for number in range(2):
        memory.store(torch.full((3, 5), -1.0), torch.full((3,), 90 + number))
    assert is_filling_due(losses)
    fill(losses, network())
    assert memory.state()["labels"].tolist() == LABELS[:10].tolist()
    assert memory.batches == 2
    memory.store(torch.zeros(4, 5), torch.full((4,), 99))
    assert memory.state()["labels"].tolist() == [99] * 4 + LABELS[4:10].tolist()
    assert not is_filling_due(losses)


def test_each_feature_has_its_own() -> None:
    losses, model = losses_of(memory_size=8), network()

    def embed(batch: Any) -> Any:
        features = model(batch[0])
        return [features, features[:, :2] ** 2], batch[1]

    fill_memories(losses, model, BATCHES, embed)
    first, second = (memory_of(losses, number).entries() or () for number in range(2))
    assert torch.equal(second[0], first[0][:, :2] ** 2)
    assert first[1].tolist() == second[1].tolist() == LABELS[:8].tolist()


def test_half_precision_becomes_float32() -> None:
    losses = losses_of(memory_size=8)
    fill_memories(losses, network(), BATCHES, lambda batch: ([batch[0].half()], batch[1]))
    assert torch.equal(memory_of(losses).entries()[0], IMAGES[:8].half().float())  # type: ignore[index]


# Nothing else is another than before


def test_buffers_gradients_and_random_states_are_left_alone() -> None:
    model, losses = network(dropout=0.5), losses_of(memory_size=8)
    model(IMAGES).sum().backward()
    before, gradients = copy.deepcopy(model.state_dict()), [each.grad.clone() for each in model.parameters()]
    random.seed(1), np.random.seed(1)
    generators = states()
    fill(losses, model, DataLoader(TensorDataset(IMAGES, LABELS), batch_size=4, shuffle=True))
    assert states() == generators
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(torch.equal(each.grad, old) for each, old in zip(model.parameters(), gradients, strict=True))
    assert model.training


def test_its_images_are_not_drawn_in_the_order_of_the_next_pass() -> None:
    loader = DataLoader(
        TensorDataset(torch.arange(1000.0).unsqueeze(1), torch.arange(1000)), batch_size=50, shuffle=True
    )
    torch.manual_seed(5)
    losses = losses_of(memory_size=50)
    fill_memories(losses, network(), loader, lambda batch: (batch[:1], batch[1]))
    drawn = memory_of(losses).state()["labels"].tolist()
    assert drawn != next(iter(loader))[1].tolist()
    torch.manual_seed(5)
    again = losses_of(memory_size=50)
    fill_memories(again, network(), loader, lambda batch: (batch[:1], batch[1]))
    assert memory_of(again).state()["labels"].tolist() == drawn


def test_what_the_batches_draw_when_they_are_closed_is_not_seen_either() -> None:
    closed = []

    def drawing() -> Iterator[tuple[Tensor, Tensor]]:
        try:
            while True:
                yield BATCHES[0]
        finally:
            closed.append((torch.rand(3), np.random.rand(3), random.random()))

    generators = states()
    fill(losses_of(memory_size=6), network(), drawing())
    assert len(closed) == 1
    assert states() == generators


def test_an_error_leaves_nothing_behind_either() -> None:
    model = network(dropout=0.5)
    before, generators = copy.deepcopy(model.state_dict()), states()

    def embed(batch: Any) -> Any:
        model(batch[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill_memories(losses_of(memory_size=6), model, BATCHES, embed)
    assert states() == generators
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# When it is due


def test_it_is_due_before_the_first_step_in_which_the_memory_takes_part() -> None:
    losses = losses_of(memory_size=8, memory_warmup=2)
    due = []
    for _ in range(4):
        due.append(is_filling_due(losses))
        losses.of(0)(torch.randn(4, 5, requires_grad=True), torch.tensor([0, 0, 1, 1]))
    assert due == [False, False, True, False]
    assert is_filling_due(losses_of(memory_size=8))
    assert not is_filling_due(losses_of())
    evaluated = losses_of(memory_size=8)
    assert not is_filling_due(evaluated.eval())


# Bad input


def test_batches_that_come_to_an_end_are_gone_through_again_where_asked() -> None:
    losses = losses_of(memory_size=30)
    assert fill(losses, network(), repeat=True) == 30
    assert memory_of(losses).state()["labels"].tolist() == (LABELS.tolist() * 3)[:30]


@pytest.mark.parametrize("options", [{"batches": BATCHES}, {"batches": iter(BATCHES), "repeat": True}])
def test_too_few_batches_are_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(SettingError) as caught:
        fill(losses_of(memory_size=13), network(), **options)
    line = (
        "memory_size 13: the training's batches have 12 images in all to fill it with (memory_fill fresh); 12 at most"
    )
    assert str(caught.value) == f"{line} would do"


def test_too_few_images_are_one_line() -> None:
    assert [*too_few_images(DRSLoss(memory_size=12), 12), *too_few_images(DRSLoss(), 0)] == []
    (error,) = too_few_images(DRSLoss(memory_size=13), 12)
    line = "memory_size 13: there are 12 training images to fill it with (memory_fill fresh); 12 at most would do"
    assert str(error) == line


def test_too_few_images_for_a_share_are_one_line() -> None:
    criterion = DRSLoss(memory_share=1.0)
    criterion.make_memory(4, batch=16)
    (error,) = too_few_images(criterion, 4)
    line = "memory_share 1.0: a memory of 16 embeddings, and there are 4 training images to fill it with (memory_fill "
    assert str(error) == f"{line}fresh); a smaller share, or a smaller batch, would do"


def test_no_memory_is_one_line() -> None:
    with pytest.raises(SettingError, match=r"^memory_size 0: no memory to fill"):
        fill(losses_of(), network())
