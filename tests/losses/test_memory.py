"""The memory of earlier embeddings: the ring against a list, and the loss with it against explicit references."""

from __future__ import annotations

import copy
import io
import pickle
import re
from typing import Any

import pytest
import torch
from cases import DEVICES, SETTINGS, Batch, assert_near, leaves, name, uneven, value_and_gradients
from hypothesis import given
from hypothesis import strategies as st
from oracle import oracle
from torch import Tensor, nn

from drsl_plugin import DRSLoss, drsl_loss
from drsl_plugin.losses import EmbeddingMemory, FeatureLosses
from drsl_plugin.losses.features import compare_memories

NO_MEMORY = "where memory_size and memory_share are 0, for there is no memory"
ALONE = torch.arange(100, 111)  # labels that occur once


def batches(count: int, dtype: torch.dtype = torch.float64) -> list[Batch]:
    return [uneven(refs=True, seed=seed, dtype=dtype) for seed in range(count)]


def content(memory: EmbeddingMemory) -> list[tuple[list[float], int]]:
    """What takes part, place by place."""
    entries = memory.entries()
    return [] if entries is None else list(zip(entries[0].tolist(), entries[1].tolist(), strict=True))


def slots(rows: list[Any], size: int) -> list[Any]:
    """The ring by its definition: the place of a row is its number modulo the size, and the newest row has it."""
    newest = {number % size: row for number, row in enumerate(rows)}
    return [newest[place] for place in sorted(newest)]


# The ring


@given(st.integers(1, 9), st.lists(st.integers(0, 9), max_size=12), st.integers(0, 12))
def test_ring_is_the_newest_of_a_list(size: int, counts: list[int], saved_behind: int) -> None:
    memory, rows, number = EmbeddingMemory(size), [], 0
    for turn, count in enumerate(min(count, size) for count in counts):
        labels = torch.arange(number, number + count)
        embeddings = torch.stack([labels + 0.5, -labels], dim=1)
        number += count
        memory.store(embeddings, labels)
        rows += zip(embeddings.tolist(), labels.tolist(), strict=True)
        assert content(memory) == slots(rows, size)
        if turn == saved_behind:
            memory = reread(memory, EmbeddingMemory(size))
            assert content(memory) == slots(rows, size)
    assert memory.batches == len(counts)


def reread(memory: EmbeddingMemory, other: EmbeddingMemory) -> EmbeddingMemory:
    """Through a file, as today's torch reads it: tensors and plain types only."""
    file = io.BytesIO()
    torch.save(memory.state(), file)
    file.seek(0)
    other.load(torch.load(file, weights_only=True))
    return other


def test_a_saved_ring_is_no_larger_than_what_is_in_it() -> None:
    memory = EmbeddingMemory(10**6)
    memory.store(torch.eye(3), torch.arange(3))
    state = memory.state()
    file = io.BytesIO()
    torch.save(state, file)
    assert len(file.getvalue()) < 10_000
    memory.store(torch.ones(2, 3), torch.arange(2))
    assert torch.equal(state["embeddings"], torch.eye(3)), "a state is a copy"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_precision(given: torch.dtype, kept: torch.dtype) -> None:
    criterion = DRSLoss(memory_size=40)
    for batch in batches(2, given):
        loss = criterion(batch.embeddings, batch.labels)
    embeddings, labels = criterion.memory.entries()
    assert (embeddings.dtype, labels.dtype) == (kept, torch.int64)
    expected = torch.cat([batch.embeddings for batch in batches(2, given)])
    assert torch.equal(embeddings, expected.to(kept))
    first, second = batches(2, given)
    assert torch.equal(loss, drsl_loss(*second[:2], first.embeddings, first.labels))


def test_labels_of_any_width() -> None:
    memory = EmbeddingMemory(8)
    labels = torch.tensor([2**53 + 1, -7])
    memory.store(torch.eye(2), labels)
    memory.store(torch.eye(2), torch.tensor([255, 3], dtype=torch.uint8))
    assert memory.entries()[1].tolist() == [2**53 + 1, -7, 255, 3]


# The loss


@pytest.mark.parametrize("given_too", [False, True], ids=["alone", "with references given"])
@pytest.mark.parametrize("settings", SETTINGS, ids=name)
def test_loss_is_that_with_explicit_references(settings: dict[str, Any], given_too: bool) -> None:
    """Over steps, from the definition: the loss, its parts and every gradient."""
    settings = {**settings, "temperature": 0.3, "sort_weight": 0.7}
    criterion = DRSLoss(**settings, memory_size=25)
    rows: list[Any] = []
    for batch in batches(4):
        batch = batch if given_too else batch._replace(ref_embeddings=None, ref_labels=None)
        kept = slots(rows, 25)
        refs, ref_labels = ([] if tensor is None else [*tensor] for tensor in batch[2:])
        explicit = Batch(*batch[:2])
        if kept or refs:
            explicit = explicit._replace(
                ref_embeddings=torch.stack([*refs, *(row for row, _ in kept)]),
                ref_labels=torch.stack([*ref_labels, *(label for _, label in kept)]),
            )
        truth = oracle(*explicit, **settings)
        _, expected = value_and_gradients(explicit, **settings)

        inputs = leaves(batch)
        loss, parts = criterion(*inputs, return_parts=True)
        loss.backward()  # behind the storing, as in a training step
        assert_near(loss, truth.loss)
        for part in ("ranking", "sorting", "ap", "above_all"):
            assert_near(getattr(parts, part), getattr(truth, part))
        assert_near(inputs.embeddings.grad, expected[0])
        if given_too:
            assert_near(inputs.ref_embeddings.grad, expected[1][: len(refs)])
        rows += zip(batch.embeddings, batch.labels, strict=True)
    assert len(rows) == 44, "the ring has gone round"


def test_the_losses_of_two_steps_can_be_added_up() -> None:
    """The second store must not change what the first one's gradient needs."""
    criterion, inputs = DRSLoss(memory_size=11), [leaves(batch)[:2] for batch in batches(3)]
    torch.stack([criterion(*each) for each in inputs]).sum().backward()
    kept = None
    for embeddings, labels in inputs:
        refs = () if kept is None else kept
        _, (expected, *_) = value_and_gradients(Batch(embeddings.detach(), labels, *refs))
        assert_near(embeddings.grad, expected)
        kept = embeddings.detach(), labels


def test_no_gradient_flows_into_the_ring_and_it_shares_nothing() -> None:
    criterion = DRSLoss(memory_size=30)
    embeddings, labels = leaves(uneven())[:2]
    network = nn.Linear(4, 4).double()
    criterion(network(embeddings), labels).backward()
    kept = criterion.memory.embeddings
    before = kept.clone()
    assert not kept.requires_grad
    assert kept.grad_fn is None
    embeddings.grad = None
    network.zero_grad()
    with torch.no_grad():
        embeddings.zero_()
        labels.zero_()
    assert torch.equal(kept, before)
    assert criterion.memory.labels[: len(uneven().labels)].tolist() == uneven().labels.tolist()
    criterion(uneven(seed=1).embeddings.requires_grad_(), ALONE).backward()
    assert embeddings.grad is None
    assert network.weight.grad is None or not network.weight.grad.any(), "of the step before"


def test_the_current_batch_is_not_counted_twice() -> None:
    batch = uneven()
    criterion = DRSLoss(memory_size=40)
    first = criterion(*batch[:2])
    assert torch.equal(first, drsl_loss(*batch[:2])), "not yet stored"
    second = criterion(*batch[:2])
    assert torch.equal(second, drsl_loss(*batch[:2], *batch[:2])), "stored once"
    assert not torch.equal(first, second)


def test_a_positive_in_the_ring_makes_a_query() -> None:
    batch = uneven()
    criterion = DRSLoss(memory_size=11, temperature=0.3)
    assert criterion(batch.embeddings, ALONE) == 0
    other = uneven(seed=1).embeddings.requires_grad_()
    loss = criterion(other, ALONE)
    loss.backward()
    assert loss > 0.1
    assert other.grad.any()


@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_warmup_stores_from_the_first_batch_and_takes_part_later(warmup: int) -> None:
    criterion = DRSLoss(memory_size=100, memory_warmup=warmup)
    for step, batch in enumerate(batches(5)):
        earlier = batches(step)
        refs = ()
        if step >= max(warmup, 1):
            refs = tuple(torch.cat([each[kind] for each in earlier]) for kind in (0, 1))
        assert torch.equal(criterion(*batch[:2]), drsl_loss(*batch[:2], *refs))
    assert criterion.memory.filled == 55


LOOKED_AT = {
    "evaluation": lambda criterion, batch: criterion.eval()(*batch),
    "no gradients": lambda criterion, batch: torch.no_grad()(criterion)(*batch),
    "inference": lambda criterion, batch: torch.inference_mode()(criterion)(*batch),
    "not remembered": lambda criterion, batch: criterion(*batch, remember=False),
}


@pytest.mark.parametrize("how", LOOKED_AT)
def test_a_batch_that_is_only_looked_at_is_not_stored(how: str) -> None:
    criterion = DRSLoss(memory_size=40)
    first, second = (batch[:2] for batch in batches(2))
    criterion(*first)
    before = criterion.memory.state()
    refs = () if how == "evaluation" else first
    assert torch.equal(LOOKED_AT[how](criterion, second), drsl_loss(*second, *refs))
    criterion.train()
    after = criterion.memory.state()
    assert [key for key in before if not same(before[key], after[key])] == []


def same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) else one == other


def test_an_empty_batch_is_a_step() -> None:
    criterion = DRSLoss(memory_size=11, memory_warmup=2)
    criterion(*uneven()[:2])
    assert criterion(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)) == 0
    assert (criterion.memory.filled, criterion.memory.batches) == (11, 2)
    assert criterion.memory.entries() is not None


# The module


def test_nothing_of_it_is_in_the_weights() -> None:
    holders = [nn.ModuleDict({"body": nn.Linear(4, 4), "loss": DRSLoss(memory_size=size)}) for size in (20, 0)]
    holders[0]["loss"](*uneven()[:2])
    assert [*holders[0].state_dict()] == [*holders[1].state_dict()] == ["body.weight", "body.bias"]
    assert len(list(holders[0].parameters())) == 2
    assert holders[0].load_state_dict(holders[1].state_dict(), strict=True)
    assert holders[0]["loss"].memory.filled == 11
    assert {key for key, _ in holders[0].named_buffers()} == {"loss.memory.embeddings", "loss.memory.labels"}


@pytest.mark.parametrize("through", [copy.deepcopy, lambda criterion: pickle.loads(pickle.dumps(criterion))])
def test_copies_go_on_by_themselves(through: Any) -> None:
    criterion = DRSLoss(memory_size=20, memory_warmup=1)
    first, second, third = (batch[:2] for batch in batches(3))
    criterion(*first)
    other = through(criterion)
    assert repr(other) == repr(criterion)
    assert "memory_size" not in repr(DRSLoss())
    assert "size=20, warmup=1" in repr(criterion)
    assert torch.equal(other(*second), criterion(*second))
    other(*third)
    assert content(other.memory) != content(criterion.memory)


@pytest.mark.parametrize("device", DEVICES)
def test_a_resumed_ring_goes_on_as_if_never_stopped(device: str) -> None:
    criteria = [DRSLoss(memory_size=25, memory_warmup=2).to(device) for _ in range(2)]
    moved = [Batch(*(tensor.to(device) for tensor in batch)) for batch in batches(5)]
    for batch in moved[:3]:
        criteria[0](*batch[:2])
    state = criteria[0].memory.state()
    criteria[1].memory.load({key: x.cpu() if isinstance(x, Tensor) else x for key, x in state.items()}, device)
    for batch in moved[3:]:
        values = [criterion(*batch[:2]) for criterion in criteria]
        assert torch.equal(*values)
    assert content(criteria[0].memory) == content(criteria[1].memory)


def test_an_unused_ring_is_saved_too() -> None:
    memory = reread(EmbeddingMemory(5), EmbeddingMemory(5, warmup=1))
    memory.store(torch.eye(2), torch.arange(2))
    assert content(memory) == [([1.0, 0.0], 0), ([0.0, 1.0], 1)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_nothing_waits_for_the_gpu() -> None:
    memory = EmbeddingMemory(100)
    embeddings, labels = (tensor.cuda() for tensor in uneven()[:2])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(12):
            memory.check(embeddings)
            memory.join(embeddings, embeddings, labels)
            memory.store(embeddings, labels)
            memory.entries()
    finally:
        torch.cuda.set_sync_debug_mode("default")


# Models with several features


def test_each_feature_has_a_ring_of_its_own() -> None:
    losses = FeatureLosses(DRSLoss(temperature=0.2, sort="none", memory_size=25))
    features = [lambda x: x, lambda x: x[:, :3], lambda x: 2 * x + 1]
    previous: list[Any] = []
    for batch in batches(3):
        for number, feature in enumerate(features):
            embeddings = feature(batch.embeddings)
            refs = tuple(torch.cat(parts) for parts in zip(*((feature(e), y) for e, y in previous), strict=True))
            expected = drsl_loss(embeddings, batch.labels, *refs, temperature=0.2, sort="none")
            assert torch.equal(losses.of(number)(embeddings, batch.labels), expected)
        previous.append(batch[:2])
    assert [losses.of(number).memory.embeddings.shape for number in range(3)] == [(25, 4), (25, 3), (25, 4)]
    assert len({id(losses.of(number).memory) for number in range(3)}) == 3

    resumed = FeatureLosses(DRSLoss(memory_size=25))
    resumed.load_memory_state(losses.memory_state())
    assert [content(each.memory) for each in resumed] == [content(each.memory) for each in losses]
    assert len(resumed) == 3


def test_features_without_a_ring_share_one_loss() -> None:
    losses = FeatureLosses(DRSLoss())
    assert losses.of(4) is losses.of(0)
    assert losses.memory_state() == []
    losses.load_memory_state([EmbeddingMemory(3).state()])
    assert len(losses) == 1


def test_all_features_get_the_temperature() -> None:
    losses = FeatureLosses(DRSLoss(memory_size=5))
    losses.of(1)
    losses.set_temperature(0.3)
    assert [losses.of(number).temperature for number in range(3)] == [0.3, 0.3, 0.3]


def test_a_feature_that_comes_later_begins_with_nothing() -> None:
    losses = FeatureLosses(DRSLoss(memory_size=20, memory_warmup=3))
    losses.of(0)(*uneven()[:2])
    later = losses.of(1).memory
    assert (later.filled, later.batches, later.embeddings, later.warmup) == (0, 0, None, 3)


# Bad input

X = torch.eye(4)
Y = torch.tensor([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"memory_size": -1}, "memory_size must be a whole number, 0 or above, got -1"),
        ({"memory_size": 2.0}, "memory_size must be a whole number, 0 or above, got 2.0"),
        ({"memory_size": True}, "memory_size must be a whole number, 0 or above, got True"),
        ({"memory_size": 8, "memory_warmup": -1}, "memory_warmup must be a whole number, 0 or above, got -1"),
        ({"memory_warmup": 5}, f"memory_warmup must be 0 {NO_MEMORY}, got 5"),
        ({"memory_share": 1.5}, "memory_share must be a number from 0 to 1, got 1.5"),
        ({"memory_share": -0.1}, "memory_share must be a number from 0 to 1, got -0.1"),
        ({"memory_share": float("nan")}, "memory_share must be a number from 0 to 1, got nan"),
        (
            {"memory_share": 0.5, "memory_size": 8},
            "memory_share must be 0 where memory_size is 8, which gives the size too, got 0.5",
        ),
        ({"memory_warmup": "ten"}, "memory_warmup must be a whole number, 0 or above, got 'ten'"),
    ],
)
def test_settings_outside_their_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        DRSLoss(**settings)


# A share of the training images


@pytest.mark.parametrize(
    ("share", "images", "batch", "size"),
    [(0.5, 100, 8, 50), (1.0, 33, 8, 33), (0.3, 33, 8, 10), (0.01, 100, 8, 8), (0.26, 10, 1, 3), (1, 0, 0, 1)],
)
def test_a_share_is_rounded_and_never_below_a_batch(share: float, images: int, batch: int, size: int) -> None:
    criterion = DRSLoss(memory_share=share, memory_warmup=3)
    assert criterion.make_memory(images, batch) == size
    assert criterion.memory is not None
    assert (criterion.memory.size, criterion.memory.warmup) == (size, 3)
    assert criterion.memory_setting == ("memory_share", share)
    assert (criterion.memory_size, criterion.memory_share) == (0, share)


def test_a_memory_of_a_share_is_that_of_its_size() -> None:
    shared, sized = DRSLoss(memory_share=0.5), DRSLoss(memory_size=16)
    shared.make_memory(images=32)
    for features in (FeatureLosses(shared), FeatureLosses(copy.deepcopy(shared))):
        assert features.of(1).memory is not features.of(0).memory
        assert features.of(1).memory.size == 16  # type: ignore[union-attr]
    for batch in batches(3):
        assert torch.equal(shared(*batch[:2]), sized(*batch[:2]))
    shared.temperature = 0.2
    assert shared.memory is not None
    assert shared.memory.batches == 3


def test_a_share_of_an_unknown_number_is_refused_in_training_alone() -> None:
    criterion = DRSLoss(memory_share=0.5)
    with pytest.raises(ValueError, match=r"^memory_share 0\.5: a share of how many training images\? make_memory"):
        criterion(X.requires_grad_(), Y)
    assert torch.equal(criterion.eval()(X, Y), DRSLoss()(X, Y))


def test_no_share_makes_no_memory() -> None:
    for criterion in (DRSLoss(), DRSLoss(memory_size=8)):
        with pytest.raises(ValueError, match=r"^memory_share must be above 0"):
            criterion.make_memory(100)


def test_another_size_than_the_saved_memorys_says_what_to_do() -> None:
    losses = [FeatureLosses(DRSLoss(memory_share=0.5)) for _ in range(2)]
    for each, images in zip(losses, (32, 40), strict=True):
        each.of(0).make_memory(images)
    message = (
        "memory_share 0.5: gives a memory of 20 embeddings here, and the saved one has 16; memory_share 0 with "
        "memory_size 16 goes on with that"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        losses[1].load_memory_state(losses[0].memory_state())


BAD_BATCHES: dict[str, tuple[tuple[Any, ...], type[Exception], str]] = {
    "larger": (
        (torch.eye(9)[:, :4], torch.arange(9)),
        ValueError,
        "memory_size must be at least the batch of 9, got 8",
    ),
    "wider": ((torch.eye(5)[:4], Y), ValueError, "embeddings must have the 4 dimensions of those in the memory, got "),
    "elsewhere": ((X.to("meta"), Y.to("meta")), ValueError, "on the device of the memory, cpu, got meta"),
    "flat": ((X[0], Y), ValueError, "embeddings must have shape"),
    "labels that are floats": ((X, Y.float()), TypeError, "labels must be an integer tensor"),
    "references alone": ((X, Y, X), ValueError, "ref_embeddings needs ref_labels"),
    "wider references": ((X, Y, torch.eye(5), torch.arange(5)), ValueError, "ref_embeddings must have the 4 dimen"),
}


@pytest.mark.parametrize(("arguments", "kind", "message"), BAD_BATCHES.values(), ids=BAD_BATCHES)
def test_batches_that_do_not_go_with_it(arguments: tuple[Any, ...], kind: type[Exception], message: str) -> None:
    criterion = DRSLoss(memory_size=8)
    criterion(X, Y)
    with pytest.raises(kind, match=re.escape(message)):
        criterion(*arguments)
    assert criterion.memory.batches == 1, "nothing is stored of it"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 9}, "memory_size must be 9, that of the saved memory, got 8"),
        ({"labels": ...}, "not the state of a memory: no labels in it"),
    ],
)
def test_states_that_do_not_go_with_it(change: dict[str, Any], message: str) -> None:
    memory = EmbeddingMemory(8)
    memory.store(X, Y)
    state = {key: value for key, value in {**memory.state(), **change}.items() if value is not ...}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        memory.load(state)
    assert memory.filled == 4, "it stays as it is"


@pytest.mark.parametrize(
    ("saved", "size", "case"),
    [
        (None, 0, "NONE"),
        ([], 0, "NONE"),
        (None, 8, "NONE_SAVED"),
        ([], 8, "NONE_SAVED"),
        ([8], 0, "NONE_WANTED"),
        ([8, 8], 8, "SAME"),
        ([8, 8], 9, "ANOTHER_SIZE"),
    ],
)
def test_what_a_resumed_run_finds(saved: list[int] | None, size: int, case: str) -> None:
    states = None if saved is None else [EmbeddingMemory(each).state() for each in saved]
    assert compare_memories(states, size).name == case
