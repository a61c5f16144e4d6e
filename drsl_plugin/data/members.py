"""The members of an archive, each looked at before anything is written."""

from __future__ import annotations

import re
import stat
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from drsl_plugin.errors import DRSLError

_MAC = "__MACOSX"


@dataclass(frozen=True)
class Member:
    """A plain file in an archive.

    Attributes:
        path: its name, relative and without ``..``.
        size: of the file unpacked, as the archive declares it; no more than this is ever read from it.
        entry: what the archive's module knows it by.
    """

    path: PurePosixPath
    size: int
    entry: zipfile.ZipInfo | tarfile.TarInfo


def zip_member(archive: Path, entry: zipfile.ZipInfo) -> Member | None:
    """Take an entry of a zip archive for a file, or for None where it is a folder or macOS has added it.

    Args:
        archive: its file.
        entry: of its table of contents.

    Raises:
        DRSLError: it could be written elsewhere or over something, or is locked.
    """
    mode = entry.external_attr >> 16
    if entry.flag_bits & 1:
        raise DRSLError(f"{archive} is locked with a password: unpack it by hand and pack it again without one")
    kind = stat.S_IFMT(mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DRSLError(f"{archive} is not unpacked: {entry.filename!r} in it is a link or a device")
    path = _take_path(archive, entry.orig_filename)
    folder = entry.orig_filename.endswith(("/", "\\"))
    return None if folder or _is_unwanted(path) else Member(path, entry.file_size, entry)


def tar_member(archive: Path, entry: tarfile.TarInfo) -> Member | None:
    """Take an entry of a tar archive for a file, or for None where it is a folder or macOS has added it.

    Args:
        archive: its file.
        entry: of it.

    Raises:
        DRSLError: it could be written elsewhere or over something.
    """
    if not (entry.isreg() or entry.isdir()):
        raise DRSLError(f"{archive} is not unpacked: {entry.name!r} in it is a link or a device")
    path = _take_path(archive, entry.name)
    return None if entry.isdir() or _is_unwanted(path) else Member(path, entry.size, entry)


def _take_path(archive: Path, name: str) -> PurePosixPath:
    """Return a member's name as a path; on Windows a backslash parts folders too, so it does here."""
    plain = name.replace("\\", "/")
    if plain.startswith("/") or ".." in plain.split("/") or re.match(r"[A-Za-z]:", plain) or "\0" in plain:
        raise DRSLError(f"{archive} is not unpacked: {name!r} in it leads out of the folder it is unpacked into")
    return PurePosixPath(plain)


def _is_unwanted(path: PurePosixPath) -> bool:
    return _MAC in path.parts or path.name.startswith("._")


def check_distinct(archive: Path, members: Sequence[Member]) -> None:
    """Check that no two members are to lie in one place.

    Args:
        archive: their file.
        members: all of them.

    Raises:
        DRSLError: two are.
    """
    files: set[PurePosixPath] = set()
    for member in members:
        if member.path in files:
            raise DRSLError(f"{archive} is not unpacked: {str(member.path)!r} stands in it twice")
        files.add(member.path)
    folders = {parent for path in files for parent in path.parents}
    if both := files & folders:
        raise DRSLError(f"{archive} is not unpacked: {str(min(both))!r} in it is a file and a folder")
