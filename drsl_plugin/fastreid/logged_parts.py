"""The parts of DRSL in FastReID's logs, read where FastReID reads its own losses, and no earlier."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.types import Loop
from drsl_plugin.losses import DRSLParts
from drsl_plugin.toolbox.patching import replaced

PARTS = tuple(f"drsl_{name}" for name in DRSLParts._fields)
"""The names under which FastReID's logs show the parts of the loss."""


class _PartsUnderWay:
    """The parts of a step, on their way from the device to the host.

    Args:
        values: ``(len(PARTS),)``, without gradient.
    """

    def __init__(self, values: Tensor) -> None:
        """Begin the copy; on CUDA nothing waits for it yet."""
        self._values = values.to("cpu", non_blocking=True) if values.is_cuda else values
        self._copied = torch.cuda.current_stream(values.device).record_event() if values.is_cuda else None

    def log(self) -> None:
        """Put them into FastReID's storage once they are there: wait for the forward pass, and for nothing after it."""
        if self._copied is not None:
            self._copied.synchronize()
        values = dict(zip(PARTS, self._values.tolist(), strict=True))
        fastreid.utils.events.get_event_storage().put_scalars(**values)


_waiting: ContextVar[list[_PartsUnderWay] | None] = ContextVar("parts that a step has computed and not logged")


def log_parts(values: Tensor) -> None:
    """Log the parts of a step: within :func:`log_parts_with_losses` with its losses, elsewhere at once.

    Args:
        values: ``(len(PARTS),)``, in the order of ``PARTS``.
    """
    under_way, waiting = _PartsUnderWay(values.detach()), _waiting.get(None)
    if waiting is None:
        under_way.log()
    else:
        waiting.append(under_way)


@contextlib.contextmanager
def log_parts_with_losses(loop: Loop) -> Iterator[None]:
    """Let the step that the block takes log the parts where ``loop`` logs its losses.

    FastReID does so once the backward pass is under way, and reads them on a stream of its own, which waits for
    nothing, the forward pass included. Since the parts come first, and are computed after all losses, the losses are
    there by then.

    Args:
        loop: what takes the step; one that logs no losses has the parts logged when the block ends.
    """
    waiting: list[_PartsUnderWay] = []

    def log_waiting() -> None:
        while waiting:
            waiting.pop(0).log()

    write = getattr(loop, "_write_metrics", None)

    def write_parts_and_losses(*args: Any, **kwargs: Any) -> Any:
        log_waiting()
        return write(*args, **kwargs)  # type: ignore[misc]  # where there is none, nobody calls this

    before = _waiting.set(waiting)
    try:
        with contextlib.nullcontext() if write is None else replaced(loop, "_write_metrics", write_parts_and_losses):
            yield
        log_waiting()
    finally:
        _waiting.reset(before)
