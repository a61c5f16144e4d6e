"""Whether an unpacked data set is that data set, and whole."""

from __future__ import annotations

from pathlib import Path

from drsl_plugin.data.published_set import Images

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""What HDF5 data begin with: at the start of the file, or at 512, 1024 … bytes, after a header such as MATLAB's."""


def count_files(folder: Path, images: Images) -> str:
    """Count the images in the folders of a data set.

    Args:
        folder: of the data set.
        images: how many each has to hold, junk and distractors included.

    Returns:
        What is amiss, or an empty string.
    """
    for (name,), expected in images.items():
        found = len(list((folder / name).glob("*.jpg")))
        if found != expected:
            return f"{name} holds {found:,} images, not {expected:,}"
    return ""


def count_listed_files(folder: Path, images: Images) -> str:
    """Count the images in MSMT17's lists and look for each.

    Args:
        folder: ``MSMT17_V1`` or ``MSMT17_V2``.
        images: how many the lists have to name.

    Returns:
        What is amiss, or an empty string.
    """
    train, test = ("train", "test") if (folder / "train").is_dir() else ("mask_train_v2", "mask_test_v2")
    for lists, expected in images.items():
        place = folder / (train if "list_train.txt" in lists else test)
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


def look_into_cuhk03(folder: Path, images: Images) -> str:
    """Look into CUHK03's one file, as far as what is installed allows.

    Args:
        folder: ``cuhk03_release``.
        images: not counted.

    Returns:
        What is amiss, or an empty string.
    """
    path = folder / "cuhk-03.mat"
    with path.open("rb") as file:
        head = file.read(4096 + len(HDF5_SIGNATURE))
    offsets = (0, 512, 1024, 2048, 4096)
    if not any(head.startswith(HDF5_SIGNATURE, offset) for offset in offsets):
        return "its cuhk-03.mat is not a MATLAB 7.3 file"
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError:  # either toolbox's extra has it
        return ""
    try:
        with h5py.File(path, "r") as file:
            missing = [name for name in ("detected", "labeled", "testsets") if name not in file]
    except OSError as error:
        return f"its cuhk-03.mat cannot be read ({error})"
    return f"its cuhk-03.mat lacks {', '.join(missing)}" if missing else ""
