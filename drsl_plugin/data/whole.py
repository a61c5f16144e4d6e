"""Whether an unpacked data set is that data set, and whole."""

from __future__ import annotations

from pathlib import Path

from drsl_plugin.data.published_set import PublishedSet

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""What HDF5 data begin with: at the start of the file, or at 512, 1024 … bytes, after a header such as MATLAB's."""


def count_files(folder: Path, data_set: PublishedSet) -> str:
    """Count the images in the folders of a data set.

    Args:
        folder: one of its layouts.
        data_set: which one; of its images, junk and distractors are counted too.

    Returns:
        What is amiss, or an empty string.
    """
    for (name,), expected in data_set.images.items():
        found = len(list((folder / name).glob("*.jpg")))
        if found != expected:
            return f"{name} holds {found:,} images, not {expected:,}"
    return ""


def count_listed_files(folder: Path, data_set: PublishedSet) -> str:
    """Count the images in the lists of a data set and look for each.

    Args:
        folder: one of its layouts, which hold a folder of images to train on, one of others, and the lists.
        data_set: which one; the first of its lists are those of the former.

    Returns:
        What is amiss, or an empty string.
    """
    train, test = next(needs[:2] for needs in data_set.layouts.values() if (folder / needs[0]).is_dir())
    for number, (lists, expected) in enumerate(data_set.images.items()):
        place = folder / (test if number else train)
        found = 0
        for name in lists:
            text = (folder / name).read_text(encoding="utf-8", errors="replace")
            for line in filter(None, map(str.strip, text.splitlines())):
                path = place / line.split()[0]
                if not path.is_file():
                    return f"{path.relative_to(folder)}, which {name} names, is not in it"
                found += 1
        if found != expected:
            return f"{' and '.join(lists)} name {found:,} images, not {expected:,}"
    return ""


def look_into_cuhk03(folder: Path, data_set: PublishedSet) -> str:
    """Look into CUHK03's one file, as far as what is installed allows.

    Args:
        folder: one of its layouts.
        data_set: CUHK03.

    Returns:
        What is amiss, or an empty string.
    """
    ((name,),) = data_set.layouts.values()
    path = folder / name
    with path.open("rb") as file:
        head = file.read(4096 + len(HDF5_SIGNATURE))
    offsets = (0, 512, 1024, 2048, 4096)
    if not any(head.startswith(HDF5_SIGNATURE, offset) for offset in offsets):
        return f"its {name} is not a MATLAB 7.3 file"
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError:  # either toolbox's extra has it
        return ""
    try:
        with h5py.File(path, "r") as file:
            missing = [part for part in ("detected", "labeled", "testsets") if part not in file]
    except OSError as error:
        return f"its {name} cannot be read ({error})"
    return f"its {name} lacks {', '.join(missing)}" if missing else ""
