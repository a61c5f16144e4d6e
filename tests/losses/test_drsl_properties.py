"""What holds for every batch: invariances, bounds, exact zeros, the sum of a row of the score gradient."""

import pytest
import torch
from cases import (
    DISTANCES,
    RELAXATIONS,
    SORTS,
    Batch,
    assert_near,
    gradients,
    leaves,
    upper_bound,
    value_and_gradients,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn.functional import cosine_similarity, normalize

from drsl_plugin import drsl_loss

identities = st.lists(st.integers(0, 3), min_size=2, max_size=9)
any_settings = st.fixed_dictionaries(
    {
        "distance": st.sampled_from(DISTANCES),
        "relaxation": st.sampled_from(RELAXATIONS),
        "sort": st.sampled_from(SORTS),
        "temperature": st.floats(0.02, 2),
        "sort_weight": st.floats(0, 3),
        "update": st.sampled_from([("slope", "error"), ("slope", "log"), ("slope", "graded"), ("error", "error")]),
        "center": st.booleans(),
    }
).map(lambda drawn: together(**drawn))


def together(update, **chosen):
    """Settings that go together: ``graded`` takes a sorting term, of weight 1 at most."""
    gradient, terms = update
    if terms == "graded" and chosen["sort"] == "none":
        terms = "log"
    if terms == "graded":
        chosen["sort_weight"] /= 3
    return {**chosen, "gradient": gradient, "terms": terms}


@st.composite
def batches(draw, like_normal=True):
    """Draw a batch in general position, or one on a coarse grid: duplicates, zero vectors, ties."""
    labels = draw(identities)
    ref_labels = draw(st.lists(st.integers(0, 5), max_size=5))
    count = len(labels) + len(ref_labels)
    if like_normal:
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
        rows = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    else:
        row = st.tuples(*[st.integers(-2, 2)] * 3)
        rows = torch.tensor(draw(st.lists(row, min_size=count, max_size=count)), dtype=torch.float64)
    embeddings, ref_embeddings = rows.split([len(labels), len(ref_labels)])
    return Batch(embeddings, torch.tensor(labels), ref_embeddings, torch.tensor(ref_labels, dtype=torch.int64))


def permutation(draw, count):
    return torch.tensor(draw(st.permutations(range(count))), dtype=torch.int64)


@given(batches(), any_settings, st.data())
def test_order_of_batch_and_references_does_not_matter(batch, chosen, data):
    shuffle = permutation(data.draw, len(batch.labels))
    ref_shuffle = permutation(data.draw, len(batch.ref_labels))
    loss, (gradient, ref_gradient) = value_and_gradients(batch, **chosen)
    shuffled = Batch(
        batch.embeddings[shuffle],
        batch.labels[shuffle],
        batch.ref_embeddings[ref_shuffle],
        batch.ref_labels[ref_shuffle],
    )
    same, (moved, ref_moved) = value_and_gradients(shuffled, **chosen)
    assert_near(same, loss)
    assert_near(moved, gradient[shuffle])
    assert_near(ref_moved, ref_gradient[ref_shuffle])


@given(
    batches(),
    any_settings,
    st.lists(st.one_of(st.integers(-3, 3), st.integers(2**53, 2**53 + 9)), min_size=6, max_size=6, unique=True),
)
def test_only_the_equality_of_labels_matters(batch, chosen, names):
    # 2**53 + 1 is no float64: labels that pass through a float on their way collide.
    renamed = batch._replace(
        labels=torch.tensor([names[label] for label in batch.labels]),
        ref_labels=torch.tensor([names[label] for label in batch.ref_labels], dtype=torch.int64),
    )
    assert torch.equal(drsl_loss(*renamed, **chosen), drsl_loss(*batch, **chosen))


@settings(max_examples=100)
@given(st.one_of(batches(), batches(like_normal=False)), any_settings)
def test_loss_and_parts_stay_in_their_bounds_with_a_finite_gradient(batch, chosen):
    batch = leaves(batch)
    loss, parts = drsl_loss(*batch, **chosen, return_parts=True)
    slack = 1e-9
    assert -slack <= loss <= upper_bound(chosen, len(batch.labels) + len(batch.ref_labels)) + slack
    assert 0 <= parts.ranking < 1
    assert -slack <= parts.sorting <= 1 + slack
    assert 0 <= parts.above_all <= parts.ap + slack
    assert parts.ap <= 1 + slack
    assert all(torch.isfinite(gradient).all() for gradient in gradients(loss, batch))


@given(batches(), any_settings, st.integers(-40, 40))
def test_scale_of_the_embeddings_does_not_matter(batch, chosen, exponent):
    scaled = batch._replace(
        embeddings=batch.embeddings * 2.0**exponent, ref_embeddings=batch.ref_embeddings * 2.0**exponent
    )
    assert_near(drsl_loss(*scaled, **chosen), drsl_loss(*batch, **chosen))


@given(batches(), any_settings, st.data())
def test_cosine_does_not_see_the_length_of_any_one_embedding(batch, chosen, data):
    chosen.update(distance="cosine", center=False)
    count = len(batch.labels)
    exponents = data.draw(st.lists(st.integers(-20, 20), min_size=count, max_size=count))
    lengths = 2.0 ** torch.tensor(exponents, dtype=torch.float64).unsqueeze(1)
    loss, (gradient, _) = value_and_gradients(batch, **chosen)
    assert_near(drsl_loss(*batch._replace(embeddings=batch.embeddings * lengths), **chosen), loss)
    assert_near((gradient * batch.embeddings).sum(dim=1), torch.zeros(count))


@given(batches(), any_settings, st.integers(0, 2**20))
def test_rotations_and_for_euclidean_ranking_shifts_do_not_matter(batch, chosen, seed):
    generator = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    turned = batch._replace(embeddings=batch.embeddings @ rotation, ref_embeddings=batch.ref_embeddings @ rotation)
    assert_near(drsl_loss(*turned, **chosen), drsl_loss(*batch, **chosen))

    if not chosen["center"]:  # which makes it true of all others
        chosen.update(distance="euclidean", sort="none", terms="error")
    shifted = batch._replace(
        embeddings=batch.embeddings + rotation[0], ref_embeddings=batch.ref_embeddings + rotation[0]
    )
    assert_near(drsl_loss(*shifted, **chosen), drsl_loss(*batch, **chosen))


def score_gradient(batch, **chosen):
    """Gradient with respect to each score (cosine, or minus the distance) of one query against references."""
    _, (_, gradient) = value_and_gradients(batch, **chosen)
    query, references = batch.embeddings, batch.ref_embeddings
    if chosen["distance"] == "euclidean":
        # d(-distance) / dr = (q - r) / distance, a unit vector.
        return (gradient * normalize(query - references)).sum(dim=1)
    # dcos / dr = (q/|q| - cos r/|r|) / |r|: project the gradient on it.
    cosine = cosine_similarity(query, references).unsqueeze(1)
    slope = (normalize(query) - cosine * normalize(references)) / references.norm(dim=1, keepdim=True)
    return (gradient * slope).sum(dim=1) / slope.pow(2).sum(dim=1)


@given(batches(), any_settings)
def test_rows_of_the_score_gradient_sum_to_zero_or_for_angle_to_minus_half_the_weight(batch, chosen):
    # Every a, and every pull, is of differences of scores: a shift of the row changes none.
    # sum_j dl_S / dy_qj = -1, dy / dcos = 1/2.
    batch = batch._replace(embeddings=batch.embeddings[:1], labels=batch.labels[:1])
    chosen.update(terms="error", center=False)
    positives = batch.ref_labels == batch.labels
    assume(bool(positives.any()) and (len(positives) > 1 or chosen["sort"] == "angle"))
    if chosen["sort"] == "angle":
        chosen["distance"] = "cosine"
    expected = -chosen["sort_weight"] / 2 if chosen["sort"] == "angle" else 0.0
    gradient = score_gradient(batch, **chosen)
    assert_near(gradient.sum(), expected)
    if chosen["sort"] == "none":
        slack = 1e-9  # more score for a positive never hurts the ranking as a whole
        assert gradient[positives].sum() <= slack
        assert (gradient[~positives] >= -slack).all()


@pytest.mark.parametrize("distance", DISTANCES)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=4), st.lists(st.floats(0, 1), max_size=4), st.floats(0.05, 0.9))
def test_linear_ranking_is_exactly_0_once_every_positive_beats_every_negative_by_the_temperature(
    distance, near, far, temperature
):
    near, far = torch.tensor(near, dtype=torch.float64), torch.tensor(far, dtype=torch.float64)
    if distance == "cosine":
        references = torch.stack([torch.cat([near, far]), (1 - torch.cat([near, far]) ** 2).sqrt()], dim=1)
        gap = near.min() - far.max() if len(far) else torch.tensor(2.0)
    else:
        references = torch.stack([torch.cat([near, 1 + far]), torch.zeros(len(near) + len(far))], dim=1)
        gap = (1 + far.min() - near.max()) / references[:, 0].mean() if len(far) else torch.tensor(2.0)
    assume(abs(gap - temperature) > 1e-6)
    query = torch.tensor([[float(distance == "cosine"), 0.0]], dtype=torch.float64)
    labels = torch.tensor([1] * len(near) + [0] * len(far))
    chosen = {"distance": distance, "temperature": temperature, "relaxation": "linear", "sort": "none"}
    loss, gradient = value_and_gradients(Batch(query, torch.tensor([1]), references, labels), **chosen)
    assert (loss == 0) == bool(gap > temperature)
    if loss == 0:
        assert not any(part.any() for part in gradient)
