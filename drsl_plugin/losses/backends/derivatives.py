"""Whether a gradient is being traced or is asked for twice."""

from __future__ import annotations

import torch

IS_AN_OPERATOR = hasattr(torch.library, "custom_op")
"""Whether torch can keep a computation whole under ``torch.compile``, from 2.4 on."""


def is_compiling() -> bool:
    """Tell whether this is being traced by ``torch.compile``, which torch before 2.3 does not tell."""
    return IS_AN_OPERATOR and torch.compiler.is_compiling()


def refuse_second_derivative(where: str) -> None:
    """Stop a backward pass with ``create_graph=True``, which torch would ignore.

    Args:
        where: there is no second derivative, and where there is one.

    Raises:
        RuntimeError: it is one.
    """
    if torch.is_grad_enabled() and not is_compiling():
        raise RuntimeError(f"drsl_loss has no second derivative {where}")
