"""What the settings mean: the limit of small temperatures, sub-batches, what each sorting term does."""

import pytest
import torch
from cases import (
    DISTANCES,
    EVERY,
    RELAXATIONS,
    SORTS,
    Batch,
    assert_near,
    gradients,
    leaves,
    name,
    uneven,
    value_and_gradients,
)
from oracle import average_precision
from torch.nn.functional import cosine_similarity, normalize

from drsl_plugin import drsl_loss


def scores_of_each_query(batch, distance):
    """Yield the scores of positives and of negatives of every query that has a positive."""
    everything = (
        batch.embeddings if batch.ref_embeddings is None else torch.cat([batch.embeddings, batch.ref_embeddings])
    )
    labels = batch.labels if batch.ref_labels is None else torch.cat([batch.labels, batch.ref_labels])
    for q, (query, label) in enumerate(zip(batch.embeddings, batch.labels, strict=True)):
        others = torch.arange(len(labels)) != q
        if distance == "cosine":
            scores = cosine_similarity(query.unsqueeze(0), everything)
        else:
            scores = -(query - everything).norm(dim=1)
        positives = scores[others & (labels == label)].tolist()
        if positives:
            yield positives, scores[others & (labels != label)].tolist()


@pytest.mark.parametrize("relaxation", RELAXATIONS)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("refs", [False, True], ids=["batch", "refs"])
def test_ranking_tends_to_1_minus_average_precision(distance, relaxation, refs):
    batch = uneven(refs, seed=3)
    expected = [average_precision(*scores) for scores in scores_of_each_query(batch, distance)]
    above_all = [
        sum(p > max(negatives) for p in positives) / len(positives)
        for positives, negatives in scores_of_each_query(batch, distance)
    ]
    loss, parts = drsl_loss(
        *batch, distance=distance, relaxation=relaxation, temperature=1e-7, sort="none", return_parts=True
    )
    assert_near(loss, 1 - sum(expected) / len(expected))
    assert_near(parts.ap, sum(expected) / len(expected))
    assert_near(parts.above_all, sum(above_all) / len(above_all))


def test_order_says_nothing_on_normalised_embeddings_but_does_without():
    batch = uneven(refs=True)
    flat = batch._replace(embeddings=normalize(batch.embeddings), ref_embeddings=normalize(batch.ref_embeddings))
    hard = {"sort": "order", "temperature": 1e-8, "return_parts": True}
    for distance in DISTANCES:
        assert_near(drsl_loss(*flat, distance=distance, **hard)[1].sorting, 0.0)
    assert_near(drsl_loss(*batch, distance="cosine", **hard)[1].sorting, 0.0)
    assert drsl_loss(*batch, distance="euclidean", **hard)[1].sorting > 0.01


@pytest.mark.parametrize("refs", [False, True], ids=["batch", "refs"])
@pytest.mark.parametrize("chosen", EVERY, ids=name)
def test_a_batch_is_the_mean_of_its_sub_batches_against_all_the_rest(chosen, refs):
    batch = uneven(refs, seed=4)
    whole, expected = value_and_gradients(batch, **chosen)
    batch = leaves(batch)
    total, queries = 0, 0
    for rows in (slice(0, 5), slice(5, 6), slice(6, 11)):
        rest = [i for i in range(11) if not rows.start <= i < rows.stop]
        others, other_labels = batch.embeddings[rest], batch.labels[rest]
        if refs:
            others, other_labels = (
                torch.cat([others, batch.ref_embeddings]),
                torch.cat([other_labels, batch.ref_labels]),
            )
        labels = batch.labels[rows]
        # One has a positive unless one's label stands once, here, in all there is.
        count = sum(int((torch.cat([labels, other_labels]) == label).sum() > 1) for label in labels)
        loss = drsl_loss(batch.embeddings[rows], labels, others, other_labels, **chosen)
        total, queries = total + count * loss, queries + count
    assert_near(total / queries, whole)
    for mine, theirs in zip(gradients(total / queries, batch), expected, strict=True):
        assert_near(mine, theirs)


@pytest.mark.parametrize("sort", SORTS)
def test_no_references_and_empty_references_are_the_same(sort):
    batch = uneven()
    nothing = Batch(*batch[:2], batch.embeddings[:0], batch.labels[:0])
    assert torch.equal(drsl_loss(*batch, sort=sort), drsl_loss(*nothing, sort=sort))


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_weight_0_is_none(distance, sort):
    chosen = {"distance": distance, "temperature": 0.1}
    batch = uneven(refs=True)
    for weight, other in ((0, sort), (5.0, "none")):
        loss, actual = value_and_gradients(batch, **chosen, sort=other, sort_weight=weight)
        smooth_ap, expected = value_and_gradients(batch, **chosen, sort="none")
        assert_near(loss, smooth_ap)
        assert_near(actual[0], expected[0])
        assert_near(actual[1], expected[1])
    _, parts = drsl_loss(*batch, **chosen, sort="none", return_parts=True)
    assert parts.sorting == 0


@pytest.mark.parametrize("distance", DISTANCES)
def test_angle_pulls_where_every_step_is_saturated(distance):
    batch = uneven()
    chosen = {"distance": distance, "relaxation": "linear", "temperature": 1e-6, "gradient": "slope"}
    _, (saturated,) = value_and_gradients(batch, **chosen, sort="none")
    _, (pulled,) = value_and_gradients(batch, **chosen, sort="angle")
    has_positive = (batch.labels.unsqueeze(0) == batch.labels.unsqueeze(1)).sum(dim=1) > 1
    assert not saturated.any()
    assert pulled[has_positive].any(dim=1).all()
    assert not pulled[~has_positive].any()


@pytest.mark.parametrize("chosen", EVERY, ids=name)
def test_descent_raises_the_average_precision(chosen):
    generator = torch.Generator().manual_seed(5)
    embeddings = torch.randn(24, 6, generator=generator).requires_grad_()
    labels = torch.arange(24) % 5
    optimizer = torch.optim.Adam([embeddings], lr=0.05)
    first = last = None
    for _ in range(15):
        loss, parts = drsl_loss(embeddings, labels, **chosen, temperature=0.2, return_parts=True)
        first, last = first or (loss.item(), parts.ap.item()), (loss.item(), parts.ap.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert last[0] < first[0] - 0.05
    assert last[1] > first[1] + 0.2
