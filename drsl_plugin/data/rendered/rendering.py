"""Turn the entries of a demo set into JPEG files' contents."""

from __future__ import annotations

from drsl_plugin.data.rendered._opencv import cv2
from drsl_plugin.data.rendered.cameras import camera
from drsl_plugin.data.rendered.canvas import Image
from drsl_plugin.data.rendered.layout import DISTRACTOR, JUNK, Entry
from drsl_plugin.data.rendered.looks import GROUP_SIZE, PALETTES, Look, sample_look
from drsl_plugin.data.rendered.scenes import Crop, sample_shot, stranger, take
from drsl_plugin.data.rendered.seeding import Stream, make_generator


def identity(seed: int, pid: int) -> Look:
    """Return person ``pid`` (1 or more) of the set rendered from ``seed``."""
    # Groups that share a palette lie within the training set (even numbers) or within the test set (odd ones).
    group, member = divmod((pid - 1) // 2, GROUP_SIZE)
    shared = make_generator(seed, Stream.GROUP, pid % 2, group)
    return sample_look(PALETTES[group % len(PALETTES)], shared, make_generator(seed, Stream.PERSON, pid), member)


def encode(image: Image, quality: int) -> bytes:
    """Return an image as the contents of a JPEG file."""
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "OpenCV was built without JPEG"
    return bytes(data)


def render_entry(seed: int, entry: Entry) -> bytes:
    """Return the JPEG file of one image of the set rendered from ``seed``."""
    taken_by = camera(seed, entry.camera)
    rng = make_generator(seed, Stream.IMAGE, entry.pid + 1, entry.camera, entry.index)
    look: Look | None
    crop: Crop = "good"
    if entry.pid == JUNK:
        # A test identity, so badly cut that finding it counts neither for nor against.
        look, crop = identity(seed, 2 * entry.index + 1), "bad"
    elif entry.pid == DISTRACTOR:
        # In turn somebody else, a piece of somebody else, and nobody.
        look = stranger(rng) if entry.index % 3 < 2 else None
        crop = "bad" if entry.index % 3 == 1 else "good"
    else:
        look = identity(seed, entry.pid)
    shot = sample_shot(rng, taken_by, crop)
    return encode(take(taken_by, shot, look, rng), taken_by.quality)
