"""Which images a demo set has, and their names and folders: those of Market-1501."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from drsl_plugin.data.catalogue import PUBLISHED
from drsl_plugin.data.rendered.settings import DemoSettings

STANDS_FOR = PUBLISHED["market1501"]
((LAYOUT, (TRAIN, QUERY, GALLERY)),) = STANDS_FOR.layouts.items()

JUNK, DISTRACTOR = -1, 0
"""Market-1501's person numbers for badly cut boxes, which are ignored, and for what nobody searches for."""


@dataclass(frozen=True)
class Entry:
    """One image of the set.

    Attributes:
        folder: where it lies: ``TRAIN``, ``QUERY`` or ``GALLERY``.
        pid: the person, ``JUNK`` or ``DISTRACTOR``.
        camera: 1..6.
        index: counts the person's images in this camera, from 0.
    """

    folder: str
    pid: int
    camera: int
    index: int

    @property
    def name(self) -> str:
        """The file's name, such as ``0002_c1s1_000451_01.jpg``: person, camera, sequence, frame, box."""
        # As in Market-1501, -1 is not padded, and box 00 is the one drawn by hand: the query's.
        person = str(JUNK) if self.pid == JUNK else f"{self.pid:04d}"
        frame = 451 + 500 * max(self.pid, 0) + 25 * self.index
        box = 0 if self.folder == QUERY else 1
        return f"{person}_c{self.camera}s1_{frame:06d}_{box:02d}.jpg"


def list_entries(settings: DemoSettings) -> Iterator[Entry]:
    """Yield every image of a set.

    Even person numbers train and odd ones test, so that a set with fewer identities, cameras or images is a
    part of the larger one. Of each test identity, each camera has one image as query and ``images`` in the
    gallery; beside these the gallery of each camera has a few distractors and as many junk images.

    Args:
        settings: of the set.

    Yields:
        The images.
    """
    for camera in range(1, settings.cameras + 1):
        for number in range(1, settings.identities + 1):
            for index in range(settings.images):
                yield Entry(TRAIN, 2 * number, camera, index)
            yield Entry(QUERY, 2 * number - 1, camera, 0)
            for index in range(1, settings.images + 1):
                yield Entry(GALLERY, 2 * number - 1, camera, index)
        for index in range(1 + settings.identities // 4):
            yield Entry(GALLERY, DISTRACTOR, camera, index)
            yield Entry(GALLERY, JUNK, camera, index)
