"""Which way a loss is computed, and the precision in which it is."""

from __future__ import annotations

import torch
from torch import Tensor

from drsl_plugin.errors import SettingError
from drsl_plugin.losses.backends.centering import center_embeddings
from drsl_plugin.losses.backends.chunked import compute_fused
from drsl_plugin.losses.backends.launch import kernels_run_on
from drsl_plugin.losses.backends.unfused import compute_unfused
from drsl_plugin.losses.settings import Backend, DRSLSettings

SMALL = 1024
"""Scores up to which the unfused path is taken on the CPU: it is as fast there, and can be differentiated twice."""


def compute_loss(
    embeddings: Tensor,
    labels: Tensor,
    ref_embeddings: Tensor | None,
    ref_labels: Tensor | None,
    settings: DRSLSettings,
    *,
    exact: bool,
    of_batch: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return the loss and its parts, ``(4,)``, of a batch that :func:`~drsl_plugin.losses.checks.check_batch` has seen.

    Args:
        embeddings: as for :func:`~drsl_plugin.drsl_loss`, like the next three.
        labels: ``(N,)``.
        ref_embeddings: ``(M, D)``, or None.
        ref_labels: ``(M,)``, or None.
        settings: of the loss.
        exact: compute ap and above_all too; they are 0 otherwise.
        of_batch: how many of the extra references, the first, are of the queries' batch, and centred with it.

    Raises:
        ValueError: the ``"triton"`` backend where its kernels do not run, a ``chunk_budget`` too small for a query, or
            ``center`` and a batch of one against references.
    """
    with torch.autocast(device_type=embeddings.device.type, enabled=False):
        queries, others, labels, other_labels = _convert(embeddings, labels, ref_embeddings, ref_labels)
        if settings.center:
            queries, others = center_embeddings(queries, others, of_batch)
        references = len(queries) + (0 if others is None else len(others))
        backend = choose_backend(settings.backend, queries.device, len(queries) * references)
        if backend == "unfused":
            return compute_unfused(queries, others, labels, other_labels, settings, exact=exact)
        use_kernel = backend == "triton"
        return compute_fused(queries, others, labels, other_labels, settings, use_kernel=use_kernel, exact=exact)


def choose_backend(backend: Backend, device: torch.device, scores: int) -> Backend:
    """Return how a loss of so many scores is computed where ``backend`` leaves it open.

    Raises:
        SettingError: ``"triton"`` where its kernels do not run.
    """
    if backend == "triton" and not kernels_run_on(device.type):
        raise SettingError("backend", "'triton'", f"needs Triton and embeddings on CUDA, got embeddings on {device}")
    if backend != "auto":
        return backend
    if kernels_run_on(device.type):
        return "triton"
    return "unfused" if scores <= SMALL else "chunked"


def _convert(
    embeddings: Tensor, labels: Tensor, ref_embeddings: Tensor | None, ref_labels: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    """Convert embeddings to the precision of the mathematics, and labels to int64 beside them."""
    queries = embeddings.to(torch.float64 if embeddings.dtype == torch.float64 else torch.float32)
    labels = labels.to(queries.device, torch.int64)
    if ref_embeddings is None or ref_labels is None:
        return queries, None, labels, None
    return queries, ref_embeddings.to(queries), labels, ref_labels.to(labels)
