"""DRSL with its gradient computed in the forward pass, rows of queries at a time."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from drsl_plugin.losses.backprop import CosineRows, EuclideanRows, RowScores
from drsl_plugin.losses.checks import Distance, Relaxation, Settings, Sort
from drsl_plugin.losses.identities import find_identities
from drsl_plugin.losses.rows import RowGradients, row_gradients

HAS_TRITON = importlib.util.find_spec("triton") is not None
DEFAULT_BUDGETS = {"cpu": 8 << 20, "cuda": 256 << 20}
"""Bytes for the rows that are worked on at a time: on the CPU what stays in its cache."""


class Computation(NamedTuple):
    """How a loss is computed."""

    use_kernel: bool
    budget: int | None
    exact: bool


def fused_drsl(
    queries: Tensor,
    others: Tensor | None,
    labels: Tensor,
    other_labels: Tensor | None,
    settings: Settings,
    *,
    use_kernel: bool,
    budget: int | None,
    exact: bool,
) -> tuple[Tensor, Tensor]:
    """Loss and parts ``(4,)`` of a batch; what is kept for backward is the gradient: N·D numbers, and M·D if wanted.

    Args:
        queries: ``(N, D)``, float32 or float64.
        others: ``(M, D)`` extra references of the same, or None.
        labels: ``(N,)``.
        other_labels: ``(M,)``, or None.
        settings: of the loss.
        use_kernel: leave the rows to the Triton kernel.
        budget: bytes for the rows that are worked on at a time; None chooses.
        exact: compute ap and above_all too; they are 0 otherwise.

    Raises:
        ValueError: the budget is too small for one row.
    """
    how = Computation(use_kernel, budget, exact)
    loss, parts = _FusedDRSL.apply(queries, others, labels, other_labels, settings, how)
    return loss, parts


class _FusedDRSL(torch.autograd.Function):
    """Without a second derivative; the unfused path has one."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        others: Tensor | None,
        labels: Tensor,
        other_labels: Tensor | None,
        settings: Settings,
        how: Computation,
    ) -> tuple[Tensor, Tensor]:
        compute = operator if is_compiling() else loss_and_gradients
        wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[1])
        parts, *gradients = compute(queries, others, labels, other_labels, *settings, *how, *wanted)
        ctx.save_for_backward(*gradients)
        ctx.wanted = wanted
        ctx.mark_non_differentiable(parts)
        return parts[0] + settings.sort_weight * parts[1], parts

    @staticmethod
    def backward(ctx: Any, of_loss: Tensor, of_parts: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled() and not is_compiling():  # with create_graph=True: else left out without a word
            raise RuntimeError(
                "drsl_loss has no second derivative where its backend is chunked or triton; backend='unfused' has one"
            )
        found = [of_loss * each if want else None for each, want in zip(ctx.saved_tensors, ctx.wanted, strict=True)]
        return (*found, None, None, None, None)


def loss_and_gradients(
    queries: Tensor,
    others: Tensor | None,
    labels: Tensor,
    other_labels: Tensor | None,
    distance: Distance,
    temperature: float,
    relaxation: Relaxation,
    sort: Sort,
    sort_weight: float,
    use_kernel: bool,
    budget: int | None,
    exact: bool,
    wanted: bool,
    others_wanted: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Parts of the loss, ``(4,)``, and the gradients of queries and other references; empty where not wanted."""
    settings = Settings(distance, temperature, relaxation, sort, sort_weight)
    identities = find_identities(labels, labels if other_labels is None else torch.cat([labels, other_labels]))
    weights = identities.weights(queries.dtype)
    wants = (wanted, others_wanted)
    scores: RowScores = (CosineRows if distance == "cosine" else EuclideanRows)(queries, others, wants)
    angles: RowScores | None = None  # where they are not the scores themselves
    if distance != "cosine" and sort != "none":
        angles = CosineRows(queries, others, wants if sort == "angle" else (False, False))
    # The kernel's work does not depend on the number of positives, which only the device knows.
    most = 0 if use_kernel or not len(labels) else int(identities.counts.max())
    parts = torch.zeros(len(labels), 4, dtype=queries.dtype, device=queries.device)
    if most or use_kernel:
        size = _chunk_size(queries, len(identities.ref_labels), most, settings, budget)
        workspace = queries.new_empty(size, most, len(identities.ref_labels))
        for start in range(0, len(labels), size):
            rows = slice(start, min(start + size, len(labels)))
            of_rows, of_angles = scores.rows(rows), None if angles is None else angles.rows(rows)
            args = (of_rows, of_angles, identities, weights, rows, settings)
            found = kernel_rows(*args, exact) if use_kernel else row_gradients(*args, exact, workspace)
            parts[rows] = found.parts
            scores.add(rows, found.scores)
            if angles is not None and found.cosines is not None:
                angles.add(rows, found.cosines)
    gradients = scores.gradients()
    if angles is not None and sort == "angle":
        for gradient, of_angle in zip(gradients, angles.gradients(), strict=True):
            gradient += of_angle
    nothing = queries.new_empty(0)
    of_queries, of_others = (*gradients, nothing)[:2]
    return parts.sum(dim=0), of_queries if wanted else nothing, of_others


def _operator() -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """Return the computation as one operator, which ``torch.compile`` keeps whole, where torch can (from 2.4 on)."""
    if not IS_AN_OPERATOR:
        return loss_and_gradients
    schema = (
        "(Tensor queries, Tensor? others, Tensor labels, Tensor? other_labels, str distance, float temperature, "
        "str relaxation, str sort, float sort_weight, bool use_kernel, int? budget, bool exact, bool wanted, "
        "bool others_wanted) -> (Tensor, Tensor, Tensor)"
    )
    operator = torch.library.custom_op("drsl_plugin::loss_and_gradients", mutates_args=(), schema=schema)(
        loss_and_gradients
    )

    @operator.register_fake
    def _(queries: Tensor, others: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
        wanted, others_wanted = rest[-2:]
        of_others = torch.empty_like(others) if others is not None and others_wanted else queries.new_empty(0)
        return queries.new_empty(4), torch.empty_like(queries) if wanted else queries.new_empty(0), of_others

    return operator


IS_AN_OPERATOR = hasattr(torch.library, "custom_op")
operator = _operator()


def is_compiling() -> bool:
    """Tell whether this is being traced by ``torch.compile``, which torch before 2.3 does not tell."""
    return IS_AN_OPERATOR and torch.compiler.is_compiling()


def kernel_rows(*args: Any) -> RowGradients:
    """Rows by the Triton kernel, read only where it runs; see :func:`~drsl_plugin.losses.kernel.kernel_rows`."""
    from drsl_plugin.losses.kernel import kernel_rows

    return kernel_rows(*args)


def kernels_run_on(kind: str) -> bool:
    """Tell whether Triton's kernels run on this kind of device."""
    return kind == "cuda" and HAS_TRITON


def _chunk_size(queries: Tensor, references: int, most: int, settings: Settings, budget: int | None) -> int:
    """How many rows are worked on at a time."""
    temporaries = 4 if settings.relaxation == "linear" else 1
    numbers = references * (temporaries * most + 6) + 6 * most * most
    if settings.distance == "euclidean" and queries.is_cuda:
        numbers += references * queries.shape[1]  # torch's backward of the distances there
    row = numbers * queries.element_size()
    if budget is not None and budget < row:
        raise ValueError(f"chunk_budget must hold one query's row, {row} bytes for this batch, got {budget}")
    chunks = -(-len(queries) * row // (budget or DEFAULT_BUDGETS.get(queries.device.type, 64 << 20)))
    return -(-len(queries) // max(min(chunks, len(queries)), 1))
