"""Degenerate batches, extreme scales, low precision, NaN, arguments that make no sense."""

import math

import pytest
import torch
from cases import (
    DEVICES,
    DISTANCES,
    EVERY,
    RELAXATIONS,
    SORTS,
    TOLERANCE,
    Batch,
    assert_near,
    error,
    gradients,
    leaves,
    name,
    truth_and_gradients,
    uneven,
    upper_bound,
    value_and_gradients,
)
from oracle import oracle

from drsl_plugin import DRSLoss, drsl_loss

ROWS = torch.randn(6, 3, generator=torch.Generator().manual_seed(6))
PAIRS = torch.tensor([0, 1, 0, 1, 2, 2])
WITHOUT_QUERY = {
    "all different": Batch(ROWS, torch.arange(6)),
    "one sample": Batch(ROWS[:1], torch.tensor([0])),
    "no sample": Batch(ROWS[:0], PAIRS[:0]),
    "no sample, references": Batch(ROWS[:0], PAIRS[:0], ROWS, PAIRS),
    "only strangers": Batch(ROWS[:1], torch.tensor([7]), ROWS[1:], PAIRS[1:]),
}
DEGENERATE = {
    "one identity": Batch(ROWS, torch.zeros(6, dtype=torch.int64)),
    "duplicates": Batch(ROWS[:1].expand(6, 3), PAIRS),
    "pairs of duplicates": Batch(ROWS[:3].repeat(2, 1), PAIRS),
    "duplicates in the references": Batch(ROWS, PAIRS, ROWS, PAIRS),
    "zero vectors": Batch(torch.zeros(6, 3), PAIRS),
    "one zero vector": Batch(ROWS * (torch.arange(6) > 0).unsqueeze(1), PAIRS),
    "antipodes": Batch(torch.cat([ROWS[:3], -ROWS[:3]]), torch.tensor([0, 1, 2, 0, 1, 2])),
    "huge": Batch(ROWS * 1e20, PAIRS),
    "tiny": Batch(ROWS * 1e-20, PAIRS),
    "huge and tiny": Batch(ROWS * torch.tensor([1e20, 1e-20, 1, 1, 1e20, 1e-20]).unsqueeze(1), PAIRS),
    "one dimension": Batch(ROWS[:, :1], PAIRS),
    "one sample against references": Batch(ROWS[:1], PAIRS[:1], ROWS[1:], PAIRS[1:]),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("settings", EVERY, ids=name)
@pytest.mark.parametrize("batch", DEGENERATE.values(), ids=DEGENERATE)
def test_degenerate_batches_have_a_finite_loss_and_gradient(batch, settings, device):
    batch = leaves(batch, device)
    loss, parts = drsl_loss(*batch, **settings, return_parts=True)
    assert loss.requires_grad
    assert -1e-6 <= loss <= upper_bound(settings, len(batch.labels) + 5) + 1e-6
    assert all(0 <= part <= 1 + 1e-6 for part in (parts.ranking, parts.ap, parts.above_all))
    for gradient in gradients(loss, batch):
        assert torch.isfinite(gradient).all()


@pytest.mark.kernel
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("settings", EVERY, ids=name)
@pytest.mark.parametrize("batch", WITHOUT_QUERY.values(), ids=WITHOUT_QUERY)
def test_without_a_query_the_loss_is_0_and_keeps_its_graph(batch, settings, device):
    batch = leaves(batch, device)
    loss, parts = drsl_loss(*batch, **settings, return_parts=True)
    assert loss.shape == ()
    assert loss.item() == 0
    assert [part.item() for part in parts] == [0, 0, 0, 0]
    loss.backward()
    assert batch.embeddings.grad.shape == batch.embeddings.shape
    assert not batch.embeddings.grad.any()


@pytest.mark.parametrize("scale", [1.0, 0.0])
@pytest.mark.parametrize("distance", DISTANCES)
def test_when_all_embeddings_agree_every_step_is_one_half(distance, scale):
    # Three of one identity, two of another. l_R = 1 / (1.5 + 1) for the three, 1.5 / (1 + 1.5) for the two.
    # Sorting: the angle is 0, or taken as 90 degrees where there is none (zero vectors): 1 - y = 1/2.
    batch = Batch(scale * ROWS[:1].expand(5, 3), torch.tensor([0, 1, 0, 1, 0]))
    loss, (gradient,) = value_and_gradients(batch, distance=distance)
    _, parts = drsl_loss(*batch, distance=distance, return_parts=True)
    assert loss.item() == pytest.approx((3 * 0.4 + 2 * 0.6) / 5 + 0.5 * (scale == 0), abs=1e-5)
    assert parts.above_all == 0
    if distance == "euclidean" or scale == 0:  # R = 2, F = 2 and R = 1, F = 3: exact ties
        assert parts.ap.item() == pytest.approx((3 * 1 / 2 + 2 * 1 / 4) / 5)
        _, (ranking_gradient,) = value_and_gradients(batch, distance=distance, sort="none")
        assert not ranking_gradient.any()
    if scale == 0:
        assert not gradient.any()


@pytest.mark.parametrize("scale", [1e20, 1e-20])
@pytest.mark.parametrize("settings", EVERY, ids=name)
def test_float32_does_not_over_or_underflow(settings, scale):
    batch = uneven(refs=True, dtype=torch.float32)
    scaled = batch._replace(embeddings=batch.embeddings * scale, ref_embeddings=batch.ref_embeddings * scale)
    truth, expected = truth_and_gradients(batch, **settings, temperature=0.3)
    loss, actual = value_and_gradients(scaled, **settings, temperature=0.3)
    assert_near(loss, truth.loss, torch.float32)
    for mine, theirs in zip(actual, expected, strict=True):
        assert_near(mine.double() * scale, theirs, torch.float32)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("settings", EVERY, ids=name)
def test_low_precision_is_no_worse_than_a_naive_implementation_in_it(settings, dtype, device):
    batch = uneven(refs=True, dtype=dtype, seed=7)
    loss, actual = value_and_gradients(batch, device, **settings)
    truth, expected = truth_and_gradients(batch, **settings)
    try:
        naive, _ = truth_and_gradients(batch, **settings, dtype=dtype)
    except RuntimeError as unsupported:
        pytest.skip(f"torch {torch.__version__} cannot compute it in {dtype}: {unsupported}")
    assert error(loss, truth.loss) <= error(naive.loss, truth.loss) + 2e-6

    # All that is lost is lost in the rounding of what comes in and of the gradient that goes out.
    assert loss.dtype == torch.float32
    assert_near(loss, truth.loss, torch.float32)
    for mine, theirs in zip(actual, expected, strict=True):
        assert mine.dtype == dtype
        assert_near(mine, theirs, dtype)


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize(("offset", "spread", "temperature"), [(100, 0.3, 0.05), (0, 1e-3, 2e-4)])
def test_euclidean_in_float32_bears_a_common_offset_and_near_duplicates(offset, spread, temperature, sort):
    # The difference of two large squares loses the digits that decide here; cdist takes it from 26 rows on.
    generator = torch.Generator().manual_seed(8)
    centres = offset + torch.randn(7, 8, generator=generator).repeat(5, 1)
    rows = torch.arange(35)  # five rows around each centre, of two identities
    batch = Batch(centres + spread * torch.randn(35, 8, generator=generator), 2 * (rows % 7) + rows // 21)
    settings = {"distance": "euclidean", "sort": sort, "temperature": temperature}
    loss = drsl_loss(*batch, **settings)
    truth, naive = (oracle(*batch, **settings, dtype=dtype) for dtype in (torch.float64, torch.float32))
    assert error(loss, truth.loss) <= error(naive.loss, truth.loss) + TOLERANCE[torch.float32]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("settings", EVERY, ids=name)
def test_autocast_changes_nothing(settings, dtype, device):
    batch = uneven(refs=True, dtype=dtype)
    expected, expected_gradients = value_and_gradients(batch, device, **settings)
    batch = leaves(batch, device)
    with torch.autocast(device, dtype=torch.bfloat16):
        loss, parts = drsl_loss(*batch, **settings, return_parts=True)
    assert loss.dtype == parts.ap.dtype == torch.float32
    assert torch.equal(loss, expected)
    for mine, theirs in zip(gradients(loss, batch), expected_gradients, strict=True):
        assert torch.equal(mine, theirs)


def test_references_in_another_precision_keep_theirs():
    exact = uneven(refs=True, dtype=torch.float32)
    mixed = exact._replace(embeddings=exact.embeddings.bfloat16())
    rounded = exact._replace(embeddings=mixed.embeddings.float())
    loss, (gradient, ref_gradient) = value_and_gradients(mixed)
    assert torch.equal(loss, value_and_gradients(rounded)[0])
    assert gradient.dtype == torch.bfloat16
    assert ref_gradient.dtype == torch.float32


@pytest.mark.parametrize("where", ["query", "lone sample", "reference"])
@pytest.mark.parametrize("whole_row", [False, True])
@pytest.mark.parametrize("settings", EVERY, ids=name)
def test_nan_is_never_hidden(settings, whole_row, where):
    batch = uneven(refs=True)
    tensor, row = {"query": (0, 1), "lone sample": (0, 8), "reference": (2, 2)}[where]
    batch[tensor][row, slice(None) if whole_row else 1] = math.nan
    assert torch.isnan(drsl_loss(*batch, **settings))


@pytest.mark.parametrize("relaxation", RELAXATIONS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_nan_among_positives_only_is_never_hidden(distance, relaxation):
    # Without negatives F = 0 whatever the scores; also with all else a zero vector or a duplicate.
    embeddings = torch.zeros(3, 2)
    embeddings[0, 0] = math.nan
    loss = drsl_loss(embeddings, torch.zeros(3, dtype=torch.int64), distance=distance, relaxation=relaxation)
    assert torch.isnan(loss)


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": 0.0},
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"sort_weight": -0.5},
        {"sort_weight": math.nan},
        {"distance": "manhattan"},
        {"relaxation": "hard"},
        {"sort": "Angle"},
    ],
    ids=name,
)
def test_bad_settings_are_named(bad):
    ((argument, value),) = bad.items()
    with pytest.raises(ValueError, match=argument) as from_function:
        drsl_loss(ROWS, PAIRS, **bad)
    with pytest.raises(ValueError, match=argument) as from_module:
        DRSLoss(**bad)
    assert str(value) in str(from_function.value)
    assert str(value) in str(from_module.value)


@pytest.mark.parametrize(
    ("arguments", "named", "got"),
    [
        ((ROWS[0], PAIRS), "embeddings", "(3,)"),
        ((ROWS.unsqueeze(0), PAIRS), "embeddings", "(1, 6, 3)"),
        ((ROWS.long(), PAIRS), "embeddings", "int64"),
        ((ROWS.to(torch.complex64), PAIRS), "embeddings", "complex64"),
        ((ROWS, PAIRS[:5]), "labels", "5"),
        ((ROWS, PAIRS.unsqueeze(1)), "labels", "(6, 1)"),
        ((ROWS, PAIRS, ROWS), "ref_labels", "None"),
        ((ROWS, PAIRS, None, PAIRS), "ref_embeddings", "None"),
        ((ROWS, PAIRS, ROWS[:, :2], PAIRS), "ref_embeddings", "2"),
        ((ROWS, PAIRS, ROWS[0], PAIRS), "ref_embeddings", "(3,)"),
        ((ROWS, PAIRS, ROWS, PAIRS[:5]), "ref_labels", "5"),
        ((ROWS.tolist(), PAIRS), "embeddings", "list"),
        ((ROWS, PAIRS.tolist()), "labels", "list"),
        ((ROWS, PAIRS.float()), "labels", "float32"),
        ((ROWS, PAIRS, ROWS, PAIRS.double()), "ref_labels", "float64"),
        ((ROWS, PAIRS, ROWS, PAIRS.tolist()), "ref_labels", "list"),
    ],
)
def test_bad_batches_are_named(arguments, named, got):
    wrong_kind = got in ("int64", "complex64", "list", "float32", "float64")
    for call in (drsl_loss, DRSLoss()):
        with pytest.raises((TypeError if wrong_kind else ValueError), match=rf"\b{named}\b") as caught:
            call(*arguments)
        assert got in str(caught.value)
