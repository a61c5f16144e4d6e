"""The patterns of the demo figures' clothes: two colours, in about equal shares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from drsl_plugin.data.rendered._opencv import cv2
from drsl_plugin.data.rendered.canvas import CANVAS_HEIGHT, CANVAS_WIDTH, Colour, Image, Paint
from drsl_plugin.data.rendered.looks import Pattern
from drsl_plugin.data.rendered.poses import View

_Array = NDArray[np.float32]
_Mask = NDArray[np.bool_]


def _alternating(position: _Array) -> _Mask:
    mask: _Mask = (np.floor(2.0 * position).astype(np.int32) & 1) == 0
    return mask


def _hoops(x: _Array, y: _Array) -> _Mask:
    return _alternating(y)


def _stripes(x: _Array, y: _Array) -> _Mask:
    return _alternating(x + 0.25)


def _checks(x: _Array, y: _Array) -> _Mask:
    return _hoops(x, y) ^ _stripes(x, y)


def _dots(x: _Array, y: _Array) -> _Mask:
    # Every second row is shifted by half a period. Circles of radius 0.4 cover half of their squares.
    row = np.floor(y)
    across = x + 0.5 * (row % 2.0)
    mask: _Mask = (across - np.floor(across) - 0.5) ** 2 + (y - row - 0.5) ** 2 < 0.4**2
    return mask


def _diagonals(x: _Array, y: _Array) -> _Mask:
    return _alternating(x + y)


def _zigzag(x: _Array, y: _Array) -> _Mask:
    return _alternating(y + 1.2 * np.abs(x - np.floor(x) - 0.5))


_PATTERNS: dict[Pattern, tuple[Callable[[_Array, _Array], _Mask], float]] = {
    "hoops": (_hoops, 0.05),
    "bands": (_hoops, 0.13),
    "stripes": (_stripes, 0.05),
    "bars": (_stripes, 0.12),
    "checks": (_checks, 0.12),
    "dots": (_dots, 0.085),
    "diagonals": (_diagonals, 0.11),
    "zigzag": (_zigzag, 0.11),
}
"""Where each has the first colour, by position in periods, and its period in body heights."""


def fabric(pattern: Pattern, first: Colour, second: Colour, view: View) -> Paint:
    """Return the paint of a garment.

    Args:
        pattern: what is printed on or woven into it.
        first: one colour, that of the edges as well.
        second: the other.
        view: the wearer's place in the picture; the pattern moves and grows with it.

    Returns:
        A paint with a texture.
    """
    draw, period = _PATTERNS[pattern]
    x = (np.arange(CANVAS_WIDTH, dtype=np.float32)[None, :] - view.x) / (period * view.height)
    y = (np.arange(CANVAS_HEIGHT, dtype=np.float32)[:, None] - view.top) / (period * view.height)
    has_first = np.broadcast_to(draw(x, y), (CANVAS_HEIGHT, CANVAS_WIDTH)).astype(np.uint8)
    colours = np.zeros((256, 1, 3), dtype=np.uint8)
    colours[:2, 0] = second, first
    # By OpenCV, because NumPy's indexing takes some 1.8 ms where this takes 0.1 ms.
    cloth: Image = cv2.applyColorMap(has_first, colours)
    return Paint(first, cloth)
