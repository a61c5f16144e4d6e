"""What stands between the demo's cameras and a person: a pillar, a bush, a car."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from drsl_plugin.data.rendered._opencv import cv2
from drsl_plugin.data.rendered.canvas import CANVAS_HEIGHT, CANVAS_WIDTH, Image, scale_colour
from drsl_plugin.data.rendered.poses import Side


def _pillar(image: Image, side: Side, rng: np.random.Generator) -> None:
    width = int(rng.uniform(0.12, 0.24) * CANVAS_WIDTH)
    x = int((0.5 + side * rng.uniform(0.2, 0.36)) * CANVAS_WIDTH) - width // 2
    light = 1.0 - 0.35 * np.abs(np.linspace(-1.0, 1.0, width)) ** 2
    grey = rng.uniform(80, 170)
    left, right = max(x, 0), min(x + width, CANVAS_WIDTH)
    column = (grey * light)[left - x : right - x]
    image[:, left:right] = column[None, :, None].astype(np.uint8)


def _bush(image: Image, side: Side, rng: np.random.Generator) -> None:
    height = rng.uniform(0.1, 0.24) * CANVAS_HEIGHT
    for _ in range(70):
        x = CANVAS_WIDTH * (0.5 + side * rng.uniform(-0.15, 0.55))
        y = CANVAS_HEIGHT - height * rng.random() ** 1.4
        leaf = scale_colour((60, 125, 75), float(rng.uniform(0.5, 1.2)))
        cv2.circle(image, (int(x), int(y)), int(rng.uniform(10, 26)), leaf, -1)


def _car(image: Image, side: Side, rng: np.random.Generator) -> None:
    body = (int(rng.integers(30, 220)), int(rng.integers(30, 220)), int(rng.integers(30, 220)))
    top = rng.uniform(0.72, 0.82)
    outline = np.array([(-0.2, 1.1), (-0.2, 0.0), (0.15, 0.02), (0.42, 0.25), (0.52, 0.55), (0.52, 1.1)])
    reach = 1.0 if rng.random() < 0.5 else 1.3
    x = np.where(side > 0, 1.0 - reach * outline[:, 0], reach * outline[:, 0]) * CANVAS_WIDTH
    y = (top + outline[:, 1] * (1.0 - top)) * CANVAS_HEIGHT
    corners = np.round(np.stack([x, y], axis=1)).astype(np.int32)
    cv2.fillPoly(image, [corners], body)
    cv2.polylines(image, [corners], True, scale_colour(body, 0.6), 4, cv2.LINE_AA)
    wheel = (int((0.5 - side * 0.17) * CANVAS_WIDTH + side * 60), CANVAS_HEIGHT)
    cv2.circle(image, wheel, int(0.07 * CANVAS_HEIGHT), (35, 35, 38), -1)
    lamp = corners[3] + np.array([-side * 6, 14])
    cv2.ellipse(image, (int(lamp[0]), int(lamp[1])), (14, 9), 0, 0, 360, (220, 235, 240), -1)


_DRAW: dict[str, Callable[[Image, Side, np.random.Generator], None]] = {
    "pillar": _pillar,
    "bush": _bush,
    "car": _car,
}

OBSTACLES: tuple[str, ...] = tuple(_DRAW)


def draw_obstacle(kind: str, image: Image, side: Side, rng: np.random.Generator) -> None:
    """Draw an obstacle over an image, in place, mostly on one side of it."""
    _DRAW[kind](image, side, rng)
