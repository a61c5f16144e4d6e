"""DRSL with its gradient computed in the forward pass, rows of queries at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from drsl_plugin.errors import RangeError
from drsl_plugin.losses.backends.derivatives import IS_AN_OPERATOR, is_compiling, refuse_second_derivative
from drsl_plugin.losses.backends.identities import find_identities
from drsl_plugin.losses.backends.launch import kernel_rows
from drsl_plugin.losses.backends.row_scores import CosineRows, EuclideanRows, RowScores
from drsl_plugin.losses.backends.rows import row_gradients
from drsl_plugin.losses.settings import DRSLSettings

DEFAULT_BUDGETS = {"cpu": 8 << 20, "cuda": 256 << 20}
"""Bytes for the rows that are worked on at a time: on the CPU what stays in its cache."""


def compute_fused(
    queries: Tensor,
    others: Tensor | None,
    labels: Tensor,
    other_labels: Tensor | None,
    settings: DRSLSettings,
    *,
    use_kernel: bool,
    exact: bool,
) -> tuple[Tensor, Tensor]:
    """Return loss and parts ``(4,)`` of a batch; kept for backward is the gradient: N·D numbers, and M·D if wanted.

    Args:
        queries: ``(N, D)``, float32 or float64.
        others: ``(M, D)`` extra references of the same, or None.
        labels: ``(N,)``.
        other_labels: ``(M,)``, or None.
        settings: of the loss.
        use_kernel: leave the rows to the Triton kernel.
        exact: compute ap and above_all too; they are 0 otherwise.

    Raises:
        ValueError: the budget is too small for one row.
    """
    loss, parts = _FusedDRSL.apply(queries, others, labels, other_labels, settings, use_kernel, exact)
    return loss, parts


class _Context(FunctionCtx):
    """What goes from forward to backward."""

    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Tensor, ...]
    wanted: tuple[bool, bool]


class _FusedDRSL(torch.autograd.Function):
    """Cannot be differentiated twice; the unfused path can."""

    @staticmethod
    def forward(
        ctx: _Context,
        queries: Tensor,
        others: Tensor | None,
        labels: Tensor,
        other_labels: Tensor | None,
        settings: DRSLSettings,
        use_kernel: bool,
        exact: bool,
    ) -> tuple[Tensor, Tensor]:
        compute = operator if is_compiling() else compute_loss_and_gradients
        wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[1])
        values = [getattr(settings, name) for name in settings.settings()]
        found, *gradients = compute(queries, others, labels, other_labels, use_kernel, exact, *wanted, *values)
        parts = found[:4].clone()  # an output of its own, not a view of another
        ctx.save_for_backward(*gradients)
        ctx.wanted = wanted
        ctx.mark_non_differentiable(parts)
        loss = parts[0] + settings.sort_weight * parts[1] if settings.terms == "error" else found[4].clone()
        return loss, parts

    @staticmethod
    def backward(ctx: _Context, of_loss: Tensor, of_parts: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("where its backend is chunked or triton; backend='unfused' has one")
        found = [of_loss * each if want else None for each, want in zip(ctx.saved_tensors, ctx.wanted, strict=True)]
        return (*found, None, None, None, None, None)


def compute_loss_and_gradients(
    queries: Tensor,
    others: Tensor | None,
    labels: Tensor,
    other_labels: Tensor | None,
    use_kernel: bool,
    exact: bool,
    wanted: bool,
    others_wanted: bool,
    *values: str | float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the parts and the joint value, ``(5,)``, and the gradients of queries and references; empty if unwanted.

    Args:
        queries: ``(N, D)``.
        others: ``(M, D)``, or None.
        labels: ``(N,)``.
        other_labels: ``(M,)``, or None.
        use_kernel: leave the rows to the Triton kernel.
        exact: compute ap and above_all too.
        wanted: compute the gradient of the queries.
        others_wanted: compute that of the other references.
        *values: of the settings, one by one: an operator takes no object.
    """
    settings = DRSLSettings(*values)  # type: ignore[arg-type]  # as the operator's schema has them
    identities = find_identities(labels, labels if other_labels is None else torch.cat([labels, other_labels]))
    weights = identities.weights(queries.dtype)
    wants = (wanted, others_wanted)
    scores: RowScores = (CosineRows if settings.distance == "cosine" else EuclideanRows)(queries, others, wants)
    angles: RowScores | None = None  # where they are not the scores themselves
    if settings.distance != "cosine" and settings.sort != "none":
        angles = CosineRows(queries, others, wants if settings.sort == "angle" else (False, False))
    # The kernel's work does not depend on the number of positives, which only the device knows.
    most = 0 if use_kernel or not len(labels) else int(identities.counts.max())
    parts = torch.zeros(len(labels), 5, dtype=queries.dtype, device=queries.device)
    if most or (use_kernel and len(labels)):
        size = _choose_chunk_size(queries, len(identities.ref_labels), most, settings)
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
    if angles is not None and settings.sort == "angle":
        for gradient, of_angle in zip(gradients, angles.gradients(), strict=True):
            gradient += of_angle
    nothing = queries.new_empty(0)
    of_queries, of_others = (*gradients, nothing)[:2]
    return parts.sum(dim=0), of_queries if wanted else nothing, of_others


def _make_operator() -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """Return the computation as one operator, which ``torch.compile`` keeps whole, where torch can (from 2.4 on)."""
    if not IS_AN_OPERATOR:
        return compute_loss_and_gradients
    types: dict[object, str] = {bool: "bool", int: "int", float: "float", int | None: "int?"}
    settings = [f"{types.get(each.type, 'str')} {each.name}" for each in DRSLSettings.settings().values()]
    schema = (
        "(Tensor queries, Tensor? others, Tensor labels, Tensor? other_labels, bool use_kernel, bool exact, "
        f"bool wanted, bool others_wanted, {', '.join(settings)}) -> (Tensor, Tensor, Tensor)"
    )
    operator = torch.library.custom_op("drsl_plugin::loss_and_gradients", mutates_args=(), schema=schema)(
        compute_loss_and_gradients
    )

    @operator.register_fake
    def _(queries: Tensor, others: Tensor | None, *rest: object) -> tuple[Tensor, Tensor, Tensor]:
        wanted, others_wanted = rest[4:6]
        of_others = torch.empty_like(others) if others is not None and others_wanted else queries.new_empty(0)
        return queries.new_empty(5), torch.empty_like(queries) if wanted else queries.new_empty(0), of_others

    return operator


operator = _make_operator()


def count_row_bytes(references: int, most: int, settings: DRSLSettings, element_size: int = 4) -> int:
    """Count the bytes that one query's row takes while it is worked on.

    Args:
        references: of the query, itself among them.
        most: how many of them are its positives, at most.
        settings: of the loss.
        element_size: bytes of a score.
    """
    temporaries = 4 if settings.relaxation == "linear" else 1
    return (references * (temporaries * most + 6) + 6 * most * most) * element_size


def _choose_chunk_size(queries: Tensor, references: int, most: int, settings: DRSLSettings) -> int:
    """Choose how many rows are worked on at a time."""
    row = count_row_bytes(references, most, settings, queries.element_size())
    if settings.distance == "euclidean" and queries.is_cuda:
        row += references * queries.shape[1] * queries.element_size()  # torch's backward of the distances there
    budget = settings.chunk_budget
    if budget is not None and budget < row:
        raise RangeError("chunk_budget", budget, f"at least one query's row, {row} bytes for this batch")
    chunks = -(-len(queries) * row // (budget or DEFAULT_BUDGETS.get(queries.device.type, 64 << 20)))
    return -(-len(queries) // max(min(chunks, len(queries)), 1))
