"""Value and gradient: against plain loops, against numbers worked out by hand, against finite differences."""

import math

import pytest
import torch
from cases import (
    DEVICES,
    DISTANCES,
    RELAXATIONS,
    SETTINGS,
    SORTS,
    UPDATES,
    assert_near,
    lattice,
    leaves,
    name,
    truth_and_gradients,
    uneven,
    value_and_gradients,
)

from drsl_plugin import DRSLParts, drsl_loss

X, Y = (1.0, 0.0), (0.0, 1.0)
ONE_QUERY = (torch.tensor([X], dtype=torch.float64), torch.tensor([1]))


def against_one_query(positives, negatives, **settings):
    """Loss and parts of the query (1, 0) against these references."""
    references = torch.tensor([*positives, *negatives], dtype=torch.float64)
    labels = torch.tensor([1] * len(positives) + [0] * len(negatives))
    return drsl_loss(*ONE_QUERY, references, labels, return_parts=True, **settings)


@pytest.mark.kernel
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("refs", [False, True], ids=["batch", "refs"])
@pytest.mark.parametrize("settings", SETTINGS, ids=name)
def test_value_and_gradient_are_those_of_plain_loops(settings, refs, dtype, device):
    settings = {**settings, "temperature": 0.3, "sort_weight": 0.7}
    batch = uneven(refs, dtype=dtype)
    truth, expected = truth_and_gradients(batch, **settings)
    loss, actual = value_and_gradients(batch, device, **settings)
    assert loss.dtype == dtype
    assert_near(loss, truth.loss, dtype)
    for mine, theirs in zip(actual, expected, strict=True):
        assert mine.dtype == dtype
        assert_near(mine, theirs, dtype)


@pytest.mark.kernel
@pytest.mark.parametrize("refs", [False, True], ids=["batch", "refs"])
@pytest.mark.parametrize("settings", UPDATES, ids=name)
def test_updates_and_scales_are_those_of_plain_loops(settings, refs):
    settings = {**settings, "temperature": 0.3, "sort_weight": 0.7}
    for batch in (uneven(refs), lattice(refs)):
        truth, expected = truth_and_gradients(batch, **settings)
        loss, actual = value_and_gradients(batch, **settings)
        assert_near(loss, truth.loss)
        for mine, theirs in zip(actual, expected, strict=True):
            assert_near(mine, theirs)


@pytest.mark.parametrize("temperature", [0.01, 0.05, 1.0])
@pytest.mark.parametrize("distance", DISTANCES)
def test_defaults_are_the_documented_ones(distance, temperature):
    batch = uneven(refs=True, seed=1)
    spelled_out = {"relaxation": "sigmoid", "sort": "angle", "sort_weight": 1.0}
    truth, (expected, _) = truth_and_gradients(batch, distance=distance, temperature=temperature, **spelled_out)
    loss, (actual, _) = value_and_gradients(batch, distance=distance, temperature=temperature)
    assert_near(loss, truth.loss)
    assert_near(actual, expected)
    if (distance, temperature) == ("cosine", 0.05):
        assert drsl_loss(*batch) == loss


@pytest.mark.kernel
@pytest.mark.parametrize("refs", [False, True], ids=["batch", "refs"])
@pytest.mark.parametrize("settings", SETTINGS, ids=name)
def test_duplicates_antipodes_and_zero_vectors_follow_the_conventions(settings, refs):
    settings = {**settings, "temperature": 0.3}
    truth, expected = truth_and_gradients(lattice(refs), **settings)
    loss, actual = value_and_gradients(lattice(refs), **settings)
    assert_near(loss, truth.loss)
    for mine, theirs in zip(actual, expected, strict=True):
        assert_near(mine, theirs)


@pytest.mark.parametrize("make", [uneven, lattice])
@pytest.mark.parametrize("refs", [False, True], ids=["batch", "refs"])
@pytest.mark.parametrize("settings", SETTINGS, ids=name)
def test_parts_are_those_of_plain_loops(settings, refs, make):
    batch = make(refs)
    settings = {**settings, "temperature": 0.2, "sort_weight": 0.5}
    truth, _ = truth_and_gradients(batch, **settings)
    loss, parts = drsl_loss(*leaves(batch), **settings, return_parts=True)
    for part, actual in parts._asdict().items():
        assert_near(actual, getattr(truth, part))
    assert_near(loss, parts.ranking + 0.5 * parts.sorting)


def test_parts_are_detached_scalars_and_only_returned_on_request():
    batch = leaves(uneven())
    alone = drsl_loss(*batch)
    loss, parts = drsl_loss(*batch, return_parts=True)
    assert isinstance(alone, torch.Tensor)
    assert alone.shape == ()
    assert alone.requires_grad
    assert torch.equal(alone, loss)
    assert isinstance(parts, DRSLParts)
    assert parts._fields == ("ranking", "sorting", "ap", "above_all")
    assert all(part.shape == () and not part.requires_grad for part in parts)


# With temperature 1, sigmoid(-1) = 0.268941 and sigmoid(1) = 0.731059.
@pytest.mark.kernel
def test_by_hand_a_positive_before_a_negative():
    # a = sigmoid(0 - 1); l_R = 0.268941 / 1.268941; the positive's angle is 0: y = 1, l_S = 0.
    loss, parts = against_one_query([X], [Y], temperature=1)
    assert loss.item() == pytest.approx(0.211942, abs=1e-6)
    assert [part.item() for part in parts] == pytest.approx([0.211942, 0, 1, 1], abs=1e-6)


@pytest.mark.kernel
def test_by_hand_a_positive_after_a_negative():
    # a = sigmoid(1 - 0); l_R = 0.731059 / 1.731059; a right angle: y = 1/2, l_S = 1/2; AP = 1/2.
    loss, parts = against_one_query([Y], [X], temperature=1)
    assert loss.item() == pytest.approx(0.422319 + 0.5, abs=1e-6)
    assert [part.item() for part in parts] == pytest.approx([0.422319, 0.5, 0.5, 0], abs=1e-6)


@pytest.mark.kernel
def test_by_hand_the_linear_step():
    # a = (1 - 0) / (2 * 2) + 1/2 = 3/4; l_R = 0.75 / 1.75.
    loss, _ = against_one_query([Y], [X], temperature=2, relaxation="linear", sort="none")
    assert loss.item() == pytest.approx(3 / 7)


@pytest.mark.kernel
def test_by_hand_two_positives():
    # To i = X: a = sigmoid(-1), R = 1.268941, l_S = (0 + 0.268941 / 2) / R = 0.105971, target {X}: 0.
    # To i = Y: a = sigmoid(1), R = 1.731059, l_S = (1/2 + 0) / R = 0.288840, target {X, Y}: the same.
    angle, _ = against_one_query([X, Y], [], temperature=1)
    order, parts = against_one_query([X, Y], [], temperature=1, sort="order", sort_weight=3)
    assert angle.item() == pytest.approx((0.105971 + 0.288840) / 2, abs=1e-6)
    assert order.item() == pytest.approx(3 * 0.105971 / 2, abs=1e-6)
    assert [part.item() for part in parts] == pytest.approx([0, 0.105971 / 2, 1, 1], abs=1e-6)


@pytest.mark.kernel
def test_by_hand_euclidean_order_against_angle():
    # p = (3, 0): angle 0, y = 1, distance 2. r = (1, 1): 45 degrees, 1 - y = 0.146447, distance 1.
    # m = 1.5, so s = -4/3 and -2/3: r is ranked surely before p, against the angles.
    # To i = p: R = 2, l_S = 0.146447 / 2 = 0.073223, target {p}: 0. To i = r: R = 1, l_S = l*_S = 0.146447.
    settings = {"distance": "euclidean", "relaxation": "linear", "temperature": 0.1}
    order, _ = against_one_query([(3, 0), (1, 1)], [], sort="order", **settings)
    angle, _ = against_one_query([(3, 0), (1, 1)], [], sort="angle", **settings)
    assert order.item() == pytest.approx(0.0732233 / 2, abs=1e-6)
    assert angle.item() == pytest.approx((0.0732233 + 0.1464466) / 2, abs=1e-6)


@pytest.mark.kernel
def test_by_hand_the_euclidean_score_is_in_units_of_the_mean_distance():
    # Distances 1 (positive) and 3 (negative), m = 2: s = -0.5 and -1.5, a = sigmoid(-1).
    loss, _ = against_one_query([(2, 0)], [(4, 0)], distance="euclidean", temperature=1, sort="none")
    assert loss.item() == pytest.approx(0.211942, abs=1e-6)


@pytest.mark.kernel
def test_by_hand_hard_average_precision():
    # Ranks: positive, negative, positive: AP = (1/1 + 2/3) / 2; one positive of two is above every negative.
    _, parts = against_one_query([(3, 1), (1, 1)], [(2, 1)])
    assert parts.ap.item() == pytest.approx(5 / 6)
    assert parts.above_all.item() == pytest.approx(1 / 2)


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("positives", "negatives", "ap", "above_all"),
    [
        ([X], [X], 1 / 2, 0),  # a tie with a negative counts against
        ([X, X], [X], 2 / 3, 0),  # tied positives all count as found: R = 2, F = 1
        ([X, X], [Y], 1, 1),
        ([X, Y], [Y], (1 + 2 / 3) / 2, 1 / 2),
        ([Y], [], 1, 1),  # without negatives
    ],
)
def test_by_hand_ties_in_the_hard_parts(positives, negatives, ap, above_all):
    _, parts = against_one_query(positives, negatives)
    assert parts.ap.item() == pytest.approx(ap)
    assert parts.above_all.item() == pytest.approx(above_all)


@pytest.mark.kernel
def test_by_hand_the_mean_is_over_positives_within_a_query_and_then_over_queries():
    # Identity 0 sits on X three times: a tie with its two positives, R = 1 + 1/2. Identity 1 sits on Y twice: R = 1.
    # Temperature 1: F = 2 sigmoid(-1) = 0.537883 or 3 sigmoid(-1) = 0.806824, l_R = 0.263942 or 0.446542.
    embeddings = torch.tensor([X, Y, X, Y, X], dtype=torch.float64)
    loss = drsl_loss(embeddings, torch.tensor([0, 1, 0, 1, 0]), temperature=1, sort="none")
    assert loss.item() == pytest.approx((3 * 0.263942 + 2 * 0.446542) / 5, abs=1e-6)


@pytest.mark.kernel
def test_by_hand_the_angle_pulls_the_more_the_earlier_a_positive_is_ranked():
    # Two positives at 30 and 60 degrees, a hard: d l_S / dy = -(1 + 1/2) / 2 for the nearer and -(1/2) / 2 for the
    # farther, dy/dtheta = -sin(theta) / 2: as a radius of 1 turns by theta, so does the loss.
    angles = torch.tensor([math.pi / 6, math.pi / 3], dtype=torch.float64, requires_grad=True)
    references = torch.stack([angles.cos(), angles.sin()], dim=1)
    settings = {"relaxation": "linear", "temperature": 1e-3}
    drsl_loss(*ONE_QUERY, references, torch.tensor([1, 1]), **settings).backward()
    assert angles.grad.tolist() == pytest.approx([0.75 * 0.5 / 2, 0.25 * math.sqrt(0.75) / 2])


@pytest.mark.parametrize("refs", [False, True], ids=["batch", "refs"])
@pytest.mark.parametrize("sort", ["angle", "none"])
@pytest.mark.parametrize(("relaxation", "temperature"), [("sigmoid", 0.2), ("linear", 2.5)])
def test_gradcheck(sort, relaxation, temperature, refs):
    # Where nothing is detached. A cosine differs from another by 2 at most: 2.5 keeps off the line's kinks.
    batch = leaves(uneven(refs, seed=2))
    floating = [tensor for tensor in (batch.embeddings, batch.ref_embeddings) if tensor is not None]

    def loss(embeddings, ref_embeddings=None):
        moved = batch._replace(embeddings=embeddings, ref_embeddings=ref_embeddings)
        return drsl_loss(*moved, sort=sort, gradient="slope", relaxation=relaxation, temperature=temperature)

    assert torch.autograd.gradcheck(loss, floating)


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_upstream_gradient_is_passed_on_and_inputs_are_left_alone(sort, relaxation):
    settings = {"sort": sort, "relaxation": relaxation}
    _, once = value_and_gradients(uneven(refs=True), **settings)
    batch = leaves(uneven(refs=True))
    (-3 * drsl_loss(*batch, **settings)).backward()
    assert_near(batch.embeddings.grad, -3 * once[0])
    assert_near(batch.ref_embeddings.grad, -3 * once[1])
    for before, after in zip(uneven(refs=True), batch, strict=True):
        assert torch.equal(before, after.detach())


@pytest.mark.parametrize("distance", DISTANCES)
def test_references_get_a_gradient_only_where_they_want_one(distance):
    _, (expected, _) = value_and_gradients(uneven(refs=True), distance=distance)
    memory = uneven(refs=True).ref_embeddings
    batch = leaves(uneven(refs=True))._replace(ref_embeddings=memory)
    drsl_loss(*batch, distance=distance).backward()
    assert memory.grad is None
    assert_near(batch.embeddings.grad, expected)

    references_only = leaves(uneven(refs=True))._replace(embeddings=uneven(refs=True).embeddings)
    drsl_loss(*references_only, distance=distance).backward()
    assert references_only.ref_embeddings.grad.abs().sum() > 0
    assert not drsl_loss(*uneven(refs=True), distance=distance).requires_grad
