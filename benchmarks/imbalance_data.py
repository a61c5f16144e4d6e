"""Omniglot's characters as a retrieval set, and the references of each query at an exact ratio."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from drsl_plugin.errors import DRSLError

FOLDERS = ("images_background_small1", "images_background_small2")
SIZE = 28
CLASSES_IN_GROUP = 8  # so that 1:15 is the batch alone, less one: a query's group holds 7 classes besides its own
GROUPS_IN_STEP = 4


class Images(NamedTuple):
    pixels: Tensor
    """``(N, 1, 28, 28)``, 1 where there is ink."""
    labels: Tensor
    """``(N,)``, 0, 1, 2, …"""


class Group(NamedTuple):
    """Some classes' images, each of them a query, and the references from outside that all of them share."""

    batch: Tensor
    """Indices of ``CLASSES_IN_GROUP`` × (positives + 1) images: a query's positives, and its negatives in the batch."""
    outside: Tensor
    """Indices of images of other classes: the rest of its negatives, encoded without gradient."""


def read_characters(folder: Path) -> dict[str, list[Path]]:
    """Image files of each character, named ``Alphabet/character``."""
    if not folder.is_dir():
        raise DRSLError(
            f"--data {folder.parent} has no folder {folder.name}: unpack python/{folder.name}.zip of "
            "https://github.com/brendenlake/omniglot there"
        )
    characters = {f"{c.parent.name}/{c.name}": sorted(c.glob("*.png")) for c in sorted(folder.glob("*/*/"))}
    characters = {name: files for name, files in characters.items() if files}
    if not characters:
        raise DRSLError(f"--data {folder.parent}: {folder.name} holds no ALPHABET/CHARACTER/*.png")
    return characters


def load(characters: dict[str, list[Path]], rotations: int = 1) -> Images:
    """Read characters at 28 × 28; each of ``rotations`` quarter turns makes another class of every character."""
    pixels = [torch.from_numpy(np.stack([_read(file) for file in files])) for files in characters.values()]
    turned = [torch.rot90(images, turns, (1, 2)) for turns in range(rotations) for images in pixels]
    labels = [torch.full((len(images),), label) for label, images in enumerate(turned)]
    return Images(torch.cat(turned).unsqueeze(1), torch.cat(labels))


def training_and_test(data: Path, hold_out: str | None = None) -> tuple[Images, Images]:
    """The first folder's characters in four orientations, and those of the second that the first does not have.

    With ``hold_out``, an alphabet of the first folder: train without it, and test on it instead.
    """
    first, second = (read_characters(data / name) for name in FOLDERS)
    if hold_out is None:
        return load(first, rotations=4), load({name: files for name, files in second.items() if name not in first})
    held_out = {name: files for name, files in first.items() if name.startswith(f"{hold_out}/")}
    if not held_out:
        alphabets = sorted({name.split("/")[0] for name in first})
        raise DRSLError(f"--hold-out must be one of {', '.join(alphabets)}, got {hold_out!r}")
    return load({name: files for name, files in first.items() if name not in held_out}, rotations=4), load(held_out)


def check_classes(labels: Tensor, positives: int) -> None:
    """Refuse a set that cannot fill a step: its queries would silently have fewer references."""
    counts, classes = torch.bincount(labels), GROUPS_IN_STEP * CLASSES_IN_GROUP
    if int(counts.min()) <= positives:
        raise DRSLError(f"--positives must be below {int(counts.min())}, the images of a class, got {positives}")
    if len(counts) < classes:
        raise DRSLError(f"--data holds {len(counts)} training classes, a step needs {classes}")


def largest_ratio(labels: Tensor, positives: int) -> int:
    """Negatives to a positive, at most: all images of the group and of the classes outside it, whichever they are."""
    counts = torch.bincount(labels)
    outside = len(labels) - int(counts.topk(CLASSES_IN_GROUP).values.sum())
    return (outside + negatives_in_group(positives)) // positives


def negatives_in_group(positives: int) -> int:
    """A query's negatives among the images of its own group."""
    return (CLASSES_IN_GROUP - 1) * (positives + 1)


def periods(
    labels: Tensor, *, ratio: int, positives: int, steps: int, refresh: int, seed: int
) -> Iterator[list[list[Group]]]:
    """Each period's steps, each step's groups; the outside images are encoded once a period, of ``refresh`` steps.

    A query has exactly ``positives`` positives and ``positives * ratio`` negatives among its references. The batches
    depend on the seed alone. A period's outside images are the first in one random order that are not of the group's
    classes, so those of a smaller ratio are also those of a larger one.
    """
    batches, orders = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1_000_000)
    count = positives * ratio - negatives_in_group(positives)
    members = [torch.nonzero(labels == label).squeeze(1) for label in range(int(labels.max()) + 1)]
    for start in range(0, steps, refresh):
        order = torch.randperm(len(labels), generator=orders)
        period = []
        for _ in range(start, min(start + refresh, steps)):
            classes = torch.randperm(len(members), generator=batches)[: GROUPS_IN_STEP * CLASSES_IN_GROUP]
            groups = []
            for chosen in classes.split(CLASSES_IN_GROUP):
                images = [
                    members[label][torch.randperm(len(members[label]), generator=batches)[: positives + 1]]
                    for label in chosen.tolist()
                ]
                outside = order[~torch.isin(labels[order], chosen)][:count]
                groups.append(Group(torch.cat(images), outside))
            period.append(groups)
        yield period


def _read(file: Path) -> np.ndarray:
    image = Image.open(file).convert("L").resize((SIZE, SIZE), Image.Resampling.BOX)
    return 1 - np.asarray(image, dtype=np.float32) / 255
