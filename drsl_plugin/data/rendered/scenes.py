"""Compose one image: a camera's backdrop, a person in a pose, and what stands in the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from drsl_plugin.data.rendered._opencv import cv2
from drsl_plugin.data.rendered.cameras import Camera
from drsl_plugin.data.rendered.canvas import CANVAS_HEIGHT, CANVAS_WIDTH, Canvas, Image
from drsl_plugin.data.rendered.figures import draw_person
from drsl_plugin.data.rendered.looks import GROUP_SIZE, PALETTES, Look, sample_look
from drsl_plugin.data.rendered.obstacles import OBSTACLES, draw_obstacle
from drsl_plugin.data.rendered.poses import Pose, Side, View

_HEADINGS = (0.0, 0.5 * np.pi, np.pi, 1.5 * np.pi)

Crop = Literal["good", "bad"]


@dataclass(frozen=True)
class Shot:
    """Everything about one image that is not who is in it and which camera took it.

    Attributes:
        view: where the person is, and seen from which side.
        pose: what the limbs do.
        across: where in the camera's place, 0..1 from left to right.
        down: the same from top to bottom.
        gain: of the exposure.
        light_from: the side the light comes from.
        obstacle: what stands before the person, or None.
        obstacle_side: the side it stands on; a neighbour's as well.
        obstacle_seed: decides its details, the same in every frame of a tracklet.
        neighbour: somebody else who is partly in the image, or None.
    """

    view: View
    pose: Pose
    across: float
    down: float
    gain: float
    light_from: Side
    obstacle: str | None
    obstacle_side: Side
    obstacle_seed: int
    neighbour: Look | None


def stranger(rng: np.random.Generator) -> Look:
    """Draw somebody of no identity in the set."""
    palette = PALETTES[int(rng.integers(len(PALETTES)))]
    return sample_look(palette, rng, rng, int(rng.integers(GROUP_SIZE)))


def _choose_side(rng: np.random.Generator) -> Side:
    return 1 if rng.random() < 0.5 else -1


def sample_shot(rng: np.random.Generator, camera: Camera, crop: Crop = "good") -> Shot:
    """Draw how one image is taken.

    Args:
        rng: decides everything.
        camera: that takes it; gives the viewpoint's height.
        crop: "good" for a detector's usual box, "bad" for one that cuts the person off.

    Returns:
        The shot.
    """
    height, x, top = rng.uniform(0.84, 0.97), rng.normal(0.5, 0.045), rng.uniform(0.0, 0.05)
    if crop == "bad":
        height, x = height * rng.uniform(0.9, 1.6), 0.5 + _choose_side(rng) * rng.uniform(0.25, 0.6)
        top = rng.uniform(-0.5, 0.5)
    yaw = _HEADINGS[int(rng.integers(4))] + rng.normal(0.0, 0.25)
    stride = rng.uniform(0.2, 0.5) if rng.random() < 0.8 else 0.03
    raised = _choose_side(rng) if rng.random() < 0.12 else None
    hidden = rng.random()
    return Shot(
        view=View(yaw, x * CANVAS_WIDTH, top * CANVAS_HEIGHT, height * CANVAS_HEIGHT, camera.tilt),
        pose=Pose(rng.uniform(0.0, 2.0 * np.pi), stride, raised),
        across=rng.random(),
        down=rng.random(),
        gain=rng.uniform(0.85, 1.15),
        light_from=_choose_side(rng),
        obstacle=OBSTACLES[int(rng.integers(len(OBSTACLES)))] if hidden < 0.22 else None,
        obstacle_side=_choose_side(rng),
        obstacle_seed=int(rng.integers(2**32)),
        neighbour=stranger(rng) if hidden > 0.86 else None,
    )


def _light(canvas: Canvas, light_from: Side) -> Image:
    """Round the painted figures off: darker towards the edge that is turned away from the light."""
    body = cv2.blur(canvas.mask, (25, 25)).astype(np.float32) / 255.0
    away = np.roll(body, -12 * light_from, axis=1)
    factor = np.where(canvas.mask > 0, 0.55 + 0.25 * body + 0.3 * away, 1.0)
    shaded: Image = np.clip(canvas.image * factor[..., None], 0, 255).astype(np.uint8)
    return shaded


def _cast_shadow(image: Image, view: View) -> None:
    x, y = view.point(0.0, 0.985, 0.0)
    shadow = image.copy()
    cv2.ellipse(
        shadow, (int(x), int(y)), (int(0.17 * view.height), int(0.03 * view.height)), 0, 0, 360, (30, 30, 30), -1
    )
    cv2.addWeighted(shadow, 0.5, image, 0.5, 0.0, dst=image)


def _draw_neighbour(canvas: Canvas, shot: Shot) -> None:
    view = shot.view
    beside = View(
        yaw=view.yaw + 0.6,
        x=view.x + shot.obstacle_side * 0.42 * CANVAS_WIDTH,
        top=view.top + 0.03 * view.height,
        height=0.95 * view.height,
        tilt=view.tilt,
    )
    assert shot.neighbour is not None
    draw_person(canvas, beside, shot.neighbour, Pose(shot.pose.phase + 1.0, shot.pose.stride, None))


def take(camera: Camera, shot: Shot, look: Look | None, rng: np.random.Generator) -> Image:
    """Take one image.

    Args:
        camera: that takes it.
        shot: how.
        look: who stands there, or None for nobody.
        rng: decides the noise.

    Returns:
        ``(HEIGHT, WIDTH, 3)``, blue, green and red.
    """
    canvas = Canvas(camera.backdrop(shot.across, shot.down))
    if look is not None:
        _cast_shadow(canvas.image, shot.view)
    in_front = shot.neighbour is not None and shot.light_from == shot.obstacle_side
    if shot.neighbour is not None and not in_front:
        _draw_neighbour(canvas, shot)
    if look is not None:
        draw_person(canvas, shot.view, look, shot.pose)
    if in_front:
        _draw_neighbour(canvas, shot)
    image = _light(canvas, shot.light_from)
    if shot.obstacle is not None:
        draw_obstacle(shot.obstacle, image, shot.obstacle_side, np.random.default_rng(shot.obstacle_seed))
    return camera.photograph(image, shot.gain, rng)
