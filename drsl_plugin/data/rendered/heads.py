"""Heads of the demo figures: face, hair, beard and hat."""

from __future__ import annotations

import numpy as np

from drsl_plugin.data.rendered.canvas import Canvas, Paint, capsule, ellipse
from drsl_plugin.data.rendered.looks import Look
from drsl_plugin.data.rendered.poses import View

_CENTRE = 0.085
"""Height of the head's centre, in body units from the top."""


def _draw_oval(
    canvas: Canvas, view: View, at: tuple[float, float, float], size: tuple[float, float], paint: Paint
) -> None:
    canvas.paint([ellipse(view.point(*at), size[0] * view.height, size[1] * view.height)], paint)


def draw_head(canvas: Canvas, view: View, look: Look) -> None:
    """Draw the head with its hair, face and hat; hair that falls on the back is drawn on its own."""
    size = look.build.head
    hair, skin = Paint(look.palette.hair), Paint(look.palette.skin)
    crown = {"afro": 0.09, "bob": 0.068, "bald": 0.056}.get(look.hair, 0.06) * size
    back = -0.012 if look.hair != "bald" else 0.0
    cap = skin if look.hair == "bald" else hair
    if look.hair == "bun":
        _draw_oval(canvas, view, (0.0, 0.02, -0.05), (0.03, 0.03), hair)
    if look.hair == "bob":
        corners = [(-0.065, 0.08), (0.065, 0.08), (0.07, 0.165), (-0.07, 0.165)]
        canvas.paint([np.array([view.point(x * size, down, -0.02) for x, down in corners])], hair)
    _draw_oval(canvas, view, (0.0, _CENTRE - 0.008, back), (crown, 1.22 * min(crown, 0.066)), cap)
    facing = np.cos(view.yaw)
    if facing > -0.45:
        _draw_face(canvas, view, look, size, facing)
    _draw_hat(canvas, view, look, size)


def _draw_face(canvas: Canvas, view: View, look: Look, size: float, facing: float) -> None:
    skin = Paint(look.palette.skin)
    half_width = size * (0.034 + 0.012 * max(0.0, facing))
    _draw_oval(canvas, view, (0.0, _CENTRE + 0.012, 0.024), (half_width, 0.06 * size), skin)
    if look.beard:
        _draw_oval(canvas, view, (0.0, _CENTRE + 0.052, 0.028), (0.72 * half_width, 0.021), Paint(look.palette.hair))
    for lateral in (-0.019, 0.019):
        if view.near(lateral, 0.045) > 0.0:
            _draw_oval(canvas, view, (lateral, _CENTRE, 0.04), (0.0055, 0.005), Paint((45, 45, 55)))


def _draw_hat(canvas: Canvas, view: View, look: Look, size: float) -> None:
    if look.hat == "none":
        return
    paint = Paint(look.palette.bag)
    bottom = 0.075 if look.hat == "beanie" else 0.062
    angles = np.linspace(np.pi, 2.0 * np.pi, 14)
    dome = np.stack([0.066 * size * np.cos(angles), 0.085 * size * np.sin(angles)], axis=1) * view.height
    if look.hat == "sun hat":
        _draw_oval(canvas, view, (0.0, bottom - 0.015, 0.0), (0.125, 0.022), paint)
    canvas.paint([view.point(0.0, bottom, -0.004) + dome], paint)
    if look.hat == "cap" and np.cos(view.yaw) > -0.6:
        brim = view.point(0.0, bottom, 0.05), view.point(0.0, bottom + 0.006, 0.095)
        half_width = view.height * (0.012 + 0.045 * abs(np.cos(view.yaw)))
        reach = np.array([half_width, 0.0])
        thickness = np.array([0.0, 0.01 * view.height])
        corners = [brim[0] - reach, brim[0] + reach, brim[1] + reach + thickness, brim[1] - reach + thickness]
        canvas.paint([np.array(corners)], paint, shade=0.8)


def draw_long_hair(canvas: Canvas, view: View, look: Look) -> None:
    """Draw what hangs down the back: before the trunk where it is seen from the front, else after it."""
    hair = Paint(look.palette.hair)
    root = view.point(0.0, 0.07, -0.035)
    if look.hair == "ponytail":
        tip = view.point(0.0, 0.23, -0.075)
        canvas.paint([capsule(root, tip, 0.026 * view.height, 0.014 * view.height)], hair)
    elif look.hair == "long":
        tip = view.point(0.0, 0.26, -0.055)
        wide = view.half_width(0.062, 0.04) * view.height
        canvas.paint([capsule(root, tip, wide, 0.95 * wide)], hair)
