"""How a person stands before the camera: the view of the body, and where its joints are while walking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from drsl_plugin.data.rendered.canvas import Points

Side = Literal[-1, 1]
"""-1 for the person's right, 1 for the person's left."""

SIDES: tuple[Side, Side] = (-1, 1)

THIGH, SHIN, UPPER_ARM, FOREARM = 0.235, 0.225, 0.155, 0.15
SHOULDER_HEIGHT, HIP_HEIGHT = 0.205, 0.49


@dataclass(frozen=True)
class View:
    """Where the camera sees a body, in a frame fixed to the body and in units of its height.

    The frame's axes: ``lateral`` to the person's left, ``down`` from the top of the head (0) to the
    soles (1), ``forward`` to where the person faces.

    Attributes:
        yaw: 0 facing the camera, pi/2 walking to the picture's right, pi seen from behind.
        x: the body's axis in canvas pixels.
        top: the top of the head in canvas pixels.
        height: canvas pixels from head to sole.
        tilt: how far above the person the camera hangs; 0 is eye level, 0.3 a steep view from above.
    """

    yaw: float
    x: float
    top: float
    height: float
    tilt: float

    def point(self, lateral: float, down: float, forward: float) -> Points:
        """Return a point of the body in canvas pixels."""
        across = lateral * np.cos(self.yaw) + forward * np.sin(self.yaw)
        # Seen from above, what is nearer to the camera is larger (the head) and stands lower in the picture.
        nearness = self.near(lateral, forward)
        scale = 1.0 + self.tilt * (0.5 - down)
        drop = down + 0.5 * self.tilt * down * (1.0 - down) + 0.5 * self.tilt * nearness
        return np.array([self.x + self.height * scale * across, self.top + self.height * drop])

    def near(self, lateral: float, forward: float) -> float:
        """Return how much nearer to the camera than the body's axis a point is."""
        return float(forward * np.cos(self.yaw) - lateral * np.sin(self.yaw))

    def half_width(self, lateral: float, forward: float) -> float:
        """Return half the visible width of an upright elliptic cylinder of these half axes, body units."""
        return float(np.hypot(lateral * np.cos(self.yaw), forward * np.sin(self.yaw)))


Joint = tuple[float, float, float]
"""Lateral, down and forward, in body units."""


@dataclass(frozen=True)
class Limb:
    """The three joints of an arm (shoulder, elbow, hand) or a leg (hip, knee, ankle)."""

    upper: Joint
    middle: Joint
    lower: Joint


@dataclass(frozen=True)
class Pose:
    """What the limbs do.

    Attributes:
        phase: of the gait, in radians; 2 pi is two steps.
        stride: swing of the thighs in radians, 0 for standing.
        raised: the side whose hand holds a phone up, or None.
    """

    phase: float
    stride: float
    raised: Side | None

    def leg(self, side: Side, hip: float) -> Limb:
        """Return the leg of one side; ``hip`` is the lateral distance of the hip joint from the axis."""
        swing = self.phase + (np.pi if side > 0 else 0.0)
        thigh = self.stride * np.sin(swing)
        # The knee bends while the leg comes forward and is straight while it carries the body.
        bend = 0.06 + 1.6 * self.stride * max(0.0, np.cos(swing)) ** 2
        lateral = side * hip
        knee = (lateral, HIP_HEIGHT + THIGH * np.cos(thigh), THIGH * np.sin(thigh))
        ankle = (
            0.9 * lateral,
            knee[1] + SHIN * np.cos(thigh - bend),
            knee[2] + SHIN * np.sin(thigh - bend),
        )
        return Limb((lateral, HIP_HEIGHT, 0.0), knee, ankle)

    def arm(self, side: Side, shoulder: float) -> Limb:
        """Return the arm of one side; ``shoulder`` is the joint's lateral distance from the axis."""
        swing = self.phase + (0.0 if side > 0 else np.pi)
        raise_angle = 0.8 * self.stride * np.sin(swing)
        bend = 0.15 + 0.5 * self.stride * (1.0 + np.sin(swing))
        if side == self.raised:
            raise_angle, bend = 0.35, 2.0
        lateral = side * shoulder
        elbow = (
            lateral + 0.018 * side,
            SHOULDER_HEIGHT + UPPER_ARM * np.cos(raise_angle),
            UPPER_ARM * np.sin(raise_angle),
        )
        hand = (
            lateral + 0.008 * side,
            elbow[1] + FOREARM * np.cos(raise_angle + bend),
            elbow[2] + FOREARM * np.sin(raise_angle + bend),
        )
        return Limb((lateral, SHOULDER_HEIGHT, 0.0), elbow, hand)

    def sinking(self, hip: float) -> float:
        """Return how much lower than upright the hips are, so that the lower foot stays on the ground."""
        lowest = max(self.leg(side, hip).lower[1] for side in SIDES)
        return HIP_HEIGHT + THIGH + SHIN - lowest
