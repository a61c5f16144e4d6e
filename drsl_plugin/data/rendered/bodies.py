"""The shapes a figure is made of: stacked ellipses for the trunk and what covers it, capsules for limbs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drsl_plugin.data.rendered.canvas import Points, capsule
from drsl_plugin.data.rendered.looks import Build
from drsl_plugin.data.rendered.poses import Joint, View

Ring = tuple[float, float, float, float]
"""A section of the trunk: down, lateral half axis, forward half axis, how far forward its centre lies."""


def silhouette(view: View, rings: Sequence[Ring]) -> Points:
    """Return the outline of elliptic sections stacked from top to bottom."""
    left, right = [], []
    for down, lateral, forward, centre in rings:
        middle = view.point(0.0, down, centre)
        scale = view.height * (1.0 + view.tilt * (0.5 - down))
        reach = np.array([scale * view.half_width(lateral, forward), 0.0])
        left.append(middle - reach)
        right.append(middle + reach)
    return np.array(left + right[::-1])


def trunk(build: Build, hem: float, flare: float) -> list[Ring]:
    """Return the rings of a garment from the neck to ``hem``, ``flare`` wider at the hem than the hips."""
    girth, shoulders, hips = build.girth, build.shoulders, build.hips
    hip = 0.085 * hips * girth**0.5
    rings = [
        (0.158, 0.03, 0.03, -0.005),
        (0.175, 0.075 * shoulders, 0.05, -0.005),
        (0.195, 0.112 * shoulders, 0.058 * girth, 0.0),
        (0.3, 0.1 * (shoulders + girth) / 2, 0.07 * girth, 0.008),
        (0.4, 0.085 * girth, 0.066 * girth**1.3, 0.012 * girth),
        (0.5, hip, 0.076 * girth, 0.0),
    ]
    return [ring for ring in rings if ring[0] < hem] + [(hem, hip + flare, 0.072 * girth + flare, 0.0)]


def segment(view: View, start: Joint, end: Joint, start_radius: float, end_radius: float) -> Points:
    """Return the outline of one half of a limb; the radii are in body units."""
    sizes = [
        radius * view.height * (1.0 + view.tilt * (0.5 - joint[1]))
        for joint, radius in ((start, start_radius), (end, end_radius))
    ]
    return capsule(view.point(*start), view.point(*end), sizes[0], sizes[1])
