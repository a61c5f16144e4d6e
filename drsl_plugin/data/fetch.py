"""Fetches a file from where its owners offer it, through gdown."""

from __future__ import annotations

import hashlib
import inspect
import shutil
from collections.abc import Callable
from pathlib import Path

from drsl_plugin.data.published_set import Source
from drsl_plugin.errors import DRSLError, MissingPackageError

RETRIES, TIMEOUT = 3, 60
"""How often gdown goes on by itself with a download that broke off; and the seconds of silence that count as that."""

ReportBytes = Callable[[int, "int | None"], None]


def fetch(source: Source, folder: Path) -> Path:
    """Fetch a file into a folder, or go on with one that was begun there; one that is there whole is kept.

    Args:
        source: the file.
        folder: made where missing; what arrives stays in it, whatever happens.

    Returns:
        The file, with the checksum of ``source``.

    Raises:
        DRSLError: the disk is too full, nothing or something else arrives.
        MissingPackageError: no gdown.
    """
    path = folder / source.name
    if not path.exists():
        check_room(source.room, folder, source.name)
        try:
            import gdown  # noqa: F401
        except ImportError:
            raise MissingPackageError("drsl download needs gdown", "pip install gdown", "gdown") from None
        folder.mkdir(parents=True, exist_ok=True)

        def watch(arrived: int, total: int | None) -> None:
            if arrived < (total or 0):
                check_room(total - arrived if total else 0, folder, source.name)

        call_gdown(source.url, path, watch)
    check_digest(
        path, source.digest, f"delete it to download it again, or look at it and take it as it is by --archive {path}"
    )
    return path


def call_gdown(url: str, path: Path, progress: ReportBytes) -> None:
    """Download a file by gdown: the one place that does.

    Args:
        url: of the file.
        path: where it goes once it is whole; meanwhile gdown keeps ``<name>….part`` beside it and goes on from there.
        progress: called with the bytes that arrived and all there are, by a gdown that can.

    Raises:
        DRSLError: it does not arrive.
    """
    import gdown

    known = inspect.signature(gdown.download).parameters  # they became more over the years
    options = {"timeout": TIMEOUT, "retries": RETRIES, "progress": progress}
    try:
        done = gdown.download(url, str(path), resume=True, **{key: options[key] for key in options if key in known})
    except DRSLError as error:
        raise DRSLError(f"{error}; {_advise(path)}") from None
    except Exception as error:  # gdown's own, requests' and the disk's, which differ between its versions
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DRSLError(f"cannot download {url}: {reason}; {_advise(path)}") from error
    if done is None or not path.is_file():  # how older versions say that it failed
        raise DRSLError(f"cannot download {url}; {_advise(path)}")


def _advise(path: Path) -> str:
    if any(part.stat().st_size for part in path.parent.glob(f"{path.name}*.part")):
        return f"what arrived stays in {path.parent}, and the same command goes on from there"
    return "try again later, or download it in a browser and give it by --archive FILE"


def check_digest(path: Path, digest: str, advice: str) -> None:
    """Compare a file with its checksum.

    Args:
        path: the file.
        digest: ``"md5:…"`` or ``"sha256:…"``.
        advice: what would do; ends the error's line.

    Raises:
        DRSLError: it is another file.
    """
    name, _, expected = digest.partition(":")
    found = hashlib.new(name, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    if found.hexdigest() != expected:
        raise DRSLError(
            f"{path} is not the published file: its {name} is {found.hexdigest()}, not {expected}; {advice}"
        )


def check_room(needed: int, folder: Path, what: str) -> None:
    """Check that a disk has room.

    Args:
        needed: bytes.
        folder: on the disk; need not be there yet.
        what: is to be written.

    Raises:
        DRSLError: it has not.
    """
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise DRSLError(
            f"no room for {what} on the disk of {place}: it needs {_format_size(needed)}, {_format_size(free)} are free"
        )


def _format_size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
