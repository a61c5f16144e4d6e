"""Pictures in RGB, whatever the mode of their file."""

from __future__ import annotations

import contextlib

import numpy as np
from PIL import Image, ImageOps

_EIGHT_BITS, _SIXTEEN_BITS = 2**8 - 1, 2**16 - 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a picture as RGB, turned as its EXIF orientation says.

    Transparency is dropped, a palette's colours are looked up, of 16 bits for a colour the upper eight are taken, as
    Pillow itself does with colours of 16 bits.

    Args:
        image: as Pillow opened it.

    Raises:
        OSError: it is cut off or damaged.
        ValueError: it has numbers of no known range, or a mode that Pillow cannot turn into RGB.

    Example:
        >>> to_rgb(Image.new("RGBA", (1, 1), (10, 20, 30, 0))).getpixel((0, 0))
        (10, 20, 30)
    """
    image.load()
    with contextlib.suppress(Exception):  # Pillow raises of many kinds where the EXIF data are damaged
        image = ImageOps.exif_transpose(image) or image
    if image.mode == "F" or image.mode.startswith("I"):
        image = _upper_bits(image)
    if image.mode in ("P", "PA") or image.mode[-1] == "a":  # which Pillow warns of, or cannot turn into RGB at once
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    return image.convert("RGB")


def _upper_bits(image: Image.Image) -> Image.Image:
    """Return numbers of 16 bits, which Pillow holds in several modes, as 8 bits.

    ``Image.convert`` cuts them off at 255 in some of Pillow's versions.
    """
    values = np.asarray(image)
    most = values.max(initial=0)
    if image.mode == "F" or values.min(initial=0) < 0 or most > _SIXTEEN_BITS:
        raise ValueError(f"mode {image.mode}, numbers of no known range; save it with 8 bits for each colour")
    if image.mode == "I" and most <= _EIGHT_BITS:  # 32 bits, of which the lowest are used
        return Image.fromarray(values.astype(np.uint8))
    return Image.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8))
