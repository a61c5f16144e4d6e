"""Over several processes: each one's share, its gradient after averaging, the parts; against the whole batch in one.

Spawning costs seconds, the loss nothing: a world does all its jobs in one go, and the tests read what they left.
"""

import itertools
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from cases import EVERY, Batch, assert_near, leaves, name, truth_and_gradients
from oracle import oracle
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from drsl_plugin import DRSLoss, DRSLParts, drsl_loss
from drsl_plugin.losses.distributed import distributed_drsl_loss

# The labels in each process, by the number of processes.
LAYOUTS = {
    2: {
        "uneven": [[0, 0, 1, 0, 0, 2], [3, 1, 4, 0, 5, 6]],
        "even": [[0, 0, 0, 1, 1, 1], [2, 2, 2, 3, 3, 3]],
        "positives elsewhere": [[0, 1, 2, 3, 4, 8], [3, 0, 5, 1, 4, 2]],
        "one without": [[0, 0, 1, 1, 0, 1], [2, 3, 4, 5, 6, 7]],
        "all but one without": [[2, 3, 4, 5, 6, 7], [0, 1, 0, 1, 0, 8]],
        "all without": [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]],
    },
    4: {
        "uneven": [[0, 0, 1, 0], [2, 0, 2, 3], [1, 4, 5, 2], [6, 6, 7, 0]],
        "even": [[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5], [6, 6, 7, 7]],
        "positives elsewhere": [[0, 1, 2, 3], [4, 0, 5, 1], [2, 4, 6, 5], [6, 3, 0, 7]],
        "one without": [[0, 1, 0, 0], [2, 3, 4, 5], [1, 6, 6, 0], [8, 7, 8, 9]],
        "all but one without": [[2, 3, 4, 5], [6, 7, 8, 9], [0, 1, 0, 0], [10, 11, 12, 13]],
        "all without": [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]],
    },
}
WITHOUT_QUERY = {
    "one without": lambda world_size: 1,
    "all but one without": lambda world_size: world_size - 1,
    "all without": lambda world_size: world_size,
}
CRITERIA = {name(settings): {**settings, "temperature": 0.3, "sort_weight": 0.7} for settings in EVERY}
TWO = ("cosine-sigmoid-angle-slope", "euclidean-linear-order-slope")
CENTRED = "cosine-sigmoid-none-error-error-True"
WITHOUT_AUTOGRAD = ("no_grad", "inference_mode")
HALF = (torch.float16, torch.bfloat16)

# The same batch in another guise. In floating point 2**53 + 1 is 2**53, and 2**32 as an int32 is 0.
GUISES = {
    "int32 labels": lambda embeddings, labels: (embeddings, labels.int()),
    "large labels": lambda embeddings, labels: (embeddings, labels + 2**53),
    "labels far apart": lambda embeddings, labels: (embeddings, labels * 2**32),
    "negative labels": lambda embeddings, labels: (embeddings, -1 - labels),
    "strided": lambda embeddings, labels: (embeddings.T.contiguous().T, labels.repeat_interleave(2)[::2]),
}

# How a process's share of the loss and the cross entropy of its samples come together.
TOTALS = {
    "alone": lambda share, classes: share(),
    "then classes": lambda share, classes: share() + classes(),
    "after classes": lambda share, classes: classes() + share(),
}
AVERAGED = [
    ("cosine-sigmoid-angle-slope", "group norm", "alone"),
    ("cosine-sigmoid-angle-slope", "group norm", "then classes"),
    ("cosine-sigmoid-angle-slope", "group norm", "after classes"),
    ("euclidean-linear-order-slope", "batch norm in eval", "alone"),
]


def whole(world_size: int, layout: str, dtype: torch.dtype = torch.float64) -> Batch:
    """All processes' samples; twins are one and the same in all."""
    labels = torch.tensor(LAYOUTS[world_size]["uneven" if layout == "twins" else layout])
    generator = torch.Generator().manual_seed(1 + world_size)
    embeddings = torch.randn(*labels.shape, 5, generator=generator, dtype=torch.float64)
    if layout == "twins":
        embeddings, labels = embeddings[:1].expand_as(embeddings), labels[:1].expand_as(labels)
    return Batch(embeddings.flatten(0, 1).to(dtype), labels.flatten())


def own(rank: int, world_size: int, batch: Batch) -> Batch:
    return Batch(batch.embeddings.chunk(world_size)[rank], batch.labels.chunk(world_size)[rank])


class Network(nn.Module):
    """A sample's embedding depends on that sample alone: averaged gradients are then those of the whole batch."""

    def __init__(self, normalisation: str) -> None:
        super().__init__()
        middle = nn.GroupNorm(2, 6) if normalisation == "group norm" else nn.BatchNorm1d(6)
        self.body = nn.Sequential(nn.Linear(5, 6), middle, nn.Tanh(), nn.Linear(6, 4)).double()
        self.head = nn.Linear(4, 16).double()
        generator = torch.Generator().manual_seed(3)
        for tensor in [*self.parameters(), *(buffer for buffer in self.buffers() if buffer.is_floating_point())]:
            tensor.data = 0.5 + torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.data[::2] *= -1 if tensor.ndim > 1 else 1
        middle.eval()

    def forward(self, images):
        embeddings = self.body(images)
        return embeddings, self.head(embeddings)


def network(normalisation: str, total: str) -> Network:
    made = Network(normalisation)
    made.head.requires_grad_(total != "alone")
    return made


# What one process does, and leaves for the tests.


def shares(rank, world_size, layout, criterion, dtype=torch.float64, guise=None, upstream=None, autocast=False):
    embeddings, labels, *_ = leaves(own(rank, world_size, whole(world_size, layout, dtype)))
    given = GUISES[guise](embeddings, labels) if guise else (embeddings, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss, parts = distributed_drsl_loss(DRSLoss(**CRITERIA[criterion]), *given)
    assert isinstance(parts, DRSLParts)
    assert not any(part.requires_grad for part in parts)
    (loss if upstream is None else loss * upstream[rank]).backward()
    return {"loss": loss.detach(), "parts": torch.stack(parts), "gradient": embeddings.grad}


def without_autograd(rank, world_size, layout, criterion, without):
    embeddings, labels, *_ = leaves(own(rank, world_size, whole(world_size, layout)))
    with getattr(torch, without)():
        loss, parts = distributed_drsl_loss(DRSLoss(**CRITERIA[criterion]), embeddings, labels)
        assert not loss.requires_grad
        return {"loss": loss.clone(), "parts": torch.stack(parts)}


def averaged(rank, world_size, layout, criterion, normalisation, total):
    """Gradients of all parameters as DistributedDataParallel leaves them."""
    images, labels, *_ = own(rank, world_size, whole(world_size, layout))
    model = DistributedDataParallel(network(normalisation, total), bucket_cap_mb=1e-4)
    for _ in range(2):  # one bucket at first, then many, in the order in which gradients came
        model.zero_grad()
        embeddings, logits = model(images)
        TOTALS[total](
            lambda embeddings=embeddings: distributed_drsl_loss(DRSLoss(**CRITERIA[criterion]), embeddings, labels)[0],
            lambda logits=logits: cross_entropy(logits, labels),
        ).backward()
    return {key: parameter.grad for key, parameter in model.module.named_parameters() if parameter.requires_grad}


def not_a_number(rank, world_size, layout, criterion):
    embeddings, labels, *_ = own(rank, world_size, whole(world_size, layout))
    embeddings[0, 0] = torch.nan if rank == 1 else 1
    return {"loss": distributed_drsl_loss(DRSLoss(**CRITERIA[criterion]), embeddings, labels)[0]}


def only(rank, world_size):
    """Weights of the processes' losses."""
    return tuple(float(rank == other) for other in range(world_size))


def refusals(rank, world_size):
    embeddings, labels = torch.eye(4), torch.tensor([0, 0, 1, 1])
    refused = []
    for wrong in [(embeddings, labels[:3]), (embeddings, labels.float()), (embeddings[0], labels)]:
        try:
            distributed_drsl_loss(DRSLoss(), *wrong)
        except (TypeError, ValueError) as problem:
            refused.append(type(problem).__name__)
    return {"refused": refused}


def jobs(world_size):
    for dtype in (torch.float64, torch.float32):
        for criterion in CRITERIA:
            yield shares, "uneven", criterion, dtype
    for layout in LAYOUTS[world_size]:
        for criterion in TWO:
            yield shares, layout, criterion
        for arguments in AVERAGED:
            yield averaged, layout, *arguments
    for dtype in HALF:
        for criterion in TWO:
            yield shares, "uneven", criterion, dtype
    for guise in GUISES:
        yield shares, "uneven", TWO[0], torch.float64, guise
    for criterion in TWO:
        yield shares, "uneven", criterion, torch.float64, None, only(0, world_size)
    for without, criterion in itertools.product(WITHOUT_AUTOGRAD, (TWO[0], CENTRED)):
        yield without_autograd, "uneven", criterion, without
    yield shares, "uneven", TWO[0], torch.float32, None, None, True
    yield shares, "twins", TWO[0]
    yield (refusals,)
    yield not_a_number, "uneven", TWO[0]


def key_of(job, *arguments):
    return " | ".join([job.__name__, *map(str, arguments)])


def process(rank, world_size, folder):
    torch.set_num_threads(1)
    join(rank, world_size, folder)
    left = {}
    for job, *arguments in jobs(world_size):
        key = key_of(job, *arguments)
        try:
            left[key] = job(rank, world_size, *arguments)
        except Exception as problem:
            raise RuntimeError(f"process {rank} of {world_size}: {key}") from problem
    torch.save(left, Path(folder, f"{rank}.pt"))
    dist.barrier()
    dist.destroy_process_group()


def join(rank, world_size, folder):
    meeting = Path(folder, "meeting").as_uri()
    patience = timedelta(seconds=60)  # for a process that waits for one that failed
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world_size, timeout=patience)


class World:
    """What the processes left, read by job."""

    def __init__(self, size: int, folder: Path) -> None:
        torch.multiprocessing.spawn(process, (size, str(folder)), nprocs=size)
        self.size = size
        self.left = [torch.load(folder / f"{rank}.pt") for rank in range(size)]

    def __call__(self, job, *arguments):
        """Return what each process left of a job: for each key the list over processes."""
        found = [left[key_of(job, *arguments)] for left in self.left]
        return {key: [one[key] for one in found] for key in found[0]}


@pytest.fixture(scope="module")
def world(request, tmp_path_factory):
    return World(request.param, tmp_path_factory.mktemp("world"))


worlds = pytest.mark.parametrize(
    "world", [2, pytest.param(4, marks=pytest.mark.slow)], indirect=True, ids="{} processes".format
)
layouts = pytest.mark.parametrize("layout", LAYOUTS[2])


def assert_same(actual, expected, dtype=torch.float64):
    """Compare by the largest entry expected, however small; exactly, where all are 0."""
    scale = expected.abs().max() if expected.any() else 1
    if not expected.any():
        assert not actual.any(), f"{actual} is not 0"
    assert_near(actual / scale, expected / scale, dtype)


def assert_is_the_whole_batch(left, world_size, batch, criterion, dtype=torch.float64):
    """Assert on the mean of the shares, the parts, and the gradients of all processes: W times those of the batch."""
    truth, (gradient, *_) = truth_and_gradients(batch, **CRITERIA[criterion])
    expected = torch.tensor([getattr(truth, part) for part in DRSLParts._fields], dtype=torch.float64)
    exact = dtype if dtype in (torch.float64, torch.float32) else torch.float32
    assert_near(torch.stack(left["loss"]).mean(), truth.loss, exact)
    for parts in left["parts"]:
        assert torch.equal(parts, left["parts"][0]), f"the parts differ between processes: {left['parts']}"
        assert_near(parts, expected, exact)
    assert all(tensor.dtype == exact for tensor in (*left["loss"], *left["parts"]))
    assert all(tensor.dtype == dtype for tensor in left["gradient"])
    assert_same(torch.cat(left["gradient"]).double(), world_size * gradient.double(), dtype)


def share(rank, world_size, batch, criterion, refs="others"):
    """One process's share by its definition, with references as asked for."""
    embeddings = batch.embeddings.chunk(world_size)
    labels = batch.labels.chunk(world_size)
    others = [other for other in range(world_size) if other != rank or refs == "all"]
    references = torch.cat([embeddings[other] for other in others])
    queries_of = [sum(batch.labels.tolist().count(label) > 1 for label in part.tolist()) for part in labels]
    truth = oracle(
        embeddings[rank],
        labels[rank],
        references.detach() if refs == "detached" else references,
        torch.cat([labels[other] for other in others]),
        **CRITERIA[criterion],
    )
    return truth.loss * queries_of[rank] * world_size / max(sum(queries_of), 1)


@worlds
@layouts
@pytest.mark.parametrize("criterion", TWO)
def test_mean_over_processes_is_the_loss_of_the_whole_batch(world, layout, criterion):
    left = world(shares, layout, criterion)
    assert_is_the_whole_batch(left, world.size, whole(world.size, layout), criterion)


@worlds
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_setting_gives_the_loss_of_the_whole_batch(world, criterion, dtype):
    left = world(shares, "uneven", criterion, dtype)
    assert_is_the_whole_batch(left, world.size, whole(world.size, "uneven", dtype), criterion, dtype)


@worlds
@layouts
@pytest.mark.parametrize("criterion", TWO)
def test_each_process_has_the_share_of_its_own_queries(world, layout, criterion):
    left = world(shares, layout, criterion)
    for rank, loss in enumerate(left["loss"]):
        assert_near(loss, share(rank, world.size, whole(world.size, layout), criterion))


@worlds
@layouts
def test_a_process_without_a_query_has_a_loss_of_0(world, layout):
    left = world(shares, layout, TWO[0])
    labels = LAYOUTS[world.size][layout]
    everyone = [label for some in labels for label in some]
    without = [all(everyone.count(label) == 1 for label in some) for some in labels]
    assert sum(without) == WITHOUT_QUERY.get(layout, lambda world_size: 0)(world.size)
    for loss, gradient, none in zip(left["loss"], left["gradient"], without, strict=True):
        assert (loss == 0) == none
        assert gradient.any() == (not all(without)), "its samples are others' negatives"


@worlds
@layouts
@pytest.mark.parametrize(("criterion", "normalisation", "total"), AVERAGED)
def test_averaged_gradients_are_those_of_one_process(world, layout, criterion, normalisation, total):
    left = world(averaged, layout, criterion, normalisation, total)
    images, labels, *_ = whole(world.size, layout)
    model = network(normalisation, total)
    embeddings, logits = model(images)
    TOTALS[total](
        lambda: oracle(embeddings, labels, **CRITERIA[criterion]).loss, lambda: cross_entropy(logits, labels)
    ).backward()
    expected = {key: parameter.grad for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert list(left) == list(expected)
    is_0 = (layout, total) == ("all without", "alone")
    assert all(gradient.abs().max() < 1e-3 for gradient in expected.values()) == is_0
    for key, gradients in left.items():
        for gradient in gradients:
            assert torch.equal(gradient, gradients[0]), f"{key} differs between processes"
        assert_near(gradients[0], expected[key])
        assert not (is_0 and gradients[0].any()), f"{key} is not exactly 0"


@worlds
@pytest.mark.parametrize("criterion", TWO)
def test_the_loss_of_one_process_has_a_gradient_in_all(world, criterion):
    left = world(shares, "uneven", criterion, torch.float64, None, only(0, world.size))
    batch = leaves(whole(world.size, "uneven"))
    share(0, world.size, batch, criterion).backward()
    for gradient, expected in zip(left["gradient"], batch.embeddings.grad.chunk(world.size), strict=True):
        assert expected.abs().max() > 1e-3
        assert_same(gradient, expected)


@worlds
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("criterion", TWO)
def test_half_precision_has_a_loss_in_float32_and_a_gradient_of_its_own(world, criterion, dtype):
    left = world(shares, "uneven", criterion, dtype)
    batch = whole(world.size, "uneven", dtype)
    assert_is_the_whole_batch(left, world.size, batch, criterion, dtype)
    # Added up in float32 and then rounded, once.
    _, (gradient, *_) = truth_and_gradients(batch._replace(embeddings=batch.embeddings.double()), **CRITERIA[criterion])
    actual, rounding = torch.cat(left["gradient"]).double(), torch.finfo(dtype).eps / 2
    torch.testing.assert_close(actual, world.size * gradient, rtol=rounding, atol=5e-6)


@worlds
@pytest.mark.parametrize("guise", GUISES)
def test_width_of_labels_and_strides_do_not_matter(world, guise):
    left = world(shares, "uneven", TWO[0], torch.float64, guise)
    assert_is_the_whole_batch(left, world.size, whole(world.size, "uneven"), TWO[0])


@worlds
def test_autocast_does_not_reach_the_loss(world):
    left = world(shares, "uneven", TWO[0], torch.float32, None, None, True)
    assert_is_the_whole_batch(left, world.size, whole(world.size, "uneven", torch.float32), TWO[0], torch.float32)


@worlds
def test_a_sample_drawn_by_several_processes_is_its_own_positive(world):
    left = world(shares, "twins", TWO[0])
    truth, (gradient, *_) = truth_and_gradients(whole(world.size, "twins"), **CRITERIA[TWO[0]])
    assert_near(torch.stack(left["loss"]).mean(), truth.loss)
    assert_same(torch.cat(left["gradient"]), world.size * gradient)


@worlds
def test_arguments_that_make_no_sense_are_refused(world):
    for refused in world(refusals)["refused"]:
        assert refused == ["ValueError", "TypeError", "ValueError"]


@worlds
@pytest.mark.parametrize("criterion", [TWO[0], CENTRED])
@pytest.mark.parametrize("without", WITHOUT_AUTOGRAD)
def test_works_without_autograd(world, without, criterion):
    left = world(without_autograd, "uneven", criterion, without)
    expected = world(shares, "uneven", criterion, torch.float64)
    assert left["loss"] == expected["loss"]
    assert torch.equal(torch.stack(left["parts"]), torch.stack(expected["parts"]))


@worlds
def test_nan_in_one_process_is_seen_in_all(world):
    assert torch.stack(world(not_a_number, "uneven", TWO[0])["loss"]).isnan().all()


# What the tests above would see, were it done wrong, with the definition in the implementation's place.
WRONG = {
    "right": lambda rank, size, batch, criterion: share(rank, size, batch, criterion),
    "not times W": lambda rank, size, batch, criterion: share(rank, size, batch, criterion) / size,
    "mean over its own queries": lambda rank, size, batch, criterion: drsl_loss(
        *own(rank, size, batch)[:2],
        *(torch.cat([*tensor.chunk(size)[:rank], *tensor.chunk(size)[rank + 1 :]]) for tensor in batch[:2]),
        **CRITERIA[criterion],
    ),
    "own samples twice": lambda rank, size, batch, criterion: share(rank, size, batch, criterion, "all"),
    "gathered without gradient": lambda rank, size, batch, criterion: share(rank, size, batch, criterion, "detached"),
}


@pytest.mark.parametrize("world_size", LAYOUTS)
@pytest.mark.parametrize("criterion", TWO)
@pytest.mark.parametrize("way", WRONG)
def test_wrong_ways_would_be_seen(way, criterion, world_size):
    batch = leaves(whole(world_size, "uneven"))
    losses = torch.stack([WRONG[way](rank, world_size, batch, criterion) for rank in range(world_size)])
    losses.sum().backward()
    truth, (expected, *_) = truth_and_gradients(whole(world_size, "uneven"), **CRITERIA[criterion])
    off_value = (losses.mean() - truth.loss).abs().item()
    off_gradient = ((batch.embeddings.grad / world_size - expected).abs().max() / expected.abs().max()).item()
    assert (off_gradient < 1e-9) if way == "right" else (off_gradient > 0.1)
    assert (off_value < 1e-9) if way in ("right", "gathered without gradient") else (off_value > 0.01)


@pytest.fixture(params=["no group", "a group of one"])
def alone(request, tmp_path):
    assert not dist.is_initialized()
    if request.param == "a group of one":
        join(0, 1, tmp_path)
    yield
    if request.param == "a group of one":
        dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["uneven", "all without"])
@pytest.mark.parametrize("criterion", TWO)
def test_one_process_has_the_loss_itself(criterion, layout, dtype):
    mine, plain = (leaves(whole(2, layout, dtype)) for _ in range(2))
    loss, parts = distributed_drsl_loss(DRSLoss(**CRITERIA[criterion]), mine.embeddings, mine.labels)
    expected, expected_parts = DRSLoss(**CRITERIA[criterion])(*plain, return_parts=True)
    loss.backward()
    expected.backward()
    assert torch.equal(loss, expected)
    assert parts == expected_parts
    assert torch.equal(mine.embeddings.grad, plain.embeddings.grad)
