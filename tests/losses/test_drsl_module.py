"""The module around the function; what goes in besides plain tensors; what the loss costs."""

import copy
import inspect
import pickle

import pytest
import torch
from cases import (
    DEVICES,
    DISTANCES,
    RELAXATIONS,
    SETTINGS,
    SORTS,
    Batch,
    assert_near,
    gradients,
    leaves,
    name,
    uneven,
    value_and_gradients,
)
from torch.profiler import ProfilerActivity, profile

from drsl_plugin import DRSLoss, drsl_loss


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("refs", [False, True], ids=["batch", "refs"])
@pytest.mark.parametrize("settings", SETTINGS, ids=name)
def test_module_is_the_function_with_its_settings(settings, refs, device):
    settings = {**settings, "temperature": 0.07, "sort_weight": 0.4}
    batch = leaves(uneven(refs), device)
    criterion = DRSLoss(**settings).to(device)
    expected, expected_parts = drsl_loss(*batch, **settings, return_parts=True)
    loss, parts = criterion(*batch, return_parts=True)
    assert loss.device.type == device
    assert torch.equal(loss, expected)
    assert torch.equal(criterion(*batch), expected)
    assert parts == expected_parts


def test_module_and_function_have_the_same_defaults():
    settings = ["distance", "temperature", "relaxation", "sort", "sort_weight"]
    settings += ["gradient", "terms", "center", "backend", "chunk_budget"]
    defaults = ["cosine", 0.05, "sigmoid", "angle", 1.0, "error", "error", False, "auto", None]
    of_function, of_module = (inspect.signature(thing).parameters for thing in (drsl_loss, DRSLoss))
    assert list(of_module) == [*settings[:8], "memory_size", "memory_share", "memory_warmup", *settings[8:]]
    assert [of_module[key].default for key in settings] == defaults
    assert [of_function[key].default for key in settings] == defaults
    assert torch.equal(DRSLoss()(*uneven(refs=True)), drsl_loss(*uneven(refs=True)))


@pytest.mark.parametrize("through", [copy.deepcopy, lambda criterion: pickle.loads(pickle.dumps(criterion))])
def test_copies_of_the_module_are_as_the_module(through):
    criterion = DRSLoss(distance="euclidean", temperature=0.3, relaxation="linear", sort="order", sort_weight=2.0)
    other = through(criterion)
    assert repr(other) == repr(criterion)
    assert torch.equal(other(*uneven()), criterion(*uneven()))


def test_module_shows_its_settings_and_has_no_state():
    criterion = DRSLoss(distance="euclidean", temperature=0.3, relaxation="linear", sort="order", sort_weight=2.0)
    for shown in ("DRSLoss", "euclidean", "temperature=0.3", "linear", "order", "sort_weight=2.0"):
        assert shown in repr(criterion)
    assert criterion.state_dict() == {}
    assert list(criterion.parameters()) == []


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_are_integers_of_any_width(dtype):
    batch = uneven(refs=True)
    narrow = batch._replace(labels=batch.labels.to(dtype))
    expected = drsl_loss(*batch)
    assert torch.equal(drsl_loss(*narrow), expected)
    assert torch.equal(drsl_loss(*narrow._replace(ref_labels=batch.ref_labels.to(dtype))), expected)


def test_labels_of_different_widths_do_not_wrap_around():
    # 2**32 as an int32 is 0, and -1 as a uint8 is 255: neither is the same person.
    query, references = torch.eye(2)[:1], torch.eye(2)
    for label, stranger, dtype in ((0, 2**32, torch.int32), (255, -1, torch.uint8)):
        labels, ref_labels = torch.tensor([label], dtype=dtype), torch.tensor([stranger, stranger])
        assert drsl_loss(query, labels, references, ref_labels) == 0


@pytest.mark.parametrize("distance", DISTANCES)
def test_inputs_need_not_be_contiguous(distance):
    batch = uneven(refs=True)
    expected, expected_gradients = value_and_gradients(batch, distance=distance)
    strided = Batch(
        batch.embeddings.T.contiguous().T,
        batch.labels.repeat_interleave(2)[::2],
        batch.ref_embeddings.repeat_interleave(3, dim=1)[:, ::3],
        torch.stack([batch.ref_labels, batch.ref_labels], dim=1)[:, 1],
    )
    assert not any(tensor.is_contiguous() for tensor in strided)
    strided.embeddings.requires_grad_()
    strided.ref_embeddings.requires_grad_()
    loss = drsl_loss(*strided, distance=distance)
    assert_near(loss, expected)
    for mine, theirs in zip(gradients(loss, strided), expected_gradients, strict=True):
        assert_near(mine, theirs)


def profiled(count, instances, **settings):
    """Events of a forward and backward pass over ``count`` samples, ``instances`` of each identity."""
    generator = torch.Generator().manual_seed(9)
    labels = torch.arange(count) % (count // instances)
    batch = leaves(Batch(torch.randn(count, 8, generator=generator), labels))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        loss, _ = drsl_loss(*batch, **settings, return_parts=True)
        loss.backward()
    return profiler.events()


@pytest.mark.usefixtures("own_chunks")
@pytest.mark.parametrize("settings", SETTINGS, ids=name)
def test_no_tensor_has_all_triples(settings):
    # A float64 or int64 of N x R x K and as much again, never N x N x N, be it of bytes.
    count, instances = 96, 2
    largest = max(event.self_cpu_memory_usage for event in profiled(count, instances, **settings))
    assert count * count * 4 <= largest <= 16 * count * count * instances < count**3


@pytest.mark.usefixtures("own_chunks")
@pytest.mark.parametrize("settings", SETTINGS, ids=name)
def test_number_of_operations_does_not_grow_with_the_batch(settings):
    few, many = (len(profiled(count, 4, **settings)) for count in (12, 48))
    assert 0 < many <= 1.1 * few


@pytest.mark.parametrize("relaxation", RELAXATIONS)
@pytest.mark.parametrize("sort", SORTS)
def test_works_without_autograd(sort, relaxation):
    batch = uneven(refs=True)
    expected = drsl_loss(*batch, sort=sort, relaxation=relaxation)
    for without in (torch.no_grad(), torch.inference_mode()):
        with without:
            loss, _ = drsl_loss(*batch, sort=sort, relaxation=relaxation, return_parts=True)
        assert torch.equal(loss, expected)
        assert not loss.requires_grad
