"""Image files: read twice before one is given up, and told apart from files that are none."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from drsl_plugin.errors import SettingError

if TYPE_CHECKING:
    from PIL import Image

Opener: TypeAlias = "Callable[[str, str], AbstractContextManager[IO[bytes]]]"

PAUSE = 0.1
"""Seconds before a file is read a second time: a file server may stumble."""
_SAYS = ": cannot be read as an image ("


class ImageError(SettingError):
    """A file that cannot be read as an image: ``FILE: cannot be read as an image (WHY)``.

    What a loader's worker raises, torch raises anew in the main process: an error of the same class, made of one text
    which ends in what the first one said (``torch._utils.ExceptionWrapper``). Such a text is taken apart.

    Args:
        file: the file.
        why: what Pillow said; None where ``file`` is a text of torch's.

    Example:
        >>> error = ImageError("a.jpg", "no such file")
        >>> print(error)
        a.jpg: cannot be read as an image (no such file)
        >>> again = ImageError(f"Caught ImageError in worker 0. Original: drsl_plugin.data.images.ImageError: {error}")
        >>> again.file, again.why
        ('a.jpg', 'no such file')
    """

    def __init__(self, file: str, why: str | None = None) -> None:
        """Keep the parts."""
        if why is None:
            said = file.strip().rpartition("ImageError: ")[2]
            file, _, why = said.removesuffix(")").partition(_SAYS)
        self.file, self.why = " ".join(file.splitlines()), " ".join(why.split())
        super().__init__(self.file, "", f"cannot be read as an image ({self.why})")
        self.args = (self.file, self.why)


def read_image(file: str, open_file: Opener = open) -> Image.Image:
    """Read an image as RGB, as :func:`~drsl_plugin.data.pictures.to_rgb` does; once more where that fails.

    Args:
        file: its path.
        open_file: opens it; called with the path and ``"rb"``.

    Raises:
        ImageError: it could not be read the second time either.
    """
    from PIL import Image

    from drsl_plugin.data.pictures import to_rgb

    def read() -> Image.Image:
        with open_file(file, "rb") as stream:
            return to_rgb(Image.open(stream))

    try:
        return read()
    except MemoryError:
        raise
    except Exception:  # Pillow's readers raise of many kinds where a file is damaged
        time.sleep(PAUSE)
    try:
        return read()
    except MemoryError:
        raise
    except Exception as error:
        raise ImageError(file, _describe(file, error)) from error


def find_bad_images(files: Iterable[str], open_file: Opener = open) -> list[ImageError]:
    """Look at files, all of each, and return what is wrong with those that are no images, in their order.

    Args:
        files: their paths.
        open_file: as for :func:`read_image`.
    """

    def look(file: str) -> ImageError | None:
        try:
            stat = os.stat(file)
        except OSError:  # not there, or of a file system that only `open_file` knows
            return _look.__wrapped__(file, None, open_file)
        return _look(file, (stat.st_mtime_ns, stat.st_size), open_file)

    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        return [error for error in pool.map(look, files) if error is not None]


@functools.lru_cache(maxsize=1_000_000)
def _look(file: str, stamp: object, open_file: Opener) -> ImageError | None:
    """Look at a file, once as long as it stays the same: an evaluation looks at its files again each time."""
    try:
        read_image(file, open_file)
    except ImageError as error:
        return ImageError(error.file, error.why)  # without the traceback
    return None


def _describe(file: str, error: Any) -> str:
    """Say in a few words what Pillow or the system found; it is told with the file's name."""
    if os.path.isfile(file) and os.path.getsize(file) == 0:
        return "it is empty"
    if type(error).__name__ == "UnidentifiedImageError":
        return "of no kind that Pillow knows"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
