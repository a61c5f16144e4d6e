"""Images scaled down and encoded into the page, each once."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

from PIL import Image

from drsl_plugin.errors import SettingError

SIZE = (64, 128)
"""Width and height that a picture fits into."""
QUALITY = 75
PLACEHOLDER = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="128" viewBox="0 0 64 128">'
    '<rect width="64" height="128" fill="#8b929a" fill-opacity=".25"/><g fill="#8b929a">'
    '<circle cx="32" cy="40" r="11"/><path d="M14 98V74a18 18 0 0 1 36 0v24z"/></g></svg>'
)
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


class Pictures:
    """The page's pictures; number 0 is a placeholder.

    Args:
        folder: where to look for the images by the ends of their paths; None to take the paths as they are.

    Raises:
        SettingError: the folder is none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Begin with the placeholder."""
        if folder is not None and not folder.is_dir():
            raise SettingError("--images", "", f"{folder} is no folder")
        self.urls = [_build_url("image/svg+xml", PLACEHOLDER.encode())]
        self.missing: list[str] = []
        """Paths where no image could be read."""
        self._folder = folder
        self._numbers: dict[str | None, int] = {None: 0}
        self._known: dict[str, int] = {}

    def number(self, path: str | None) -> int:
        """Return the number of an image's picture, 0 where there is no image.

        Args:
            path: as the run kept it.
        """
        if path not in self._numbers:
            self._numbers[path] = self._read(str(path))
        return self._numbers[path]

    @property
    def asked(self) -> int:
        """How many images were asked for."""
        return len(self._numbers) - 1

    def _read(self, path: str) -> int:
        for candidate in self._list_candidates(path):
            try:
                url = _build_url("image/jpeg", _encode_jpeg(candidate))
            except _UNREADABLE:
                continue
            if url not in self._known:  # the same image under two names
                self._known[url] = len(self.urls)
                self.urls.append(url)
            return self._known[url]
        self.missing.append(path)
        return 0

    def _list_candidates(self, path: str) -> list[Path]:
        if self._folder is None:
            return [Path(path)]
        parts = [part for part in re.split(r"[\\/]", path) if part not in ("", ".", "..")]
        tails = (self._folder.joinpath(*parts[start:]) for start in range(len(parts)))
        return [tail for tail in tails if tail.is_file()]


def _encode_jpeg(path: Path) -> bytes:
    with Image.open(path) as image:
        image.draft("RGB", SIZE)
        small = image.convert("RGB")
    small.thumbnail(SIZE)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def _build_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
