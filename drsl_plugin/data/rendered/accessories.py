"""What the demo figures carry: backpacks, handbags and shoulder bags."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from drsl_plugin.data.rendered.canvas import Canvas, Paint, scale_colour
from drsl_plugin.data.rendered.looks import Look
from drsl_plugin.data.rendered.poses import Joint, Limb, Side, View


def _draw_box(canvas: Canvas, view: View, centre: Joint, size: tuple[float, float, float], paint: Paint) -> None:
    """Draw a bag as an upright box of half sizes (lateral, down, forward) with slightly narrower top."""
    half_width = view.height * view.half_width(size[0], size[2])
    half_height = size[1] * view.height
    corners = np.array(
        [(-0.85, -1.0), (0.85, -1.0), (1.0, -0.3), (1.0, 0.9), (0.85, 1.0), (-0.85, 1.0), (-1.0, 0.9), (-1.0, -0.3)]
    )
    outline = view.point(*centre) + corners * np.array([half_width, half_height])
    canvas.paint([outline], paint)
    flap = outline[[7, 2]]
    canvas.stroke(flap, scale_colour(paint.colour, 0.6), 0.008 * view.height)


def draw_bag(canvas: Canvas, view: View, look: Look, arms: Mapping[Side, Limb], only: Side | None) -> None:
    """Draw the bag where it belongs in the order of painting.

    Args:
        canvas: painted on in place.
        view: of the wearer.
        look: says which bag and on which side.
        arms: the wearer's, for a bag in the hand.
        only: the side being painted, or None for the back.
    """
    paint = Paint(look.palette.bag)
    if look.bag == "backpack" and only is None:
        _draw_box(canvas, view, (0.0, 0.32, -0.12), (0.1, 0.14, 0.065), paint)
    elif look.bag == "handbag" and only == look.bag_side:
        lateral, down, forward = arms[look.bag_side].lower
        handle = [
            view.point(lateral, down, forward - 0.03),
            view.point(lateral, down + 0.06, forward - 0.04),
            view.point(lateral, down + 0.06, forward + 0.04),
            view.point(lateral, down, forward + 0.03),
        ]
        canvas.stroke(np.array(handle), paint.colour, 0.012 * view.height)
        _draw_box(canvas, view, (lateral, down + 0.115, forward), (0.055, 0.07, 0.095), paint)
    elif look.bag == "shoulder bag" and only == look.bag_side:
        _draw_box(canvas, view, (look.bag_side * 0.14, 0.5, 0.0), (0.05, 0.075, 0.095), paint)


def draw_straps(canvas: Canvas, view: View, look: Look) -> None:
    """Draw the straps of a backpack or a shoulder bag over the trunk."""
    width = 0.028 * view.height
    colour = scale_colour(look.palette.bag, 0.85)
    facing = np.cos(view.yaw)
    if look.bag == "backpack" and facing > -0.3:
        for lateral in (-0.062, 0.062):
            if view.near(lateral, 0.06) > 0.0:
                strap = [
                    view.point(lateral, down, forward)
                    for down, forward in ((0.18, 0.0), (0.22, 0.06), (0.3, 0.065), (0.38, 0.02))
                ]
                canvas.stroke(np.array(strap), colour, width)
    elif look.bag == "shoulder bag":
        forward = 0.06 if facing > 0.0 else -0.06
        side = look.bag_side
        strap = [
            view.point(lateral, down, depth)
            for lateral, down, depth in (
                (-0.07 * side, 0.18, 0.0),
                (0.02 * side, 0.32, forward),
                (0.11 * side, 0.47, 0.0),
            )
        ]
        canvas.stroke(np.array(strap), colour, 0.8 * width)
