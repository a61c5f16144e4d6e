"""Archives unpacked safely: all of it is looked at before anything is written, and only plain files are."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from drsl_plugin.data.members import Member, check_distinct, tar_member, zip_member
from drsl_plugin.errors import DRSLError

BLOCK = 4096
"""Bytes that a file takes on disk at least, and in multiples of: those of the common file systems."""

_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, LZMAError, OSError)


class Archive:
    """An open zip or tar archive whose members have been looked at, all of them.

    Args:
        path: the file.
        opened: it, opened.

    Attributes:
        members: its files in their order; what macOS adds (``__MACOSX``, ``._name``) is left out.
    """

    def __init__(self, path: Path, opened: zipfile.ZipFile | tarfile.TarFile) -> None:
        """Look at the members."""
        self.path = path
        self._opened = opened
        if isinstance(opened, zipfile.ZipFile):
            self.members = [member for entry in opened.infolist() if (member := zip_member(path, entry))]
        else:
            self.members = [member for entry in opened.getmembers() if (member := tar_member(path, entry))]
            while opened.fileobj is not None and opened.fileobj.read(1 << 20):
                pass  # to the end, where a compressed stream has its checksum
        check_distinct(path, self.members)

    def below(self, folder: PurePosixPath) -> list[Member]:
        """Return the files below a folder; ``PurePosixPath(".")`` for all."""
        return [member for member in self.members if folder in member.path.parents]

    def size(self, below: PurePosixPath) -> int:
        """Return the bytes that the files below a folder take on disk."""
        return sum(max(1, -(-member.size // BLOCK)) * BLOCK for member in self.below(below))

    def unpack(self, below: PurePosixPath, folder: Path, progress: Callable[[int], None] | None = None) -> None:
        """Write the files below a folder of the archive into a folder of the disk.

        Args:
            below: the archive's folder.
            folder: must be there; no file in it is overwritten.
            progress: called after each file with its bytes.

        Raises:
            DRSLError: the archive is damaged.
            OSError: the disk.
        """
        for member in self.below(below):
            target = folder.joinpath(*member.path.relative_to(below).parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as sink, report_damage(self.path), self._open(member) as source:
                shutil.copyfileobj(source, _Sink(sink), 1 << 20)
            if target.stat().st_size != member.size:
                raise DRSLError(f"{self.path} is damaged or cut off: {member.path} is not whole in it")
            if progress is not None:
                progress(member.size)

    def _open(self, member: Member) -> IO[bytes]:
        if isinstance(self._opened, zipfile.ZipFile):
            assert isinstance(member.entry, zipfile.ZipInfo)
            return self._opened.open(member.entry)
        assert isinstance(member.entry, tarfile.TarInfo)
        source = self._opened.extractfile(member.entry)
        assert source is not None  # members are plain files
        return source


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a zip or tar archive, compressed or not, and look at all that is in it; nothing is written.

    Args:
        path: the file.

    Yields:
        The archive.

    Raises:
        DRSLError: no such file, no archive, cut off, locked with a password; or something in it that could be written
            elsewhere or over something: an absolute name, ``..``, a link, a device, a name that stands there twice.
    """
    if not path.is_file():
        raise DRSLError(f"no archive at {path}" if not path.exists() else f"{path} is not a file: give an archive")
    opened: zipfile.ZipFile | tarfile.TarFile
    with report_damage(path):
        with path.open("rb") as file:
            start = file.read(4)
        if start[:2] == b"PK":  # a zip's table of contents stands at its end
            opened = zipfile.ZipFile(path)
        else:
            try:
                opened = tarfile.open(path)  # noqa: SIM115 - closed below
            except tarfile.ReadError:
                raise DRSLError(f"{path} is not a zip or tar archive, or its beginning is damaged") from None
    with opened:
        with report_damage(path):
            archive = Archive(path, opened)
        yield archive


@contextmanager
def report_damage(path: Path) -> Iterator[None]:
    """Turn what a damaged archive raises into one line; what the disk raises in writing is let through."""
    try:
        yield
    except _WriteError as error:
        raise error.cause from None
    except _DAMAGE as error:
        raise DRSLError(f"{path} is damaged or cut off ({error or type(error).__name__})") from error
    except (NotImplementedError, RuntimeError) as error:  # zipfile's, of methods that it does not know
        raise DRSLError(f"{path} cannot be unpacked here ({error})") from error


class _WriteError(Exception):
    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Sink:
    """A file whose errors in writing are told from those in reading the archive."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            raise _WriteError(error) from error
