"""The places the demo's cameras look at, each several times wider than one image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from drsl_plugin.data.rendered._opencv import cv2
from drsl_plugin.data.rendered.canvas import CANVAS_HEIGHT, CANVAS_WIDTH, Colour, Image, scale_colour

PLACE_WIDTH, PLACE_HEIGHT = 3 * CANVAS_WIDTH, CANVAS_HEIGHT + CANVAS_HEIGHT // 4

_Draw = Callable[[Image, np.random.Generator, int], None]


def _draw_box(place: Image, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
    cv2.rectangle(place, (int(left), int(top)), (int(right), int(bottom)), colour, -1)


def _fill_halves(place: Image, horizon: int, wall: Colour, floor: Colour) -> None:
    place[:horizon] = wall
    place[horizon:] = floor


def _bricks(place: Image, rng: np.random.Generator, horizon: int) -> None:
    _fill_halves(place, horizon, (95, 110, 150), (125, 130, 135))
    for row, y in enumerate(range(0, horizon, 26)):
        for x in range(-(row % 2) * 36, PLACE_WIDTH, 72):
            brick = scale_colour((80, 95, 150), float(rng.uniform(0.8, 1.15)))
            _draw_box(place, x, y, x + 68, y + 22, brick)
    for x in range(0, PLACE_WIDTH, 150):
        cv2.line(place, (x, PLACE_HEIGHT), (int(0.7 * x + 110), horizon), (105, 110, 115), 3)


def _park(place: Image, rng: np.random.Generator, horizon: int) -> None:
    _fill_halves(place, horizon, (215, 200, 180), (70, 130, 95))
    for x in rng.uniform(0, PLACE_WIDTH, 9):
        _draw_box(place, x - 14, 0.3 * horizon, x + 14, horizon + 30, (45, 65, 90))
        for _ in range(14):
            centre = (int(x + rng.normal(0, 70)), int(0.35 * horizon + rng.normal(0, 60)))
            leaf = scale_colour((55, 115, 75), float(rng.uniform(0.6, 1.2)))
            cv2.circle(place, centre, int(rng.uniform(25, 55)), leaf, -1)
    path = np.array([(0, PLACE_HEIGHT), (0, horizon + 130), (PLACE_WIDTH, horizon + 60), (PLACE_WIDTH, PLACE_HEIGHT)])
    cv2.fillPoly(place, [path], (135, 160, 175))


def _tiles(place: Image, rng: np.random.Generator, horizon: int) -> None:
    _fill_halves(place, horizon, (205, 205, 195), (110, 105, 100))
    for x in range(0, PLACE_WIDTH, 48):
        for y in range(0, horizon, 48):
            _draw_box(place, x + 2, y + 2, x + 46, y + 46, scale_colour((205, 208, 200), float(rng.uniform(0.9, 1.08))))
    _draw_box(place, 0, 0.42 * horizon, PLACE_WIDTH, 0.55 * horizon, (150, 90, 50))
    _draw_box(place, 0, horizon - 10, PLACE_WIDTH, horizon + 14, (70, 190, 215))


def _shops(place: Image, rng: np.random.Generator, horizon: int) -> None:
    _fill_halves(place, horizon, (95, 100, 105), (150, 150, 155))
    for x in range(0, PLACE_WIDTH, 190):
        sign = scale_colour((int(rng.integers(60, 200)), int(rng.integers(60, 200)), int(rng.integers(60, 200))), 1.0)
        _draw_box(place, x + 8, 0.16 * horizon, x + 182, 0.3 * horizon, sign)
        _draw_box(place, x + 16, 0.34 * horizon, x + 174, 0.95 * horizon, (165, 150, 130))
        for _ in range(7):
            ware = scale_colour(
                (int(rng.integers(40, 220)), int(rng.integers(40, 220)), int(rng.integers(40, 220))), 0.9
            )
            left, top = x + rng.uniform(20, 140), horizon * rng.uniform(0.45, 0.8)
            _draw_box(place, left, top, left + 28, top + rng.uniform(25, 60), ware)
    for y in range(horizon, PLACE_HEIGHT, 44):
        cv2.line(place, (0, y), (PLACE_WIDTH, y), (130, 130, 138), 3)


def _square(place: Image, rng: np.random.Generator, horizon: int) -> None:
    _fill_halves(place, horizon // 2, (225, 205, 170), (160, 170, 178))
    for x in range(-60, PLACE_WIDTH, 130):
        roof = int(rng.uniform(0.05, 0.3) * horizon)
        _draw_box(place, x, roof, x + 120, horizon // 2, scale_colour((150, 160, 175), float(rng.uniform(0.75, 1.1))))
        for top in range(roof + 14, horizon // 2 - 20, 36):
            for left in range(x + 14, x + 110, 34):
                _draw_box(place, left, top, left + 16, top + 20, (90, 85, 75))
    for y in np.linspace(0, 1, 12) ** 2 * (PLACE_HEIGHT - horizon // 2) + horizon // 2:
        cv2.line(place, (0, int(y)), (PLACE_WIDTH, int(y)), (140, 150, 160), 2)
    for x in range(-PLACE_WIDTH, 2 * PLACE_WIDTH, 120):
        cv2.line(place, (x, PLACE_HEIGHT), ((x + PLACE_WIDTH) // 3, horizon // 2), (140, 150, 160), 2)


def _corridor(place: Image, rng: np.random.Generator, horizon: int) -> None:
    _fill_halves(place, horizon, (165, 175, 170), (75, 80, 95))
    for x in range(30, PLACE_WIDTH, 210):
        _draw_box(place, x, 0, x + 46, horizon + 20, (120, 125, 120))
        _draw_box(
            place, x + 80, 0.25 * horizon, x + 170, horizon, scale_colour((80, 110, 140), float(rng.uniform(0.8, 1.2)))
        )
        cv2.circle(place, (x + 156, int(0.65 * horizon)), 7, (190, 200, 205), -1)
        cv2.ellipse(place, (x + 120, PLACE_HEIGHT - 80), (90, 26), 0, 0, 360, (105, 112, 125), -1)
    _draw_box(place, 0, 0, PLACE_WIDTH, 0.08 * horizon, (225, 230, 230))


_PLACES: tuple[_Draw, ...] = (_bricks, _park, _tiles, _shops, _square, _corridor)

PLACE_COUNT = len(_PLACES)


def draw_place(kind: int, rng: np.random.Generator) -> Image:
    """Draw a place.

    Args:
        kind: which one, 0..``PLACE_COUNT - 1``.
        rng: decides its details.

    Returns:
        ``(PLACE_HEIGHT, PLACE_WIDTH, 3)``, slightly out of focus, as behind a person in focus.
    """
    place: Image = np.zeros((PLACE_HEIGHT, PLACE_WIDTH, 3), dtype=np.uint8)
    _PLACES[kind](place, rng, int(rng.uniform(0.48, 0.66) * PLACE_HEIGHT))
    stains = cv2.resize(rng.uniform(0.85, 1.1, (12, 16)), (PLACE_WIDTH, PLACE_HEIGHT), interpolation=cv2.INTER_CUBIC)
    stained = np.clip(place * stains[..., None], 0, 255).astype(np.uint8)
    softened: Image = cv2.GaussianBlur(stained, (0, 0), 4.0)
    # Muted, so that a network trained for two minutes finds the person before it finds the place.
    muted: Image = cv2.addWeighted(softened, 0.6, np.full_like(softened, 140), 0.4, 0.0)
    return muted
