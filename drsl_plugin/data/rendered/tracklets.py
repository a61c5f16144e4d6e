"""Small sets of tracklets, for video re-identification: people who walk through the demo's cameras."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from drsl_plugin.data.folders import new_folder
from drsl_plugin.data.rendered.settings import DemoSettings, check_range
from drsl_plugin.errors import DRSLError

if TYPE_CHECKING:
    from drsl_plugin.data.rendered.scenes import Shot

Split = Literal["train", "query", "gallery"]

_FRAMES_A_CYCLE = 12
"""Frames of two steps, as a camera of 12 frames a second sees a person who walks at ease."""


@dataclass(frozen=True)
class Tracklet:
    """One walk of a person through a camera; ``number`` counts these, from 1."""

    split: Split
    pid: int
    camera: int
    number: int

    @property
    def folder(self) -> Path:
        """Its place in the set, such as ``train/0002/C1T0001``."""
        return Path(self.split) / f"{self.pid:04d}" / f"C{self.camera}T{self.number:04d}"


def render_tracklets(root: Path, *, identities: int = 4, cameras: int = 2, length: int = 8, seed: int = 0) -> Path:
    """Render a set of tracklets: ``root/{train,query,gallery}/0002/C1T0001/0001.jpg`` and so on.

    People and cameras are those of :func:`drsl_plugin.data.render_demo` with the same seed. In each camera a
    training identity has two tracklets, a test identity one as query and one in the gallery.

    Args:
        root: must not exist yet.
        identities: number of training identities, and as many others for the test; 2..750.
        cameras: 2..6.
        length: frames of each tracklet, 1..9999.
        seed: 0 or more.

    Returns:
        ``root``.

    Raises:
        DRSLError: a setting is outside its range, or ``root`` exists.
        MissingPackageError: OpenCV is not installed.
    """
    settings = DemoSettings(identities, cameras, 1, seed)
    check_range("length", length, 1, 9999)
    root = Path(root)
    if root.exists():
        raise DRSLError(f"{root} exists; give a new folder")
    with new_folder(root) as scratch:
        for tracklet in list_tracklets(settings):
            folder = scratch / tracklet.folder
            folder.mkdir(parents=True)
            for frame, data in enumerate(_render_frames(seed, tracklet, length), start=1):
                (folder / f"{frame:04d}.jpg").write_bytes(data)
    return root


def list_tracklets(settings: DemoSettings) -> Iterator[Tracklet]:
    """Yield every tracklet of a set; even person numbers train and odd ones test."""
    for number in range(1, settings.identities + 1):
        for camera in range(1, settings.cameras + 1):
            yield Tracklet("train", 2 * number, camera, 1)
            yield Tracklet("train", 2 * number, camera, 2)
            yield Tracklet("query", 2 * number - 1, camera, 1)
            yield Tracklet("gallery", 2 * number - 1, camera, 2)


def _render_frames(seed: int, tracklet: Tracklet, length: int) -> Iterator[bytes]:
    # Here, because these need OpenCV.
    from drsl_plugin.data.rendered.cameras import camera
    from drsl_plugin.data.rendered.rendering import encode, identity
    from drsl_plugin.data.rendered.scenes import sample_shot, take
    from drsl_plugin.data.rendered.seeding import Stream, make_generator

    key = (tracklet.pid, tracklet.camera, tracklet.number)
    taken_by = camera(seed, tracklet.camera)
    first = sample_shot(make_generator(seed, Stream.TRACKLET, *key), taken_by)
    for frame in range(length):
        image = take(
            taken_by,
            _move_on(first, frame),
            identity(seed, tracklet.pid),
            make_generator(seed, Stream.FRAME, *key, frame),
        )
        yield encode(image, taken_by.quality)


def _move_on(shot: Shot, frame: int) -> Shot:
    """Return the shot some frames later: another phase of the same gait, before a backdrop that has moved by."""
    import numpy as np

    phase = shot.pose.phase + 2.0 * np.pi * frame / _FRAMES_A_CYCLE
    pose = replace(shot.pose, phase=phase, stride=max(shot.pose.stride, 0.3))
    # The detector's box follows the person, so that it is the backdrop that shifts; it turns round at its ends.
    across = shot.across + 0.01 * frame * np.sin(shot.view.yaw)
    return replace(shot, pose=pose, across=1.0 - abs(1.0 - across % 2.0))
