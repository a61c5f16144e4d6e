"""The error-driven update, which is no derivative: the errors themselves, shared out among their causes."""

from __future__ import annotations

import math

import pytest
import torch
from cases import DISTANCES, RELAXATIONS, Batch, assert_near, gradients, leaves, uneven, value_and_gradients
from oracle import cosine, sorting_error, step

from drsl_plugin import DRSLoss, drsl_loss

SLOPE, ERROR = {"gradient": "slope"}, {"gradient": "error"}


def references_at(cosines: list[float]) -> torch.Tensor:
    """Unit vectors at these cosines to (1, 0)."""
    return torch.tensor([[c, math.sqrt(1 - c * c)] for c in cosines], dtype=torch.float64)


def of_scores(positives: list[float], negatives: list[float], **settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Value, and gradient in the cosines, of the query (1, 0)."""
    batch = leaves(
        Batch(
            torch.tensor([[1.0, 0.0]], dtype=torch.float64),
            torch.tensor([1]),
            references_at([*positives, *negatives]),
            torch.tensor([1] * len(positives) + [0] * len(negatives)),
        )
    )
    loss = drsl_loss(*batch, **settings)
    _, gradient = gradients(loss, batch)
    # Of a unit vector at an angle t to the query, d cos / d r = (sin t) (sin t, -cos t).
    c, s = batch.ref_embeddings.detach().T
    return loss.detach(), (gradient * torch.stack([s, -c], dim=1)).sum(dim=1) / s


def written_out(positives: list[float], negatives: list[float], temperature: float, relaxation: str, sort: str, weight):
    """The update of each score as its formula reads: a pull a positive, its pushes, nothing of a derivative."""
    s = torch.tensor([*positives, *negatives], dtype=torch.float64)
    count, unit = len(positives), 1 / (2 * temperature)
    update = torch.zeros_like(s)
    quality = [(1 + score) / 2 for score in s[:count]]
    for i in range(count):
        a = {j: step(s[j] - s[i], temperature, relaxation) for j in range(len(s)) if j != i}
        rank = 1 + sum(a[j] for j in range(count) if j != i)
        false_positives = sum(a[j] for j in range(count, len(s)))
        error = false_positives / (rank + false_positives)
        update[i] -= unit * error
        for j in range(count, len(s)):
            update[j] += unit * a[j] / (rank + false_positives)
        if sort == "angle":
            update[i] -= weight / rank / 2
            for j in range(count):
                if j != i:
                    update[j] -= weight * a[j] / rank / 2
        if sort == "order":
            better = [j for j in range(count) if quality[j] >= quality[i]]
            excess = sorting_error(i, list(range(count)), a, quality) - sorting_error(i, better, a, quality)
            worse = [j for j in range(count) if quality[j] < quality[i]]
            causes = sum(a[j] for j in worse)
            if causes > 0:
                update[i] -= unit * weight * excess
                for j in worse:
                    update[j] += unit * weight * excess * a[j] / causes
    return update / count


@pytest.mark.kernel
@pytest.mark.parametrize("sort", ["none", "angle", "order"])
@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_the_update_of_each_score_is_the_one_written_out(relaxation, sort):
    positives, negatives = [0.3, 0.85, 0.42, -0.2], [0.5, 0.35, -0.6, 0.9, 0.28]
    settings = {"temperature": 0.2, "relaxation": relaxation, "sort": sort, "sort_weight": 0.7}
    _, actual = of_scores(positives, negatives, **settings, **ERROR)
    assert_near(actual, written_out(positives, negatives, 0.2, relaxation, sort, 0.7))


def test_the_value_is_that_of_the_derivative():
    batch = uneven(refs=True)
    for sort in ("none", "angle", "order"):
        assert_near(drsl_loss(*batch, sort=sort, **ERROR), drsl_loss(*batch, sort=sort, gradient="slope"))


@pytest.mark.kernel
def test_pulls_and_pushes_balance_at_every_ratio():
    for count in (1, 15, 255):
        negatives = torch.linspace(-0.9, 0.9, count).tolist()
        value, update = of_scores([0.2], negatives, sort="none", temperature=0.05, **ERROR)
        assert_near(-update[0], value / 0.1)  # the error itself, in the unit 1 / (2 temperature)
        assert_near(update[1:].sum(), -update[0])
        assert (update[1:] >= 0).all()


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_the_pull_at_ties_stays_where_the_derivative_fades_with_the_negatives(relaxation):
    # At ties a = 1/2: an error of N / (N + 2), and the derivative is precision times slope, 2 / (N + 2) / (2 x 0.1).
    slope = {"sigmoid": 2.5, "linear": 5.0}[relaxation]
    for count in (2, 30, 1000):
        tie = {"temperature": 0.1, "relaxation": relaxation, "sort": "none"}
        pulls = {
            name: -of_scores([0.5], [0.5] * count, **tie, **settings)[1][0].item()
            for name, settings in {"slope": SLOPE, "error": ERROR, "log": {**SLOPE, "terms": "log"}}.items()
        }
        assert pulls["error"] == pytest.approx(5 * count / (count + 2))
        assert pulls["slope"] == pytest.approx(slope * count / (1 + count / 2) ** 2)
        assert pulls["log"] == pytest.approx(slope * count / (1 + count / 2))


def test_a_negative_far_ahead_is_pushed_where_the_derivative_has_died():
    far = {"temperature": 0.01, "sort": "none"}
    _, slope = of_scores([-0.5], [0.9], **far, **SLOPE)
    _, error = of_scores([-0.5], [0.9], **far, **ERROR)
    assert slope.abs().max() < 1e-30
    assert error[0] == pytest.approx(-25)
    assert error[1] == pytest.approx(25)


def test_nothing_moves_where_every_positive_is_first():
    _, update = of_scores([0.9, 0.8], [0.1, -0.2], temperature=0.05, relaxation="linear", sort="order", **ERROR)
    assert not update.any()


@pytest.mark.kernel
def test_order_moves_what_is_out_of_order_alone():
    # By Euclidean distance (1, 1) stands before (3, 0), whose angle is 0: the sorting error 0.0732 of the latter alone.
    references = torch.tensor([(3.0, 0.0), (1.0, 1.0)], dtype=torch.float64)
    query = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    batch = leaves(Batch(query, torch.tensor([1]), references, torch.tensor([1, 1])))
    settings = {"distance": "euclidean", "relaxation": "linear", "temperature": 0.1, "sort": "order"}
    _, gradient = gradients(drsl_loss(*batch, **settings, **ERROR), batch)
    pull = 5 * 0.0732233 / 2 / 1.5  # over two positives, and the query's mean distance
    assert gradient[0].tolist() == pytest.approx([pull, 0], abs=1e-6)
    assert gradient[1].tolist() == pytest.approx([0, -pull], abs=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("backend", ["unfused", "chunked"])
def test_a_second_derivative_is_refused_by_name(backend, distance):
    batch = leaves(uneven())
    loss = drsl_loss(*batch, backend=backend, distance=distance, **ERROR)
    what = "gradient is 'error', which is no derivative; gradient='slope'" if backend == "unfused" else "backend"
    with pytest.raises(RuntimeError, match=f"no second derivative .*{what}"):
        torch.autograd.grad(loss, batch.embeddings, create_graph=True)


def test_settings_that_contradict_each_other_are_named():
    for settings, says in (
        ({"terms": "log", "gradient": "error"}, "terms must be 'error' or 'graded' where gradient is 'error'.* 'log'"),
        ({"terms": "graded", "sort": "none"}, "terms must be 'error' or 'log' where sort is 'none'.* 'graded'"),
        ({"terms": "graded", "sort_weight": 1.5}, r"sort_weight must be 1 or below where terms is 'graded', got 1\.5"),
        ({"gradient": "errors"}, "gradient must be one of 'slope', 'error', got 'errors'"),
        ({"terms": 1}, "terms must be one of 'error', 'log', 'graded', got 1"),
        ({"center": "yes"}, "center must be True or False, got 'yes'"),
    ):
        for call in (lambda settings=settings: drsl_loss(*uneven(), **settings), lambda s=settings: DRSLoss(**s)):
            with pytest.raises(ValueError, match=says):
                call()


def test_graded_is_the_precision_in_which_a_positive_counts_its_quality():
    # Hard ranks: the positive at 0.6 is second, after a negative: 1/2 x quality 0.8; at 0.2 fourth: (0.8 + 0.6) / 4.
    settings = {"temperature": 1e-6, "terms": "graded", "sort": "angle"}
    value, _ = of_scores([0.6, 0.2], [0.9, 0.4], **settings)
    assert value.item() == pytest.approx(1 - (0.8 / 2 + 1.4 / 4) / 2)
    half, _ = of_scores([0.6, 0.2], [0.9, 0.4], **settings, sort_weight=0.5)
    assert half.item() == pytest.approx(1 - (0.9 / 2 + (0.9 + 0.8) / 4) / 2)


def test_a_positive_at_the_opposite_pole_is_finite_under_the_logarithm():
    batch = Batch(torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64), torch.tensor([0, 0]))
    loss, (gradient,) = value_and_gradients(batch, terms="log", **SLOPE)
    assert loss.item() == pytest.approx(math.log(1e6))
    assert not gradient.any()
    assert cosine(*batch.embeddings) == -1
