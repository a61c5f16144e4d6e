"""The demo's cameras: what each one looks at, from how high, and what it does to light and colour."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from drsl_plugin.data.rendered._opencv import cv2
from drsl_plugin.data.rendered.backgrounds import PLACE_COUNT, draw_place
from drsl_plugin.data.rendered.canvas import CANVAS_HEIGHT, CANVAS_WIDTH, HEIGHT, WIDTH, Image
from drsl_plugin.data.rendered.seeding import Stream, make_generator

_CASTS = (
    (1.07, 1.0, 0.93), (0.93, 0.99, 1.07), (0.97, 1.05, 0.97), (1.04, 0.95, 1.04), (1.0, 1.0, 1.0),
    (1.04, 1.03, 0.95),
)  # fmt: skip
"""Gains of blue, green and red: cold, warm, greenish, purplish, neutral and cyan."""

_GAMMAS = (0.9, 1.12, 1.0, 0.95, 1.18, 1.06)
"""Below 1 brightens the shadows, above 1 darkens them."""


@dataclass(frozen=True)
class Camera:
    """One camera of a set.

    Attributes:
        place: what it looks at, wider than an image.
        tilt: how steeply it looks down; see :class:`drsl_plugin.data.rendered.poses.View`.
        cast: gains of blue, green and red.
        gamma: of its response.
        blur: standard deviation of its blur, in pixels of the final image.
        noise: standard deviation of its noise, in grey levels.
        quality: of its JPEG compression, 0..100.
    """

    place: Image
    tilt: float
    cast: tuple[float, float, float]
    gamma: float
    blur: float
    noise: float
    quality: int

    def backdrop(self, across: float, down: float) -> Image:
        """Return the canvas-sized piece of the place at a position, ``across`` and ``down`` in 0..1."""
        x = int(across * (self.place.shape[1] - CANVAS_WIDTH))
        y = int(down * (self.place.shape[0] - CANVAS_HEIGHT))
        return self.place[y : y + CANVAS_HEIGHT, x : x + CANVAS_WIDTH]

    def photograph(self, canvas: Image, gain: float, rng: np.random.Generator) -> Image:
        """Return the final image of a painted canvas: smaller, blurred, off in colour and noisy.

        Args:
            canvas: ``(CANVAS_HEIGHT, CANVAS_WIDTH, 3)``.
            gain: of the exposure at that moment, 1 for the camera's usual.
            rng: decides the noise.

        Returns:
            ``(HEIGHT, WIDTH, 3)``.
        """
        small = cv2.resize(canvas, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), self.blur)
        exposed = (small.astype(np.float64) / 255.0) ** self.gamma
        exposed *= 255.0 * gain * np.array(self.cast)
        noise: NDArray[np.float64] = rng.normal(0.0, self.noise, exposed.shape)
        photograph: Image = np.clip(exposed + noise, 0, 255).astype(np.uint8)
        return photograph


@lru_cache(maxsize=12)
def camera(seed: int, number: int) -> Camera:
    """Return camera ``number`` (1..6) of the set rendered from ``seed``."""
    order = make_generator(seed, Stream.CAMERA_ORDER)
    # Dealt from lists in random order: no two cameras of a set share their place, cast or gamma.
    place, cast, gamma = (int(order.permutation(PLACE_COUNT)[number - 1]) for _ in range(3))
    rng = make_generator(seed, Stream.CAMERA, number)
    blue, green, red = (float(gain * rng.uniform(0.98, 1.02)) for gain in _CASTS[cast])
    return Camera(
        place=draw_place(place, rng),
        tilt=float(rng.uniform(0.0, 0.3)),
        cast=(blue, green, red),
        gamma=_GAMMAS[gamma],
        blur=float(rng.uniform(0.35, 0.65)),
        noise=float(rng.uniform(1.5, 4.5)),
        quality=int(rng.integers(70, 95)),
    )
