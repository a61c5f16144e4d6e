"""Draw one person: limbs as tapered capsules, trunk and clothes as stacked ellipses, seen from any side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drsl_plugin.data.accessories import draw_bag, draw_straps
from drsl_plugin.data.canvas import Canvas, Paint, Points, capsule, ellipse
from drsl_plugin.data.fabrics import fabric
from drsl_plugin.data.heads import draw_head, draw_long_hair
from drsl_plugin.data.looks import Build, Look
from drsl_plugin.data.poses import SIDES, Joint, Limb, Pose, Side, View

Ring = tuple[float, float, float, float]
"""A section of the trunk: down, lateral half axis, forward half axis, how far forward its centre lies."""

_FAR_SHADE = 0.8
"""Brightness of the arm and leg turned away from the camera."""


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


def _trunk(build: Build, hem: float, flare: float) -> list[Ring]:
    """Return the rings of a garment from the neck to ``hem``, ``flare`` wider at the hem than the hips."""
    girth, shoulders, hips = build.girth, build.shoulders, build.hips
    hip = 0.085 * hips * girth**0.5
    rings = [
        (0.158, 0.03, 0.03, -0.005),
        (0.178, 0.085 * shoulders, 0.05, -0.005),
        (0.205, 0.118 * shoulders, 0.06 * girth, 0.0),
        (0.3, 0.1 * (shoulders + girth) / 2, 0.07 * girth, 0.008),
        (0.4, 0.085 * girth, 0.066 * girth**1.3, 0.012 * girth),
        (0.5, hip, 0.076 * girth, 0.0),
    ]
    return [ring for ring in rings if ring[0] < hem] + [(hem, hip + flare, 0.072 * girth + flare, 0.0)]


def _limb(canvas: Canvas, view: View, joints: tuple[Joint, Joint], radii: tuple[float, float],
          paint: Paint, shade: float) -> None:  # fmt: skip
    ends = [view.point(*joint) for joint in joints]
    sizes = [radius * view.height * (1.0 + view.tilt * (0.5 - joint[1]))
             for joint, radius in zip(joints, radii, strict=True)]  # fmt: skip
    canvas.fill(capsule(ends[0], ends[1], sizes[0], sizes[1]), paint, shade)


def _draw_leg(canvas: Canvas, view: View, look: Look, limb: Limb, cloth: Paint, shade: float) -> None:
    girth = look.build.girth
    bare = look.bottom != "trousers"
    skin = Paint(look.skin)
    toe = (limb.lower[0], limb.lower[1] + 0.025, limb.lower[2] + 0.06)
    heel = (limb.lower[0], limb.lower[1] + 0.022, limb.lower[2] - 0.01)
    _limb(canvas, view, (heel, toe), (0.024, 0.018), Paint(look.shoes), shade)
    lower_paint = skin if bare else cloth
    widen = 0.0 if bare else 0.008
    shin = (0.038 * girth + widen, 0.022 + widen)
    _limb(canvas, view, (limb.middle, limb.lower), shin, lower_paint, shade)
    thigh = (0.054 * girth + widen, 0.04 * girth + widen)
    thigh_paint = skin if look.bottom == "skirt" or look.top == "dress" else cloth
    _limb(canvas, view, (limb.upper, limb.middle), thigh, thigh_paint, shade)


def _draw_legs(canvas: Canvas, view: View, look: Look, pose: Pose, cloth: Paint) -> None:
    hip = 0.045 * look.build.hips
    sides = sorted(SIDES, key=lambda side: view.near(side * hip, 0.0))
    for side, shade in zip(sides, (_FAR_SHADE, 1.0), strict=True):
        _draw_leg(canvas, view, look, pose.leg(side, hip), cloth, shade)
    flare = 0.035 if look.bottom == "skirt" else 0.0
    hem = 0.7 if look.bottom == "skirt" else 0.54
    canvas.fill(silhouette(view, [ring for ring in _trunk(look.build, hem, flare) if ring[0] > 0.35]), cloth)


def _draw_top(canvas: Canvas, view: View, look: Look, cloth: Paint) -> None:
    hem, flare = {"t-shirt": (0.52, 0.004), "sweater": (0.53, 0.008), "coat": (0.68, 0.025),
                  "dress": (0.71, 0.05)}[look.top]  # fmt: skip
    canvas.fill(capsule(view.point(0.0, 0.13, 0.0), view.point(0.0, 0.18, 0.0), *[0.033 * view.height] * 2),
                Paint(look.skin))  # fmt: skip
    canvas.fill(silhouette(view, _trunk(look.build, hem, flare)), cloth)
    if look.top == "coat" and np.cos(view.yaw) > 0.2:
        opening = [view.point(lateral, down, 0.07) for lateral, down in
                   ((-0.03, 0.17), (0.03, 0.17), (0.012, 0.45), (0.03, 0.68), (-0.03, 0.68), (-0.012, 0.45))]  # fmt: skip
        canvas.fill(np.array(opening), Paint(look.bottom_accent))


def _draw_arm(canvas: Canvas, view: View, look: Look, limb: Limb, cloth: Paint, shade: float) -> None:
    girth = look.build.girth**0.5
    skin = Paint(look.skin)
    hand = view.point(*limb.lower)
    canvas.fill(ellipse(hand, 0.021 * view.height, 0.026 * view.height), skin, shade)
    bare = look.top in ("t-shirt", "dress")
    widen = {"t-shirt": 0.0, "dress": 0.0, "sweater": 0.004, "coat": 0.009}[look.top]
    forearm = (0.025 * girth + widen, 0.019 + widen)
    _limb(canvas, view, (limb.middle, limb.lower), forearm, skin if bare else cloth, shade)
    _limb(canvas, view, (limb.upper, limb.middle), (0.034 * girth + widen, 0.028 * girth + widen), cloth, shade)


def draw_person(canvas: Canvas, view: View, look: Look, pose: Pose) -> None:
    """Draw a person onto a canvas.

    Args:
        canvas: painted on in place; its mask gains the person.
        view: where the person is and from which side they are seen.
        look: who it is.
        pose: what the limbs do.
    """
    top = fabric(look.top_pattern, look.top_colour, look.top_accent, view, look.pattern_scale)
    bottom = fabric(look.bottom_pattern, look.bottom_colour, look.bottom_accent, view, 0.8)
    shoulder = 0.108 * look.build.shoulders
    arms = {side: pose.arm(side, shoulder) for side in SIDES}
    far, near = sorted(SIDES, key=lambda side: view.near(side * shoulder, 0.0))
    seen_from_behind = np.cos(view.yaw) < 0.0

    _draw_legs(canvas, view, look, pose, bottom)
    turned_away = abs(np.sin(view.yaw)) > 0.5
    first: Sequence[Side] = (far,) if turned_away else ()
    last: Sequence[Side] = (near,) if turned_away else (far, near)
    for side in first:
        _draw_arm(canvas, view, look, arms[side], top, _FAR_SHADE)
        draw_bag(canvas, view, look, arms, only=side)
    if not seen_from_behind:
        draw_long_hair(canvas, view, look)
        draw_bag(canvas, view, look, arms, only=None)
    _draw_top(canvas, view, look, top)
    draw_straps(canvas, view, look)
    draw_head(canvas, view, look)
    if seen_from_behind:
        draw_bag(canvas, view, look, arms, only=None)
        draw_long_hair(canvas, view, look)
    for side in last:
        _draw_arm(canvas, view, look, arms[side], top, 0.93)
        draw_bag(canvas, view, look, arms, only=side)
