"""Data folders and configurations drawn at random: what people have, and what they type."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
Harm = Callable[[random.Random, Path], None]


class Draw(NamedTuple):
    """A data set on disk, and what is typed beside the smallest run."""

    root: Path
    harms: list[str]
    changes: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.root.name!r}, {self.harms}, {self.changes}"


# What is wrong with a folder; each is given that of the images of Market-1501.


def _folder(draws: random.Random, home: Path) -> Path:
    return home / draws.choice(FOLDERS)


def _image(draws: random.Random, home: Path) -> Path | None:
    images = sorted(path for name in FOLDERS if (home / name).is_dir() for path in (home / name).iterdir())
    return draws.choice(images) if images else None


def remove_folder(draws: random.Random, home: Path) -> None:
    shutil.rmtree(_folder(draws, home), ignore_errors=True)


def empty_folder(draws: random.Random, home: Path) -> None:
    folder = _folder(draws, home)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def rename_folder(draws: random.Random, home: Path) -> None:
    folder = _folder(draws, home)
    if folder.exists():
        folder.rename(folder.with_name(folder.name.upper()))


def put_a_file_in_its_place(draws: random.Random, home: Path) -> None:
    remove = _folder(draws, home)
    shutil.rmtree(remove, ignore_errors=True)
    remove.write_text("no folder")


def rename_image(draws: random.Random, home: Path) -> None:
    path = _image(draws, home)
    names = ("portrait.jpg", "0001.jpg", "1600_c1s1_000001_00.jpg", "0003_c9s1_000001_00.jpg", "-1_c1s1_0_00.jpg")
    names += ("0002_c1s1_000001_00.JPG", "0002_c1s1_000001_00.png", "0002_c1 é 人.jpg", "0001_c0s1_1_00.jpg", ".jpg")
    if path is not None:
        path.rename(path.with_name(draws.choice(names)))


def change_every_ending(draws: random.Random, home: Path) -> None:
    ending = draws.choice((".png", ".JPG", ".jpeg", ""))
    folder = _folder(draws, home)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        path.rename(path.with_suffix(ending))


def duplicate_image(draws: random.Random, home: Path) -> None:
    path = _image(draws, home)
    if path is not None and path.is_file():
        shutil.copy(path, path.with_name(path.name.replace(".jpg", "_copy.jpg")))


def cut_image(draws: random.Random, home: Path) -> None:
    path = _image(draws, home)
    if path is not None and path.is_file():
        path.write_bytes(path.read_bytes()[: draws.choice((0, 10, 500))])


def write_text_for_an_image(draws: random.Random, home: Path) -> None:
    path = _image(draws, home)
    if path is not None and path.is_file():
        path.write_text("<html>not found</html>")


def put_a_folder_for_an_image(draws: random.Random, home: Path) -> None:
    path = _image(draws, home)
    if path is not None and path.is_file():
        path.unlink()
        path.mkdir()


def change_mode(draws: random.Random, home: Path) -> None:
    path = _image(draws, home)
    if path is None or not path.is_file():
        return
    mode = draws.choice(("L", "P", "RGBA", "LA", "CMYK", "1", "I;16"))
    with Image.open(path) as image:
        grey = image.convert("L")
        changed = grey.convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
    changed.save(path, "JPEG" if mode in ("L", "CMYK") else "PNG")


def change_size(draws: random.Random, home: Path) -> None:
    path = _image(draws, home)
    if path is not None and path.is_file():
        with Image.open(path) as image:
            changed = image.resize(draws.choice(((1, 1), (1, 200), (300, 2))))
        changed.save(path, "JPEG")


def keep_one_identity(draws: random.Random, home: Path) -> None:
    folder = _folder(draws, home)
    images = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in images:
        if path.is_file() and path.name[:4] != images[0].name[:4]:
            path.unlink()


def keep_one_camera(draws: random.Random, home: Path) -> None:
    for name in FOLDERS:
        for path in sorted((home / name).iterdir()) if (home / name).is_dir() else ():
            if path.is_file() and "_c1" not in path.name:
                path.unlink()


def keep_one_image(draws: random.Random, home: Path) -> None:
    folder = _folder(draws, home)
    for path in sorted(folder.iterdir())[1:] if folder.is_dir() else ():
        path.unlink() if path.is_file() else path.rmdir()


HARMS: list[Harm] = [
    remove_folder,
    empty_folder,
    rename_folder,
    put_a_file_in_its_place,
    rename_image,
    change_every_ending,
    duplicate_image,
    cut_image,
    write_text_for_an_image,
    put_a_folder_for_an_image,
    change_mode,
    change_size,
    keep_one_identity,
    keep_one_camera,
    keep_one_image,
]
ROOTS = ("data", "with space", "[x]", "ünï 人", "a'b", "-data", "%s", "{x}", "$HOME", "#1")


# What is typed


def values_for(draws: random.Random, default: Any) -> Any:
    """A value at the edge of what a key of this type takes, or beyond it."""
    if isinstance(default, bool):
        return draws.choice((True, False, 2, "maybe"))
    if isinstance(default, int):
        return draws.choice((-1, 0, 1, 2, 3, 0.5, "many"))
    if isinstance(default, float):
        return draws.choice((-1.0, 0.0, 1e-9, 0.5, 1.0, 2.0, math.nan, math.inf, "much"))
    if isinstance(default, (list, tuple)):
        kept = default[:1]
        return draws.choice(([], ["nonsense"], [*kept, *kept], [1], [-1, 0], [0.5, 0.5], 1, "nonsense"))
    words = ("", "nonsense", "sgd", "Adam", "cosine", "drsl", "triplet", "softmax", "single_step", "video", "none", "1")
    return draws.choice(words)


def draw(seed: int, template: Path, place: Path, keys: Mapping[str, Any]) -> Draw:
    """Draw a data set and a configuration.

    Args:
        seed: the same gives the same.
        template: a data set that nothing is wrong with.
        place: an empty folder, where the set goes.
        keys: all that can be set, with its default.
    """
    draws = random.Random(seed)
    root = place / draws.choice(ROOTS)
    shutil.copytree(template, root, symlinks=True)
    (home,) = (path.parent for path in root.rglob(FOLDERS[0]) if not path.is_symlink() and path.is_dir())
    harms = draws.sample(HARMS, draws.choice((0, 0, 1, 1, 2)))
    for harm in harms:
        harm(draws, home)
    chosen = draws.sample(sorted(keys), draws.choice((0, 1, 1, 2, 3)) if harms else draws.choice((1, 2, 3)))
    return Draw(root, [harm.__name__ for harm in harms], {key: values_for(draws, keys[key]) for key in chosen})
