"""Folders laid out as Market-1501's: whether the toolboxes' readers find images in them, and can read their names."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from drsl_plugin.data.catalogue import published
from drsl_plugin.errors import SettingError

_HOME, _PARTS = next(iter(published("market1501").layouts.items()))
FOLDERS = dict(zip(("train", "query", "gallery"), _PARTS, strict=True))
"""The three folders, by what the toolboxes call their images."""
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")
"""What names of images end in; the readers take ``.jpg``, in small letters, alone."""
_NAME = re.compile(r"([-\d]+)_c(\d)(\d*)")  # the readers' own pattern, and the digits of the camera that it leaves out
_JUNK = "of person -1"
_EXAMPLE = "0002_c1s1_000451_03.jpg: person 2, camera 1"


class Layout(NamedTuple):
    """A set that is laid out so, and what its reader takes.

    Attributes:
        folder: of the three folders, below that of the set, where it has not been left out.
        cameras: the highest camera; the lowest is 1.
        persons: the highest person, where the reader asks; the lowest is 0, and -1 is left out.
    """

    folder: str
    cameras: int
    persons: int | None = None

    def find_home(self, holder: str) -> str:
        """Return the folder of the three, as the toolboxes' readers find it.

        Args:
            holder: the folder of the set.
        """
        inner = os.path.join(holder, self.folder)
        return inner if os.path.isdir(inner) else holder


MARKET1501, DUKEMTMC = Layout(_HOME, cameras=6, persons=1501), Layout("DukeMTMC-reID", cameras=8)


def layout_problems(
    home: str, layout: Layout, advice: str, parts: Sequence[str] = tuple(FOLDERS)
) -> Iterator[SettingError]:
    """Yield what is wrong with the images of a set: one error for each folder, and each kind of name in it.

    A folder that is not there is left to those who look for the set.

    Args:
        home: the folder of the three, spelled as the reader spells it.
        layout: what the reader takes.
        advice: what to do with persons and cameras that it does not take.
        parts: which of the three it reads.
    """
    for part in parts:
        folder = os.path.join(home, FOLDERS[part])
        if os.path.isdir(folder):
            yield from _folder_problems(folder, layout, advice)


def unread_images(home: str, parts: Sequence[str] = tuple(FOLDERS)) -> Iterator[str]:
    """Yield a line for each folder that has images beside those that the readers take.

    Args:
        home: as for :func:`layout_problems`.
        parts: likewise.
    """
    for part in parts:
        folder = os.path.join(home, FOLDERS[part])
        others = _other_images(folder) if os.path.isdir(folder) else ""
        if others:
            yield f"{folder}: {others} are left out, since the reader takes names that end in .jpg, in small letters"


def _folder_problems(folder: str, layout: Layout, advice: str) -> Iterator[SettingError]:
    there = sorted(glob.glob(os.path.join(glob.escape(folder), "*.jpg")))
    if sorted(glob.glob(os.path.join(folder, "*.jpg"))) != there:
        needs = "its path has [, * or ?, in which the reader sees a pattern, and finds other files; rename the folder "
        yield SettingError(folder, "", f"{needs}that has them, or give the path of a link to it that has none")
    elif not there:
        others = _other_images(folder)
        needs = f"no image that ends in .jpg, in small letters; expected names like {_EXAMPLE}"
        if others:
            needs = f"{others} and none that ends in .jpg, in small letters, which is all that the reader takes; "
            needs += "rename them so, for images are read by what is in them"
        yield SettingError(folder, "", needs)
    elif number := _NAME.search(folder + os.sep):
        needs = f"the reader would take {number[0]} in this path for person and camera of all its images; rename the "
        yield SettingError(folder, "", f"{needs}folder that has it, or give the path of a link to it that has none")
    else:
        yield from _name_problems(there, layout, advice)


def _name_problems(files: Sequence[str], layout: Layout, advice: str) -> Iterator[SettingError]:
    """Yield an error for each kind of name that the reader cannot take: its first file, and how many there are."""
    kinds: dict[str, list[str]] = {}
    for file in files:
        kinds.setdefault(_judge(os.path.basename(file), layout, advice), []).append(file)
    for kind in [each for each in kinds if each not in ("", _JUNK)]:
        first, *others = kinds[kind]
        more = f" ({len(others):,} more of this kind)" if others else ""
        yield SettingError(first, "", f"{kind}{more}")
    if kinds.keys() == {_JUNK}:
        needs = "all its images are of person -1, which the reader leaves out; expected names like "
        yield SettingError(os.path.dirname(files[0]), "", f"{needs}{_EXAMPLE}")


def _judge(name: str, layout: Layout, advice: str) -> str:
    """Say what is wrong with the name of an image; nothing where it will do, or :data:`_JUNK`."""
    match = _NAME.search(name)
    if match is None or not re.fullmatch(r"-?\d+", match[1]):
        return f"the reader finds no person and camera in this name; expected one like {_EXAMPLE}"
    person, camera = int(match[1]), int(match[2] + match[3])
    if layout.persons is not None and person == -1:
        return _JUNK
    if layout.persons is not None and not 0 <= person <= layout.persons:
        return f"the reader takes persons from 0 to {layout.persons} alone; {advice}"
    if not 1 <= camera <= layout.cameras or match[3]:
        return f"the reader takes cameras from 1 to {layout.cameras} alone, in one digit; {advice}"
    return ""


def _other_images(folder: str) -> str:
    """Count the images that the readers do not take, by their endings; nothing where there are none."""
    endings = (os.path.splitext(name)[1] for name in os.listdir(folder) if not name.startswith("."))
    counts = Counter(ending for ending in endings if ending.lower() in ENDINGS and ending != ".jpg")
    return ", ".join(f"{count:,} {ending}" for ending, count in sorted(counts.items()))
