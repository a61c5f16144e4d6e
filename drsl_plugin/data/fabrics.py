"""The patterns of the demo figures' clothes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from drsl_plugin.data._opencv import cv2
from drsl_plugin.data.canvas import CANVAS_HEIGHT, CANVAS_WIDTH, Colour, Image, Paint
from drsl_plugin.data.looks import Pattern
from drsl_plugin.data.poses import View


def _hoops(cloth: Image, accent: Colour, view: View, step: float) -> None:
    for down in np.arange(0.17, 1.0, step):
        y = int(view.point(0.0, down, 0.0)[1])
        cv2.rectangle(cloth, (0, y), (CANVAS_WIDTH, y + int(0.45 * step * view.height)), accent, -1)


def _stripes(cloth: Image, accent: Colour, view: View, step: float) -> None:
    # Spaced by angle around the body rather than across the picture, as on a cylinder of half width 0.12.
    for angle in np.arange(-1.4, 1.45, step / 0.12):
        x = int(view.x + 0.12 * np.sin(angle) * view.height)
        width = max(2, int(0.4 * step * np.cos(angle) * view.height))
        cv2.line(cloth, (x, 0), (x, CANVAS_HEIGHT), accent, width)


def _checks(cloth: Image, accent: Colour, view: View, step: float) -> None:
    across = cloth.copy()
    _hoops(across, accent, view, 1.15 * step)
    _stripes(cloth, accent, view, 1.15 * step)
    cv2.addWeighted(cloth, 0.5, across, 0.5, 0.0, dst=cloth)


def _dots(cloth: Image, accent: Colour, view: View, step: float) -> None:
    for row, down in enumerate(np.arange(0.18, 0.9, 0.9 * step)):
        y = int(view.point(0.0, down, 0.0)[1])
        for x in np.arange((row % 2) * 0.5 * step, 0.4, step):
            for column in (view.x + x * view.height, view.x - x * view.height):
                cv2.circle(cloth, (int(column), y), int(0.27 * step * view.height), accent, -1)


def _logo(cloth: Image, accent: Colour, view: View, step: float) -> None:
    # A large print on the chest: seen from the front, in part from the side, not from behind.
    if np.cos(view.yaw) < 0.1:
        return
    x, y = view.point(0.0, 0.3, 0.08)
    size = 0.75 * step * view.height
    axes = (int(size * abs(np.cos(view.yaw))), int(size))
    cv2.ellipse(cloth, (int(x), int(y)), axes, 0.0, 0.0, 360.0, accent, -1)


def _block(cloth: Image, accent: Colour, view: View, step: float) -> None:
    edge = int(view.point(0.0, 0.24 + step, 0.0)[1])
    cv2.rectangle(cloth, (0, 0), (CANVAS_WIDTH, edge), accent, -1)


_PATTERNS: dict[Pattern, Callable[[Image, Colour, View, float], None]] = {
    "hoops": _hoops,
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "logo": _logo,
    "block": _block,
}


def fabric(pattern: Pattern, colour: Colour, accent: Colour, view: View, scale: float) -> Paint:
    """Return the paint of a garment.

    Args:
        pattern: what is printed on or woven into it.
        colour: its ground.
        accent: the colour of the pattern.
        view: the wearer's place in the picture; the pattern moves and grows with it.
        scale: size of the pattern, 1 for a step of 6 % of the body's height.

    Returns:
        A paint with a texture, or with the ground colour alone where the cloth is plain.
    """
    if pattern == "plain":
        return Paint(colour)
    cloth = np.full((CANVAS_HEIGHT, CANVAS_WIDTH, 3), colour, dtype=np.uint8)
    _PATTERNS[pattern](cloth, accent, view, 0.06 * scale)
    return Paint(colour, cloth)
