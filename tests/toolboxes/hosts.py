"""The toolboxes as the tests of both see them; a third one would be one more :class:`Host`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ended import OF_TORCH, Ended
from fastreid_host import FastReID
from hosting import Host
from optimizer_steps import watching_steps
from torchreid_host import Torchreid

__all__ = ["HOSTS", "OF_TORCH", "Ended", "FastReID", "Host", "Torchreid", "interrupted"]

HOSTS: dict[str, Callable[[Path], Host]] = {kind.name: kind for kind in (Torchreid, FastReID)}


@contextlib.contextmanager
def interrupted(step: int, reason: type[BaseException] = KeyboardInterrupt) -> Iterator[None]:
    """Stop a training as Ctrl-C would, after a step counted from 1, before its row is written."""
    taken = 0

    def after(*_: Any) -> None:
        nonlocal taken
        taken += 1
        if taken == step:
            raise reason

    with watching_steps(after=after):
        yield
