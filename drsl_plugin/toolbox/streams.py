"""A second stream of training batches beside the one that a training is in, which goes on as if there were none."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader

Loader = TypeVar("Loader")


def copy_loader(loader: Loader) -> Loader:
    """Return a loader of the same batches, of which a pass can be begun while one of the other is not at its end.

    A loader that keeps its workers, or is its own iterator, has one pass at a time.
    """
    copied = copy.copy(loader)
    if isinstance(copied, DataLoader):
        copied._iterator = None  # the workers that it keeps
    return copied


def find_patch_pools(transform: object) -> list[Any]:
    """Return the pools from which ``RandomPatch``, among the transforms of a training image, draws its patches."""
    return [each.patchpool for each in getattr(transform, "transforms", []) if hasattr(each, "patchpool")]


@contextlib.contextmanager
def keep_patch_pools(loader: Any) -> Iterator[None]:
    """Put the patches back at the end from which both toolboxes' ``RandomPatch`` draws, where it is in this process."""
    pools = find_patch_pools(getattr(getattr(loader, "dataset", None), "transform", None))
    contents = [list(pool) for pool in pools]
    try:
        yield
    finally:
        for pool, content in zip(pools, contents, strict=True):
            pool.clear()
            pool.extend(content)
