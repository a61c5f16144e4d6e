"""The generators of random numbers of Python, numpy and torch: their states in a checkpoint, and left as they were."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch


def read_generators() -> dict[str, Any]:
    """Return the states of the generators of Python, numpy and torch, in types that ``torch.load`` reads."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_generators(state: Mapping[str, Any]) -> None:
    """Put the generators into a state of :func:`read_generators`; CUDA's where the devices are as many."""
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])


@contextlib.contextmanager
def preserve_generators() -> Iterator[None]:
    """Leave the generators as they were found."""
    state = read_generators()
    try:
        yield
    finally:
        set_generators(state)
