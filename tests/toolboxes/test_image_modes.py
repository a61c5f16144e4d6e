"""Files of any mode are the same pictures to both toolboxes, turned as their EXIF orientation says."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hosts import Host
from PIL import Image

Written = Callable[[Image.Image, Path], None]


def write_deep(image: Image.Image, path: Path) -> None:
    grey = np.asarray(image.convert("L")).astype(np.uint16)
    Image.fromarray((grey << 8) + 200).save(path, "PNG")


def write_turned(image: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8  # to be turned a quarter to the left
    image.transpose(Image.Transpose.ROTATE_270).save(path, "PNG", exif=exif)


def write(image: Image.Image, path: Path) -> None:
    image.save(path, "PNG")  # whatever its name: readers go by what is in it


WAYS: dict[str, tuple[Written, Written]] = {
    "palette": (write, lambda image, path: write(image.convert("P", palette=Image.Palette.ADAPTIVE), path)),
    "RGBA": (write, lambda image, path: write(image.convert("RGBA"), path)),
    "CMYK": (write, lambda image, path: image.convert("CMYK").save(path, "TIFF")),
    "grey": (lambda i, p: write(i.convert("L").convert("RGB"), p), lambda i, p: write(i.convert("L"), p)),
    "LA": (lambda i, p: write(i.convert("L").convert("RGB"), p), lambda i, p: write(i.convert("LA"), p)),
    "16 bits": (lambda i, p: write(i.convert("L").convert("RGB"), p), write_deep),
    "turned": (write, write_turned),
}


def rewritten(host: Host, root: Path, which: int) -> Host:
    """The toolbox with a copy of the data set whose files, of few colours, are written in all ways by turns.

    Args:
        host: the toolbox.
        root: of the copy.
        which: 0 for the pictures in RGB, 1 for the same in other modes.
    """
    away = type(host)(shutil.copytree(host.root, root, symlinks=True))
    files = sorted((away.root / away.market).glob("*/*.jpg"))
    for path, way in zip(files, itertools.cycle(WAYS.values()), strict=False):
        few = Image.open(path).convert("RGB").quantize(32, dither=Image.Dither.NONE).convert("RGB")
        way[which](few, path)
    return away


def test_the_features_are_those_of_the_same_pictures_in_rgb(
    host: Host, trained: Callable[..., Path], tmp_path: Path
) -> None:
    features: list[dict[str, Any]] = []
    for which, name in enumerate(("plain", "other")):
        away = rewritten(host, tmp_path / name, which)
        ended = away.run(tmp_path / f"run {name}", evaluate=host.checkpoint(trained()))
        assert (ended.code, ended.lines) == (0, [])
        with np.load(away.features(tmp_path / f"run {name}")) as arrays:
            paths = [f"{Path(path).parent.name}/{Path(path).name}" for path in arrays["gallery_paths"]]
            features.append(dict(zip(paths, arrays["gallery_features"], strict=True)))
    plain, other = features
    assert len(plain) > 2 * len(WAYS)
    apart = {path: float(np.abs(plain[path] - other[path]).max()) for path in plain}
    assert max(apart.values()) <= 1e-5 * np.abs(list(plain.values())).max(), apart
    assert np.ptp(list(plain.values()), axis=0).max() > 0
