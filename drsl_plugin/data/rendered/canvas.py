"""What the demo's figures and scenes are painted on: filled outlines, with a record of what they cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drsl_plugin.data.rendered._opencv import cv2

Image = NDArray[np.uint8]
Points = NDArray[np.float64]
Colour = tuple[int, int, int]
"""Blue, green and red, 0..255 each, in OpenCV's order."""

OVERSAMPLING = 4
"""Everything is painted this many times larger than the final image, which smooths edges for free."""

WIDTH, HEIGHT = 64, 128
"""The final image, in pixels."""

CANVAS_WIDTH, CANVAS_HEIGHT = OVERSAMPLING * WIDTH, OVERSAMPLING * HEIGHT


@dataclass(frozen=True)
class Paint:
    """A colour, and the canvas-sized texture that stands in for it where the cloth has a pattern."""

    colour: Colour
    texture: Image | None = None


def scale_colour(colour: Colour, factor: float) -> Colour:
    """Return ``colour`` made darker (``factor`` below 1) or lighter (above 1)."""
    blue, green, red = (int(min(255.0, factor * channel)) for channel in colour)
    return blue, green, red


def _round(points: Points) -> NDArray[np.int32]:
    return np.round(points).astype(np.int32)


class Canvas:
    """A picture being painted, and the mask of what has been painted on it so far."""

    def __init__(self, background: Image) -> None:
        """Start from a copy of ``background``, of shape ``(CANVAS_HEIGHT, CANVAS_WIDTH, 3)``."""
        self.image: Image = background.copy()
        self.mask: Image = np.zeros(background.shape[:2], dtype=np.uint8)

    def edge(self, outline: Points, paint: Paint, shade: float = 1.0) -> None:
        """Draw the edge of a closed outline, a little darker than the paint that is to fill it."""
        colour = scale_colour(paint.colour, 0.65 * shade)
        cv2.polylines(self.image, [_round(outline)], True, colour, OVERSAMPLING, cv2.LINE_AA)

    def fill(self, outline: Points, paint: Paint, shade: float = 1.0) -> None:
        """Fill a closed outline.

        Args:
            outline: ``(n, 2)``, x and y in canvas pixels; parts outside of the canvas are cut off.
            paint: the colour or texture to fill it with.
            shade: brightness of the paint, 1 for as it is.
        """
        corners = _round(outline)
        if paint.texture is None:
            cv2.fillPoly(self.image, [corners], scale_colour(paint.colour, shade))
        else:
            self._fill_textured(corners, paint.texture, shade)
        cv2.fillPoly(self.mask, [corners], 255)

    def _fill_textured(self, corners: NDArray[np.int32], texture: Image, shade: float) -> None:
        # Only the outline's bounding box is touched: a whole canvas for each limb would cost most of the time.
        limits = np.array([CANVAS_WIDTH, CANVAS_HEIGHT])
        left, top = np.clip(corners.min(axis=0), 0, limits)
        right, bottom = np.clip(corners.max(axis=0) + 1, 0, limits)
        if right <= left or bottom <= top:
            return
        region = (slice(top, bottom), slice(left, right))
        inside = np.zeros((bottom - top, right - left), dtype=np.uint8)
        cv2.fillPoly(inside, [corners - np.array([left, top], dtype=np.int32)], 255)
        cloth = cv2.convertScaleAbs(texture[region], alpha=shade)
        self.image[region] = np.where(inside[..., None] > 0, cloth, self.image[region])

    def paint(self, outlines: Sequence[Points], paint: Paint, shade: float = 1.0) -> None:
        """Fill outlines that are one piece: edges only where it ends, not where its parts meet."""
        for outline in outlines:
            self.edge(outline, paint, shade)
        for outline in outlines:
            self.fill(outline, paint, shade)

    def stroke(self, points: Points, colour: Colour, thickness: float) -> None:
        """Draw an open line through ``points``, ``thickness`` canvas pixels wide."""
        corners = _round(points)
        width = max(1, round(thickness))
        cv2.polylines(self.image, [corners], False, colour, width, cv2.LINE_AA)
        cv2.polylines(self.mask, [corners], False, 255, width)


def ellipse(centre: Points, half_width: float, half_height: float) -> Points:
    """Return the outline of an upright ellipse around ``centre``."""
    angles = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    return centre + np.stack([half_width * np.cos(angles), half_height * np.sin(angles)], axis=1)


def capsule(start: Points, end: Points, start_radius: float, end_radius: float) -> Points:
    """Return the outline of a limb: two round ends of their own radius, joined by straight sides."""
    along = end - start
    heading = np.arctan2(along[1], along[0])
    half_turn = np.linspace(0.5 * np.pi, 1.5 * np.pi, 8)
    back = np.stack([np.cos(heading + half_turn), np.sin(heading + half_turn)], axis=1)
    return np.concatenate([start + start_radius * back, end - end_radius * back])
