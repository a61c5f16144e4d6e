"""Scores of embeddings less their mean: of the batch with gradient, of what does not move apart from it."""

from __future__ import annotations

import pytest
import torch
from cases import DISTANCES, EVERY, Batch, assert_near, gradients, leaves, name, truth_and_gradients, uneven
from oracle import oracle

from drsl_plugin import DRSLoss, drsl_loss

ROWS = torch.randn(6, 3, generator=torch.Generator().manual_seed(6))
PAIRS = torch.tensor([0, 1, 0, 1, 2, 2])
FAR = torch.tensor([30.0, -20.0, 10.0, 5.0], dtype=torch.float64)


def against_memory(batch: Batch, **settings):
    """Loss and gradient of a batch against references without gradient."""
    batch = leaves(batch)
    loss = drsl_loss(batch.embeddings, batch.labels, batch.ref_embeddings.detach(), batch.ref_labels, **settings)
    loss.backward()
    return loss.detach(), batch.embeddings.grad


@pytest.mark.kernel
@pytest.mark.parametrize("settings", EVERY[::3], ids=name)
def test_references_without_gradient_have_their_own_mean(settings):
    settings = {**settings, "center": True, "temperature": 0.3}
    batch = leaves(uneven(refs=True))
    truth = oracle(batch.embeddings, batch.labels, batch.ref_embeddings.detach(), batch.ref_labels, **settings)
    truth.loss.backward()
    loss, gradient = against_memory(uneven(refs=True), **settings)
    assert_near(loss, truth.loss)
    assert_near(gradient, batch.embeddings.grad)


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_shift_of_the_batch_or_of_the_memory_changes_nothing(distance):
    batch = uneven(refs=True)
    settings = {"distance": distance, "center": True}
    loss, gradient = against_memory(batch, **settings)
    for moved in (
        batch._replace(embeddings=batch.embeddings + FAR),
        batch._replace(ref_embeddings=batch.ref_embeddings + FAR),
    ):
        same, equal = against_memory(moved, **settings)
        assert_near(same, loss)
        assert_near(equal, gradient)
        assert abs(against_memory(moved, distance=distance)[0] - loss) > 1e-3
    assert_near(gradient.sum(dim=0), torch.zeros(4))  # so that no update moves the batch as a whole


def test_references_with_gradient_share_the_mean_of_the_batch():
    batch = uneven(refs=True)
    shifted = batch._replace(embeddings=batch.embeddings + FAR, ref_embeddings=batch.ref_embeddings + FAR)
    truth, expected = truth_and_gradients(batch, center=True)
    moved = leaves(shifted)
    loss = drsl_loss(*moved, center=True)
    assert_near(loss, truth.loss)
    for mine, theirs in zip(gradients(loss, moved), expected, strict=True):
        assert_near(mine, theirs)


def test_euclidean_distances_within_a_batch_do_not_change():
    batch = uneven()
    settings = {"distance": "euclidean", "sort": "none"}
    assert_near(drsl_loss(*batch, **settings, center=True), drsl_loss(*batch, **settings))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("settings", EVERY, ids=name)
@pytest.mark.parametrize(
    "batch",
    {
        "all equal": Batch(ROWS[:1].expand(6, 3), PAIRS),
        "all equal, like the references": Batch(ROWS[:1].expand(6, 3), PAIRS, ROWS[:1].expand(6, 3), PAIRS),
        "one sample": Batch(ROWS[:1], PAIRS[:1]),
        "against one reference": Batch(ROWS[:1].expand(6, 3), PAIRS, ROWS[1:2], PAIRS[:1]),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_what_has_no_spread_has_no_gradient(batch, settings, dtype):
    embeddings, *others = batch[1]
    embeddings = embeddings.to(dtype).clone().requires_grad_()
    if others[1] is not None:
        others[1] = others[1].to(dtype)
    loss = drsl_loss(embeddings, *others, **{**settings, "center": True})
    loss.backward()
    assert torch.isfinite(loss)
    assert not embeddings.grad.any()


def test_a_batch_of_one_against_references_is_refused_by_name():
    references = (ROWS[1:], PAIRS[1:])
    for call in (drsl_loss, lambda *batch, center: DRSLoss(center=center)(*batch)):
        with pytest.raises(ValueError, match="center True: needs a batch of two embeddings or more"):
            call(ROWS[:1], PAIRS[:1], *references, center=True)
    assert drsl_loss(ROWS[:1], PAIRS[:1], *references) > 0


@pytest.mark.parametrize("settings", EVERY, ids=name)
def test_one_identity_alone_is_finite(settings):
    batch = leaves(Batch(ROWS, torch.zeros(6, dtype=torch.int64)))
    loss = drsl_loss(*batch, **{**settings, "center": True})
    assert torch.isfinite(loss)
    assert torch.isfinite(gradients(loss, batch)[0]).all()


def test_a_memory_is_centred_apart_and_what_is_given_without_gradient_with_it():
    criterion = DRSLoss(memory_size=12, center=True)
    batch = uneven(refs=True)
    criterion(batch.embeddings + FAR, batch.labels)  # stored
    kept = batch.embeddings + FAR
    loss = criterion(*leaves(batch)[:2], batch.ref_embeddings, batch.ref_labels)
    together = torch.cat([batch.ref_embeddings, kept])
    expected = drsl_loss(*batch[:2], together, torch.cat([batch.ref_labels, batch.labels]), center=True)
    assert_near(loss, expected)

    criterion = DRSLoss(memory_size=12, center=True)
    criterion(kept, batch.labels)
    moving = leaves(batch)
    loss = criterion(*moving)  # references with gradient are of the batch, the memory is not
    rows = torch.cat([batch.embeddings, batch.ref_embeddings])
    rows, kept = rows - rows.mean(dim=0), kept - kept.mean(dim=0)
    references, labels = torch.cat([rows[11:], kept]), torch.cat([batch.ref_labels, batch.labels])
    assert_near(loss, drsl_loss(rows[:11], batch.labels, references, labels))


def test_evaluation_mode_and_no_gradient_give_the_same_value():
    batch = uneven()
    with torch.no_grad():
        assert_near(drsl_loss(*batch, center=True), drsl_loss(*leaves(batch), center=True))
