"""What a toolbox's class of a data set was at when it failed, in a line."""

from __future__ import annotations

import contextlib
import linecache
import os
import traceback
from collections.abc import Callable, Iterator
from types import FrameType

from drsl_plugin.data.images import ImageError
from drsl_plugin.errors import DRSLError, SettingError

PARTS = {"train": "training images", "query": "queries", "gallery": "gallery images"}
"""What a data set has, and how a line calls it."""


@contextlib.contextmanager
def explain_reader(setting: str, name: str, where: Callable[[], str]) -> Iterator[None]:
    """Turn what a data set's class raises while it reads into one line: what, on which file, and where it stands.

    Args:
        setting: the key or option that names the data set.
        name: of the data set.
        where: says where data sets are looked for, as the end of the line.

    Raises:
        SettingError: in place of any error but a :class:`DRSLError`.
    """
    try:
        yield
    except (DRSLError, MemoryError):
        raise
    except Exception as error:  # a reader, which may be a team's own, raises of any kind
        raise SettingError(setting, name, f"{_explain(error)} ({where()})") from error


def empty_part(setting: str, name: str, reader: object, part: str) -> SettingError:
    """Return the error of a data set that has read no training image, no query or no gallery.

    Args:
        setting: as for :func:`explain_reader`, like the next.
        name: of the data set.
        reader: an object of its class, which has the folder as ``train_dir``, ``query_dir`` or ``gallery_dir`` or not.
        part: ``"train"``, ``"query"`` or ``"gallery"``.
    """
    folder = getattr(reader, f"{part}_dir", None)
    found = f"its class found no {PARTS[part]}"
    if isinstance(folder, str):
        found += f" in {folder}"
        if any(letter in folder for letter in "[*?"):
            return SettingError(setting, name, f"{found}, whose [, * or ? it may take for a pattern; rename that")
    return SettingError(setting, name, f"{found}; see that the files are there, and named as it expects them")


def _explain(error: Exception) -> str:
    """Say what failed; an error that names no file is told with the line of the reader, and its file where known."""
    text = " ".join(str(error).split())
    if isinstance(error, (RuntimeError, OSError)) and text:
        return text
    frames = list(traceback.walk_tb(error.__traceback__))[1:] or list(traceback.walk_tb(error.__traceback__))
    frame, line = next((each for each in reversed(frames) if _file(each[0])), frames[-1])
    code = frame.f_code.co_filename
    source = linecache.getline(code, line).strip()
    said = f"{type(error).__name__}{': ' * bool(text)}{text}, raised by `{source}` in {os.path.basename(code)}:{line}"
    return f"its class cannot read {_file(frame) or 'it'}: {said}"


def _file(frame: FrameType) -> str:
    """Return the file that a reader's function was at, where a variable of a usual name holds it; else nothing."""
    names = ("img_path", "impath", "img_name", "fname", "img_info", "path")
    values = (frame.f_locals.get(name) for name in names)
    return next((value.strip() for value in values if isinstance(value, str) and value.strip()), "")


@contextlib.contextmanager
def naming_the_key(key: str) -> Iterator[None]:
    """Add to an image that cannot be read which key leaves such files out.

    Args:
        key: of the toolbox's configuration.

    Raises:
        SettingError: in place of an :class:`~drsl_plugin.data.images.ImageError`.
    """
    try:
        yield
    except ImageError as error:
        needs = f"{error.needs}; put it right, or leave out what cannot be read by {key} True"
        raise SettingError(error.file, "", needs) from error
