"""How the Triton kernel is launched: which tensors and numbers it gets, and where it runs."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import math

import torch
from torch import Tensor

from drsl_plugin.losses.backends.identities import Identities
from drsl_plugin.losses.backends.rows import RowGradients
from drsl_plugin.losses.backends.terms import LEAST_PRECISION
from drsl_plugin.losses.settings import DRSLSettings

HAS_TRITON = importlib.util.find_spec("triton") is not None
POSITIVES = 16
"""Positives that a program ranks at a time."""
REFERENCES = 256
"""References that it ranks them against at a time."""


def kernels_run_on(kind: str) -> bool:
    """Tell whether Triton's kernels run on this kind of device."""
    return kind == "cuda" and HAS_TRITON


def kernel_rows(
    scores: Tensor,
    cosines: Tensor | None,
    identities: Identities,
    weights: Tensor,
    rows: slice,
    settings: DRSLSettings,
    exact: bool,
) -> RowGradients:
    """Return the loss of some queries and its gradient in their scores; no shape depends on the labels.

    Args:
        scores: ``(n, R)``.
        cosines: ``(n, R)`` where they are not the scores themselves, or None.
        identities: of all queries and references.
        weights: ``(N,)``: of each positive of a query.
        rows: the queries.
        settings: of the loss.
        exact: compute ap and above_all too.
    """
    from drsl_plugin.losses.backends.kernel import rank_rows

    scores, cosines = scores.contiguous(), None if cosines is None else cosines.contiguous()
    gradient = torch.empty_like(scores)
    of_cosines = torch.zeros_like(cosines) if cosines is not None and settings.sort == "angle" else None
    parts = scores.new_empty(len(scores), 5)
    # Triton launches on the current device, whatever the tensors are on.
    with torch.cuda.device(scores.device) if scores.is_cuda else contextlib.nullcontext():
        rank_rows[(len(scores),)](
            scores,
            scores if cosines is None else cosines,
            gradient,
            gradient if of_cosines is None else of_cosines,
            parts,
            identities.order,
            identities.ref_labels,
            identities.labels[rows],
            identities.start[rows],
            identities.place[rows],
            identities.counts[rows],
            weights[rows],
            scores.shape[1],
            *_halves(settings.temperature),
            *_halves(settings.sort_weight),
            _reach(scores, settings),
            SIGMOID=settings.relaxation == "sigmoid",
            SORT=settings.sort,
            ERROR_DRIVEN=settings.gradient == "error",
            TERMS=settings.terms,
            LEAST_PRECISION=LEAST_PRECISION,
            SEPARATE=cosines is not None,
            EXACT=exact,
            POSITIVES=POSITIVES,
            REFERENCES=REFERENCES,
        )
    return RowGradients(parts, gradient, of_cosines)


def _halves(value: float) -> tuple[float, float]:
    """Split a number into two float32 numbers: Triton takes a Python float as float32."""
    high = ctypes.c_float(value).value
    return high, ctypes.c_float(value - high).value


def _reach(scores: Tensor, settings: DRSLSettings) -> float:
    """Return from which gap on, in temperatures, the steps of all references together count as exact.

    What R steps leave out beyond it is less than half a unit in the last place of 1, the least that a rank can be.
    """
    if settings.relaxation == "linear":
        return 1.0
    return (37.0 if scores.dtype == torch.float64 else 17.0) + math.log(max(scores.shape[1], 1))
