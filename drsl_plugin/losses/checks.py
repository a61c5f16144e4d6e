"""What the loss accepts: each check names the argument and what it got."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

Distance = Literal["cosine", "euclidean"]
Relaxation = Literal["sigmoid", "linear"]
Sort = Literal["angle", "order", "none"]
Backend = Literal["auto", "unfused", "chunked", "triton"]


class Settings(NamedTuple):
    """What the loss of a batch depends on beside the batch; see :func:`~drsl_plugin.drsl_loss`."""

    distance: Distance
    temperature: float
    relaxation: Relaxation
    sort: Sort
    sort_weight: float


def check_settings(distance: str, temperature: float, relaxation: str, sort: str, sort_weight: float) -> None:
    """Check the settings of DRSL.

    Raises:
        ValueError: a setting is outside its values or range.
    """
    for name, value, allowed in (
        ("distance", distance, get_args(Distance)),
        ("relaxation", relaxation, get_args(Relaxation)),
        ("sort", sort, get_args(Sort)),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    if not is_number(temperature) or not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be a finite number above 0, got {temperature!r}")
    if not is_number(sort_weight) or not 0 <= sort_weight < math.inf:
        raise ValueError(f"sort_weight must be a finite number, 0 or above, got {sort_weight!r}")


def check_computation(backend: str, chunk_budget: int | None) -> None:
    """Check what decides how the loss is computed, but not its value.

    Raises:
        ValueError: a backend that does not exist, or a budget that is no number of bytes.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(map(repr, get_args(Backend)))}, got {backend!r}")
    if chunk_budget is not None and not is_whole_number(chunk_budget):
        raise ValueError(f"chunk_budget must be a whole number of bytes, or None, got {chunk_budget!r}")
    if chunk_budget is not None and chunk_budget < 1:
        raise ValueError(f"chunk_budget must be at least one query's row of scores, got {chunk_budget} bytes")


def check_batch(embeddings: Tensor, labels: Tensor, ref_embeddings: Tensor | None, ref_labels: Tensor | None) -> None:
    """Check the shapes and kinds of a batch and of its extra references; reads no value of a tensor.

    Raises:
        TypeError: embeddings that are no floating tensor, labels that are no integer tensor.
        ValueError: shapes that do not go together, or one of the two reference arguments alone.
    """
    _check_pair("embeddings", embeddings, "labels", labels)
    if ref_embeddings is None and ref_labels is None:
        return
    if ref_embeddings is None or ref_labels is None:
        missing, given = (
            ("ref_embeddings", "ref_labels") if ref_embeddings is None else ("ref_labels", "ref_embeddings")
        )
        raise ValueError(f"{given} needs {missing} beside it, got None")
    _check_pair("ref_embeddings", ref_embeddings, "ref_labels", ref_labels)
    if ref_embeddings.shape[1] != embeddings.shape[1]:
        raise ValueError(
            f"ref_embeddings must have the {embeddings.shape[1]} dimensions of embeddings, "
            f"got shape {tuple(ref_embeddings.shape)}"
        )
    if ref_embeddings.device != embeddings.device:
        raise ValueError(
            f"ref_embeddings must be on the device of embeddings, {embeddings.device}, got {ref_embeddings.device}"
        )


def _check_pair(name: str, embeddings: Tensor, labels_name: str, labels: Tensor) -> None:
    for argument, value in ((name, embeddings), (labels_name, labels)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{argument} must be a tensor, got {type(value).__name__}")
    if not embeddings.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {embeddings.dtype}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"{labels_name} must be an integer tensor, got {labels.dtype}")
    if labels.dtype == getattr(torch, "uint64", None):
        raise TypeError(f"{labels_name} must fit into int64, got torch.uint64, of which half would overflow")
    if embeddings.dim() != 2 or embeddings.shape[1] == 0:
        raise ValueError(f"{name} must have shape (samples, dimensions), got {tuple(embeddings.shape)}")
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f"{labels_name} must have shape ({embeddings.shape[0]},), one label for each row of {name}, "
            f"got {tuple(labels.shape)}"
        )


def is_number(value: object) -> bool:
    """Tell whether a setting is an int or a float, and no bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole_number(value: object) -> bool:
    """Tell whether a setting is an int, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)
