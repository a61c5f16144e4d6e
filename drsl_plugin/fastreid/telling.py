"""Tells what each target gave as soon as it did: FastReID's ``test`` returns the results of all, or of none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TypeAlias

from drsl_plugin.fastreid.types import Results

Listener: TypeAlias = "Callable[[str, Results], None]"
"""Called with a target's name and its results."""

_listener: ContextVar[Listener | None] = ContextVar("_listener", default=None)


@contextlib.contextmanager
def hear_results(listener: Listener) -> Iterator[list[str]]:
    """Be told of each target's results within the block.

    Args:
        listener: is told.

    Yields:
        The targets that were told of so far.
    """
    told: list[str] = []

    def hear(target: str, results: Results) -> None:
        told.append(target)
        listener(target, results)

    token = _listener.set(hear)
    try:
        yield told
    finally:
        _listener.reset(token)


def tell_results(target: str, results: Results) -> None:
    """Tell a target's results to who listens, if anyone does."""
    listener = _listener.get()
    if listener is not None:
        listener(target, results)
