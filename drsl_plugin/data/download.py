"""Downloads published data sets, or unpacks them, into one folder that serves both toolboxes."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from drsl_plugin.data.fetch import check_digest, check_room, fetch
from drsl_plugin.data.folders import link_beside, links_to, new_folder
from drsl_plugin.data.progress import progress_bars
from drsl_plugin.data.published_set import PublishedSet, Source
from drsl_plugin.data.unpack import Archive, open_archive
from drsl_plugin.errors import DRSLError, SettingError

DOWNLOADS = "downloads"


def download(data_set: PublishedSet, root: Path, archive: Path | None = None) -> Path:
    """Lay a data set below a root, as Torchreid looks for it, with a link beside it for FastReID.

    It is unpacked beside its place and appears there whole or not at all. An archive that was downloaded goes once that
    is done; one that was given stays.

    Args:
        data_set: which one.
        root: made where missing; other things in it are left alone.
        archive: one that is there already; None to download it.

    Returns:
        Its folder.

    Raises:
        DRSLError: it is there already, ``root`` is no folder that can be written to, the disk is too full, or the
            archive is damaged or something else; or there is none and nobody offers one.
        MissingPackageError: no gdown, where something has to be downloaded.
    """
    _check_root(root)
    _check_absent(data_set, root)
    downloads = root / DOWNLOADS
    with _remove_what_stays_empty(root, root / data_set.folder, downloads), _name_disk_errors(root):
        given = archive or _fetch(data_set, downloads)
        with open_archive(given) as opened, contextlib.ExitStack() as afterwards:
            layout, below = find_layout(data_set, opened)
            target = root / data_set.folder / layout
            _check_link(data_set, root, layout)
            check_room(opened.size(below), root, data_set.title)
            beside = []
            for source in data_set.beside:
                beside.append(_find_beside(source, given.parent, root / data_set.folder, downloads))
                if beside[-1].parent == downloads != given.parent:
                    afterwards.callback(beside[-1].unlink)
            with new_folder(target) as scratch:
                _unpack(data_set, opened, below, scratch)
                if target.exists():
                    raise DRSLError(f"{target} is there already: another process was faster")
                for path in beside:
                    _copy_new(path, root / data_set.folder / path.name)
                if data_set.linked:  # before the data appear, so that they are never there without it
                    link_beside(root / layout, Path(data_set.folder) / layout)
        if given != archive:
            given.unlink()
    return target


def instructions(data_set: PublishedSet, root: Path) -> str:
    """Tell how to come by a data set that has to be asked for, and what to type then.

    Args:
        data_set: which one.
        root: where it is to lie.
    """
    lines = [
        f"{data_set.title} has to be asked for. {data_set.asking}",
        *(f"{source.name}, which it needs as well, is downloaded then." for source in data_set.beside),
        f"Then: drsl download {data_set.name} --root {shlex.quote(str(root))} --archive FILE",
    ]
    return "\n".join(lines)


def find_layout(data_set: PublishedSet, archive: Archive) -> tuple[str, PurePosixPath]:
    """Find the data set in an archive, however deep.

    Args:
        data_set: which one.
        archive: opened.

    Returns:
        Which of its folders it is, and which folder of the archive that is.

    Raises:
        DRSLError: it is not in it.
    """
    names = {name for member in archive.members for name in (member.path, *member.path.parents)}
    for layout, needs in data_set.layouts.items():
        for name in sorted((name for name in names if name.name == needs[0]), key=lambda name: len(name.parts)):
            if all(name.parent / need in names for need in needs):
                return layout, name.parent
    wanted = " nor ".join(", ".join(needs) for needs in data_set.layouts.values())
    raise DRSLError(f"{archive.path} is not {data_set.title}, or not whole: no folder in it holds {wanted}")


def _fetch(data_set: PublishedSet, downloads: Path) -> Path:
    if data_set.source is None:
        raise DRSLError(f"{data_set.title} has to be asked for. {data_set.asking}")
    return fetch(data_set.source, downloads)


def _unpack(data_set: PublishedSet, archive: Archive, below: PurePosixPath, folder: Path) -> None:
    with progress_bars() as progress:
        task = progress.add_task("unpack", total=sum(member.size for member in archive.below(below)))
        archive.unpack(below, folder, lambda size: progress.advance(task, size))
    if fault := data_set.find_fault(folder):
        raise DRSLError(f"{archive.path} is not {data_set.title}, or not whole: {fault}")


def _find_beside(source: Source, near: Path, folder: Path, downloads: Path) -> Path:
    """Find a file that stands beside the data: in its place, next to the archive, or where its owners offer it."""
    for path in (folder / source.name, near / source.name):
        if path.is_file():
            check_digest(path, source.digest, "move it away, and it is downloaded")
            return path
    try:
        return fetch(source, downloads)
    except DRSLError as error:
        raise DRSLError(f"{error}; or put {source.name} from {source.url} beside the archive") from error


def _copy_new(path: Path, target: Path) -> None:
    if not target.exists():
        unfinished = target.with_name(f".{target.name}.unfinished")
        try:
            shutil.copyfile(path, unfinished)
            unfinished.rename(target)
        finally:
            unfinished.unlink(missing_ok=True)


def _check_root(root: Path) -> None:
    place = next(parent for parent in (root, *root.absolute().parents) if os.path.lexists(parent))
    if not place.is_dir():
        raise SettingError("--root", root, f"{place} is not a folder; give one, or a new name")
    if not os.access(place, os.W_OK | os.X_OK):
        raise SettingError("--root", root, f"{place} cannot be written to; give another folder")


def _check_absent(data_set: PublishedSet, root: Path) -> None:
    folder = root / data_set.folder
    if os.path.lexists(folder) and not folder.is_dir():
        raise DRSLError(f"{folder} exists and is not a folder; give another root or move it away")
    for layout, needs in data_set.layouts.items():
        # Torchreid reads a Market-1501 without the folder of that name, too.
        for path in (folder / layout, folder / needs[0]):
            if os.path.lexists(path):
                raise DRSLError(f"{data_set.title} is there already: {path}; give another root or move it away")


def _check_link(data_set: PublishedSet, root: Path, layout: str) -> None:
    link, target = root / layout, Path(data_set.folder) / layout
    if data_set.linked and os.path.lexists(link) and not links_to(link, target):
        raise DRSLError(f"{link} exists and is not a link to {target}; give another root or move it away")


@contextlib.contextmanager
def _remove_what_stays_empty(*folders: Path) -> Iterator[None]:
    """Remove those of the folders that were not there before and hold nothing afterwards."""
    new = [folder for folder in folders if not folder.exists()]
    try:
        yield
    finally:
        for folder in reversed(new):
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _name_disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DRSLError(f"cannot write below {root}: {error}") from error
