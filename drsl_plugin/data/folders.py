"""Folders that appear finished or not at all."""

from __future__ import annotations

import os
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


def links_to(link: Path, target: Path) -> bool:
    """Tell whether ``link`` is a link with exactly this target."""
    return link.is_symlink() and Path(os.readlink(link)) == target


def link_beside(link: Path, target: Path) -> None:
    """Link FastReID's folder, or say in a README how to do without where the file system has no links.

    Args:
        link: where the link is to stand; one that is right already is kept.
        target: of the link, relative to its folder.
    """
    if links_to(link, target):
        return
    try:
        link.symlink_to(target, target_is_directory=True)
    except (OSError, NotImplementedError) as error:
        readme = link.parent / "README.txt"
        text = (
            f"{link.name} could not be linked to {target.as_posix()} here ({error}).\n"
            f"For FastReID, set FASTREID_DATASETS to {link.parent / target.parent}.\n"
        )
        # Appended, and once: the file may be somebody else's.
        if not readme.exists() or text not in readme.read_text(encoding="utf-8"):
            with readme.open("a", encoding="utf-8") as stream:
                stream.write(text)
