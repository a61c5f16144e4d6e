"""Copies of the rendered data set with few images to look for, or none that can be found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from hosts import Host


def copied(host: Host, root: Path) -> Host:
    """The toolbox, with a copy of its data sets."""
    return type(host)(shutil.copytree(host.root, root, symlinks=True))


def keep_gallery(host: Host, keep: Callable[[str], bool]) -> None:
    """Remove all images of a gallery but some, by their names."""
    images = [path for path in host.root.rglob("bounding_box_test/*.jpg") if not keep(path.name)]
    for path in images:
        path.unlink(missing_ok=True)  # a folder may be seen under two names


def make_small(host: Host, root: Path) -> Host:
    """The toolbox with a gallery of 14 images, which is another size for each query without its own camera."""
    small = copied(host, root)
    keep_gallery(small, lambda name: name[:4] in ("0001", "0003", "0005") or name[:7] == "0007_c1")
    return small


def make_unmatched(host: Host, root: Path) -> Host:
    """The toolbox with a gallery in which no query has a match."""
    unmatched = copied(host, root)
    keep_gallery(unmatched, lambda name: name.startswith("0000"))
    return unmatched
