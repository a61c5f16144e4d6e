"""Folders that appear finished or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``target`` when the block ends, and vanishes when it raises.

    Args:
        target: must not exist yet; its parent is made where missing.

    Yields:
        Where to write meanwhile: on the same disk, beside ``target``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        # One level down, because mkdtemp's own folder is closed to everybody else, and would stay so.
        folder = scratch / target.name
        folder.mkdir()
        yield folder
        folder.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
