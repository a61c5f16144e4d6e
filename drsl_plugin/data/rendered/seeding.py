"""Random numbers of the demo data: one generator for each thing drawn, whatever else is drawn before it."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a generator is for; each has keys of one length, so that no two generators coincide."""

    CAMERA_ORDER = 0
    CAMERA = 1
    GROUP = 2
    PERSON = 3
    IMAGE = 4
    TRACKLET = 5
    FRAME = 6


def make_generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """Return the generator of one thing.

    Args:
        seed: of the whole set, 0 or more.
        stream: the kind of thing.
        key: which one, numbers of 0 or more.

    Returns:
        A fresh generator, the same for the same arguments.
    """
    return np.random.default_rng([seed, int(stream), *key])
