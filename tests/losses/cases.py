"""What the loss's tests share: settings, batches, one way to compare."""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, NamedTuple

import torch
from oracle import Truth, oracle
from torch import Tensor

from drsl_plugin import drsl_loss

DISTANCES = ("cosine", "euclidean")
RELAXATIONS = ("sigmoid", "linear")
SORTS = ("angle", "order", "none")
SETTINGS = [
    {"distance": distance, "relaxation": relaxation, "sort": sort, "gradient": "slope"}
    for distance, relaxation, sort in itertools.product(DISTANCES, RELAXATIONS, SORTS)
]
UPDATES = [
    {"distance": distance, "relaxation": relaxation, "sort": sort, "gradient": gradient, "terms": terms}
    for distance, relaxation, sort in itertools.product(DISTANCES, RELAXATIONS, SORTS)
    for gradient, terms in (("slope", "log"), ("slope", "graded"), ("error", "error"), ("error", "graded"))
    if (terms, sort) != ("graded", "none")
]
"""All that goes together of gradient and terms, beside those of ``SETTINGS``."""
EVERY = [
    *SETTINGS,
    *(
        dict(zip(("distance", "relaxation", "sort", "gradient", "terms", "center"), values, strict=True))
        for values in (
            ("cosine", "sigmoid", "none", "error", "error", True),
            ("cosine", "linear", "angle", "error", "error", False),
            ("euclidean", "sigmoid", "order", "error", "error", True),
            ("euclidean", "linear", "angle", "error", "graded", False),
            ("euclidean", "sigmoid", "none", "slope", "log", False),
            ("cosine", "sigmoid", "angle", "slope", "log", True),
            ("euclidean", "sigmoid", "order", "slope", "log", False),
            ("cosine", "linear", "order", "slope", "graded", False),
        )
    ),
]
"""``SETTINGS``, and each value of gradient, terms and center with each sort."""


def upper_bound(settings: dict[str, Any], negatives: int) -> float:
    """Largest loss that a batch with so many negatives a query can have."""
    weight = 0.0 if settings["sort"] == "none" else settings.get("sort_weight", 1.0)
    if settings.get("terms") == "log":
        return math.log(1 + negatives) + weight * math.log(1e6)
    return 1.0 if settings.get("terms") == "graded" else 1.0 + weight


DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])

# Of the largest entry that is compared. A gradient in half precision is rounded to it at the very end.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


class Batch(NamedTuple):
    embeddings: Tensor
    labels: Tensor
    ref_embeddings: Tensor | None = None
    ref_labels: Tensor | None = None


def name(settings: dict[str, Any]) -> str:
    return "-".join(str(value) for value in settings.values())


def uneven(refs: bool = False, seed: int = 0, dtype: torch.dtype = torch.float64) -> Batch:
    """5, 3, 1, 1 and 1 instances, shuffled; the references give one of the lone ones its only positive."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([3, 0, 1, 0, 0, 2, 1, 0, 7, 0, 1])
    ref_labels = torch.tensor([0, 1, 9, 3, 1, 5])
    embeddings = torch.randn(len(labels), 4, generator=generator, dtype=torch.float64)
    ref_embeddings = torch.randn(len(ref_labels), 4, generator=generator, dtype=torch.float64)
    if not refs:
        return Batch(embeddings.to(dtype), labels)
    return Batch(embeddings.to(dtype), labels, ref_embeddings.to(dtype), ref_labels)


def lattice(refs: bool = False) -> Batch:
    """Duplicates, antipodes, zero vectors: all cosines are exactly -1, 0 or 1, so that ties are ties."""
    rows = [(1, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 2, 0), (0, 0, 0), (0, 4, 0), (0, 0, 1), (1, 0, 0), (0, 0, 0)]
    embeddings = torch.tensor(rows, dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 5])
    if not refs:
        return Batch(embeddings, labels)
    return Batch(embeddings, labels, torch.flip(embeddings, (0,)), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 8]))


def leaves(batch: Batch, device: str = "cpu") -> Batch:
    """Return the batch on its own storage, with floating tensors that collect a gradient."""
    moved = [
        tensor if tensor is None else tensor.detach().to(device, copy=True).requires_grad_(tensor.is_floating_point())
        for tensor in batch
    ]
    return Batch(*moved)


def gradients(loss: Tensor, batch: Batch) -> list[Tensor]:
    loss.backward()
    return [leaf.grad for leaf in (batch.embeddings, batch.ref_embeddings) if leaf is not None]


def value_and_gradients(batch: Batch, device: str = "cpu", **settings: Any) -> tuple[Tensor, list[Tensor]]:
    batch = leaves(batch, device)
    loss = drsl_loss(*batch, **settings)
    return loss.detach(), gradients(loss, batch)


def truth_and_gradients(batch: Batch, **settings: Any) -> tuple[Truth, list[Tensor]]:
    batch = leaves(batch)
    truth = oracle(*batch, **settings)
    return truth, gradients(truth.loss, batch)


def error(actual: Tensor | float, expected: Tensor | float) -> float:
    """Largest difference, relative to the largest entry expected (or to 1, where that is larger)."""
    actual, expected = (torch.as_tensor(x, dtype=torch.float64).detach().cpu() for x in (actual, expected))
    assert actual.shape == expected.shape
    if actual.numel() == 0:
        return 0.0
    assert torch.isfinite(actual).all()
    return float((actual - expected).abs().max() / expected.abs().max().clamp(min=1))


def assert_near(actual: Tensor | float, expected: Tensor | float, dtype: torch.dtype = torch.float64) -> None:
    difference = error(actual, expected)
    assert difference <= TOLERANCE[dtype], f"{actual} is not {expected}: off by {difference:.2g}"


class Call(NamedTuple):
    """A call of a function of the package."""

    function: str
    through: list[str]
    """The modules of the package that are on the way to it, from the first to its own."""


@contextlib.contextmanager
def follow_calls() -> Iterator[list[Call]]:
    """Write down every call of a function of the package."""
    calls: list[Call] = []

    def write_down(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and _module(frame).startswith("drsl_plugin."):
            through: dict[str, None] = {}
            above: FrameType | None = frame
            while above is not None:
                if _module(above).startswith("drsl_plugin."):
                    through[_module(above)] = None
                above = above.f_back
            calls.append(Call(frame.f_code.co_name, list(reversed(through))))

    before = sys.getprofile()
    sys.setprofile(write_down)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
