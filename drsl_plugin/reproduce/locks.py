"""Locks of files that end with the processes that hold them, however those end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from drsl_plugin.errors import DRSLError


@contextlib.contextmanager
def hold(path: Path, *, wait: bool = False) -> Iterator[int | None]:
    """Hold a lock while the block runs, or longer: until the last process that inherits it ends.

    Args:
        path: the file; made where missing, and left there: who removes it takes another's lock away.
        wait: wait for it; by default one that somebody else holds is not waited for.

    Yields:
        The open file's descriptor, to be passed on to a process; None where somebody else holds it.

    Raises:
        DRSLError: the system has no such locks.
    """
    try:
        import fcntl
    except ImportError:
        raise DRSLError("drsl reproduce needs a system with POSIX file locks, such as Linux or macOS") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        yield descriptor
    finally:
        os.close(descriptor)  # and no unlocking: a process that inherited it goes on holding it
