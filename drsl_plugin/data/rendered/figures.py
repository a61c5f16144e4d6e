"""Draw one person: limbs as tapered capsules, trunk and clothes as stacked ellipses, seen from any side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from drsl_plugin.data.rendered.accessories import draw_bag, draw_straps
from drsl_plugin.data.rendered.bodies import segment, silhouette, trunk
from drsl_plugin.data.rendered.canvas import Canvas, Paint, ellipse
from drsl_plugin.data.rendered.fabrics import fabric
from drsl_plugin.data.rendered.heads import draw_head, draw_long_hair
from drsl_plugin.data.rendered.looks import Look, Top
from drsl_plugin.data.rendered.poses import SIDES, Limb, Pose, Side, View

_FAR_SHADE = 0.8
"""Brightness of the arm and leg turned away from the camera."""

_HEMS: dict[Top, tuple[float, float]] = {
    "t-shirt": (0.52, 0.004),
    "sweater": (0.53, 0.008),
    "coat": (0.68, 0.025),
    "dress": (0.71, 0.05),
}
"""Where each garment ends, and how much wider than the hips it is there."""

_SLEEVES: dict[Top, float] = {"t-shirt": 0.003, "sweater": 0.004, "coat": 0.008, "dress": 0.0}
"""How much wider than the arm each garment's sleeves are."""

_LONG_SLEEVED: tuple[Top, ...] = ("sweater", "coat")

_COAT_OPENING = ((-0.03, 0.17), (0.03, 0.17), (0.012, 0.45), (0.03, 0.68), (-0.03, 0.68), (-0.012, 0.45))
"""Corners of what shows between an open coat's sides: lateral and down."""


def _draw_leg(canvas: Canvas, view: View, look: Look, limb: Limb, cloth: Paint, shade: float) -> None:
    lateral, down, forward = limb.lower
    shoe = segment(view, (lateral, down + 0.022, forward - 0.01), (lateral, down + 0.025, forward + 0.06), 0.024, 0.018)
    girth, loose = look.build.girth, 0.008 if look.bottom == "trousers" else 0.0
    shin = segment(view, limb.middle, limb.lower, 0.038 * girth + loose, 0.022 + loose)
    loose = 0.0 if look.bottom == "skirt" else 0.008
    thigh = segment(view, limb.upper, limb.middle, 0.054 * girth + loose, 0.038 * girth + loose)
    canvas.paint([shoe], Paint(look.palette.shoes), shade)
    if look.bottom == "trousers":
        canvas.paint([shin, thigh], cloth, shade)
    elif look.bottom == "shorts" and look.top != "dress":
        canvas.paint([shin], Paint(look.palette.skin), shade)
        canvas.paint([thigh], cloth, shade)
    else:
        canvas.paint([shin, thigh], Paint(look.palette.skin), shade)


def _draw_legs(canvas: Canvas, view: View, look: Look, pose: Pose, cloth: Paint) -> None:
    hip = 0.045 * look.build.hips
    sides = sorted(SIDES, key=lambda side: view.near(side * hip, 0.0))
    for side, shade in zip(sides, (_FAR_SHADE, 1.0), strict=True):
        _draw_leg(canvas, view, look, pose.leg(side, hip), cloth, shade)
    if look.bottom == "skirt":
        canvas.paint([silhouette(view, trunk(look.build, 0.7, 0.035)[4:])], cloth)
    else:
        # No edge here: hips and thighs are one piece.
        canvas.fill(silhouette(view, trunk(look.build, 0.53, -0.004)[4:]), cloth)


def _draw_top(canvas: Canvas, view: View, look: Look, cloth: Paint) -> None:
    hem, flare = _HEMS[look.top]
    neck = segment(view, (0.0, 0.13, 0.0), (0.0, 0.175, 0.0), 0.03, 0.036)
    canvas.paint([neck], Paint(look.palette.skin), 0.9)
    canvas.paint([silhouette(view, trunk(look.build, hem, flare))], cloth)
    if look.top == "coat" and np.cos(view.yaw) > 0.2:
        opening = [view.point(lateral, down, 0.07) for lateral, down in _COAT_OPENING]
        canvas.paint([np.array(opening)], Paint(look.palette.second))


def _draw_arm(canvas: Canvas, view: View, look: Look, limb: Limb, cloth: Paint, shade: float) -> None:
    girth, loose = look.build.girth**0.5, _SLEEVES[look.top]
    skin = Paint(look.palette.skin)
    upper = segment(view, limb.upper, limb.middle, 0.03 * girth + loose, 0.027 * girth + loose)
    forearm = segment(view, limb.middle, limb.lower, 0.025 * girth + loose, 0.018 + loose)
    hand = ellipse(view.point(*limb.lower), 0.02 * view.height, 0.025 * view.height)
    if look.top in _LONG_SLEEVED:
        canvas.paint([hand], skin, shade)
        canvas.paint([forearm, upper], cloth, shade)
    else:
        canvas.paint([hand, forearm], skin, shade)
        canvas.paint([upper], cloth, shade)


def draw_person(canvas: Canvas, view: View, look: Look, pose: Pose) -> None:
    """Draw a person onto a canvas.

    Args:
        canvas: painted on in place; its mask gains the person.
        view: where the person is and from which side they are seen.
        look: who it is.
        pose: what the limbs do.
    """
    # Striding lowers the hips; the feet stay on the ground.
    view = replace(view, top=view.top + view.height * pose.sinking(0.045 * look.build.hips))
    first, second = look.palette.first, look.palette.second
    top, bottom = (fabric(pattern, first, second, view) for pattern in (look.top_pattern, look.bottom_pattern))
    shoulder = 0.1 * look.build.shoulders
    arms = {side: pose.arm(side, shoulder) for side in SIDES}
    far, near = sorted(SIDES, key=lambda side: view.near(side * shoulder, 0.0))
    seen_from_behind = np.cos(view.yaw) < 0.0

    _draw_legs(canvas, view, look, pose, bottom)
    turned_away = abs(np.sin(view.yaw)) > 0.5
    behind: Sequence[Side] = (far,) if turned_away else ()
    before: Sequence[Side] = (near,) if turned_away else (far, near)
    for side in behind:
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
    for side in before:
        _draw_arm(canvas, view, look, arms[side], top, 0.93)
        draw_bag(canvas, view, look, arms, only=side)
