"""What the loss accepts as a batch: each check names the argument and what it got."""

from __future__ import annotations

import torch
from torch import Tensor


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
