"""A subset of Market-1501, drawn by a seed: what small comparisons train and test on.

Takes some training identities, some other identities of the test set with all their queries and gallery images, and
some distractors (images of identity 0000). Which ones is decided by the SHA-256 of the seed and the name, so that the
same seed gives the same subset with every Python and on every machine, and a larger subset holds the smaller ones.
Junk images (identity -1), which no evaluation counts, are left out unless `--junk` asks for some.

OUTPUT gets Market-1501's own layout, of hard links where the disk allows them and copies elsewhere, so that
`--root OUTPUT` (FastReID: `FASTREID_DATASETS=OUTPUT`) is all that a training needs; and OUTPUT/market_subset.txt, the
names of the identities.

    python benchmarks/market_subset.py --root reid-data --output subset [--seed 1]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import one_line

from drsl_plugin.data.catalogue import getting, published
from drsl_plugin.data.folders import link_beside, new_folder
from drsl_plugin.errors import OneLineParser, RangeError, SettingError

MARKET = published("market1501")
LAYOUT, FOLDERS = next(iter(MARKET.layouts.items()))
TRAIN, QUERY, GALLERY = FOLDERS
DISTRACTORS, JUNK = "0000", "-1"
NAME = re.compile(r"(-1|\d{4})_c\d.*\.jpg")


class Subset(NamedTuple):
    training: list[str]
    """Identities to train on."""
    test: list[str]
    """Identities to test on."""
    images: dict[str, list[str]]
    """The names of the images in each of ``FOLDERS``."""


def identity(name: str) -> str:
    return name.split("_")[0]


def read_names(root: Path) -> dict[str, list[str]]:
    """The names of the images in each folder of Market-1501; other files that lie there do not count."""
    home = root / MARKET.folder / LAYOUT
    names = {}
    for folder in FOLDERS:
        if not (home / folder).is_dir():
            raise SettingError("--root", root, f"no {home / folder}; {getting(MARKET.name, '')}")
        names[folder] = sorted(path.name for path in (home / folder).iterdir() if NAME.fullmatch(path.name))
        if not names[folder]:
            raise SettingError("--root", root, f"{home / folder} holds no image named as Market-1501's")
    return names


def draw(option: str, candidates: Iterable[str], count: int, seed: int) -> list[str]:
    """The ``count`` candidates that are first in an order of their own for each seed."""
    candidates = set(candidates)
    if count > len(candidates):
        raise SettingError(option, count, f"there are {len(candidates)}")
    order = sorted(candidates, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    return sorted(order[:count])


def choose(names: dict[str, list[str]], *, train: int, test: int, distractors: int, junk: int, seed: int) -> Subset:
    """Draw a subset of the images that there are."""
    found = {folder: set(map(identity, files)) - {DISTRACTORS, JUNK} for folder, files in names.items()}
    training = draw("--train", found[TRAIN], train, seed)
    tested = draw("--test", (found[QUERY] & found[GALLERY]) - found[TRAIN], test, seed)
    others = [
        each
        for option, count, who in (("--distractors", distractors, DISTRACTORS), ("--junk", junk, JUNK))
        for each in draw(option, (name for name in names[GALLERY] if identity(name) == who), count, seed)
    ]
    images = {
        TRAIN: [name for name in names[TRAIN] if identity(name) in training],
        QUERY: [name for name in names[QUERY] if identity(name) in tested],
        GALLERY: sorted(others + [name for name in names[GALLERY] if identity(name) in tested]),
    }
    return Subset(training, tested, images)


def describe(subset: Subset, seed: int) -> str:
    """What a reader needs to tell that a subset is the same: seed, identities, numbers of images, a checksum."""
    gallery = subset.images[GALLERY]
    special = [sum(identity(name) == who for name in gallery) for who in (DISTRACTORS, JUNK)]
    files = "".join(f"{folder}/{name}\n" for folder in FOLDERS for name in subset.images[folder])
    return "\n".join(
        (
            f"A subset of Market-1501, drawn by benchmarks/market_subset.py with seed {seed}",
            "",
            f"{len(subset.training)} identities to train on: {len(subset.images[TRAIN])} images",
            f"{len(subset.test)} identities to test on: {len(subset.images[QUERY])} queries, {len(gallery)} gallery "
            f"images, of which {special[0]} distractors and {special[1]} junk",
            f"SHA-256 of the names of the images: {hashlib.sha256(files.encode()).hexdigest()}",
            "",
            f"Train: {' '.join(subset.training)}",
            "",
            f"Test: {' '.join(subset.test)}",
            "",
        )
    )


def write(subset: Subset, root: Path, output: Path) -> None:
    """Lay the images of a subset below ``output`` as Market-1501 lies below ``root``."""
    with new_folder(output / MARKET.folder / LAYOUT) as home:
        for folder, names in subset.images.items():
            (home / folder).mkdir()
            for name in names:
                place(root / MARKET.folder / LAYOUT / folder / name, home / folder / name)
    link_beside(output / LAYOUT, Path(MARKET.folder, LAYOUT))


def place(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, target)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of data sets that Market-1501 lies in")
    parser.add_argument("--output", type=Path, required=True, help="folder of data sets that gets the subset")
    for name, count, what in (
        ("--train", 100, "identities to train on"),
        ("--test", 100, "identities to test on"),
        ("--distractors", 300, "distractors in the gallery"),
        ("--junk", 0, "junk images in the gallery"),
        ("--seed", 1, "of the draw"),
    ):
        parser.add_argument(name, type=int, default=count, help=f"{what} (default: %(default)s)")
    args = parser.parse_args(arguments)
    for name, least in (("train", 2), ("test", 1), ("distractors", 0), ("junk", 0), ("seed", 0)):
        if getattr(args, name) < least:
            raise RangeError(f"--{name}", getattr(args, name), f"{least} or above")
    return args


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    home = args.output / MARKET.folder / LAYOUT
    if home.exists():
        raise SettingError("--output", args.output, f"{home} is there already; delete it or name another folder")
    numbers = {name: getattr(args, name) for name in ("train", "test", "distractors", "junk", "seed")}
    subset = choose(read_names(args.root), **numbers)
    write(subset, args.root, args.output)
    text = describe(subset, args.seed)
    (args.output / "market_subset.txt").write_text(text, encoding="utf-8")
    print(text.partition("\n\nTrain:")[0])


if __name__ == "__main__":
    one_line.run(main)
