"""The data sets that FastReID reads: where they are, and whether a batch can be filled from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from drsl_plugin.data.catalogue import find, getting
from drsl_plugin.data.market_layout import DUKEMTMC, MARKET1501, Layout, layout_problems, unread_images
from drsl_plugin.errors import SettingError, nearest
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.toolbox import TOOLBOX
from drsl_plugin.toolbox.rules import named_twice
from drsl_plugin.toolbox.types import ConfigNode

IDENTITY_SAMPLERS = ("NaiveIdentitySampler", "BalancedIdentitySampler", "SetReWeightSampler")
PARTS_READ = {"NAMES": ("train",), "TESTS": ("query", "gallery")}
"""What is read of a data set, by the key that names it."""
_LAYOUTS = {"Market1501": MARKET1501, "DukeMTMC": DUKEMTMC}
"""The sets that are laid out as Market-1501."""
_OWN = "number them so, or register a class of your own (fastreid.data.datasets.DATASET_REGISTRY)"


class TrainingImages(Protocol):
    """FastReID's data set of training images, as far as it is asked."""

    num_classes: int

    def __len__(self) -> int:
        """Return how many images it has."""


def root() -> Path:
    """Return the folder of all data sets, which FastReID takes from ``FASTREID_DATASETS`` when it is imported."""
    return Path(fastreid.data.build._root)


def dataset_problems(cfg: ConfigNode, keys: Sequence[str] = ("NAMES", "TESTS")) -> Iterator[SettingError]:
    """Yield which data sets of ``DATASETS.NAMES`` and ``DATASETS.TESTS`` are unknown or not on disk."""
    registry = fastreid.data.datasets.DATASET_REGISTRY._obj_map
    seen = set()
    for key in keys:
        setting = f"DATASETS.{key}"
        if not cfg.DATASETS[key]:
            yield SettingError(setting, "()", 'names no data set, for example ("Market1501",)')
        yield from named_twice(setting, cfg.DATASETS[key])
        for name in cfg.DATASETS[key]:
            if name in registry:
                yield from _layout_problems(name, registry[name], key)
            if name in seen:
                continue
            seen.add(name)
            if name not in registry:
                yield SettingError(setting, name, f"no data set of this name{nearest(str(name), registry)}")
            elif not any((root() / folder).exists() for folder in folders(name, registry[name])):
                path = (root() / folders(name, registry[name])[0]).absolute()
                how = getting(name, "FastReID's documentation of data sets says how to lay it out")
                needs = (
                    f"not on disk, no folder {path} (FASTREID_DATASETS, the folder of all data sets, is {root()}); "
                    f"{how}"
                )
                yield SettingError(setting, name, needs)


def unread_data(names: Sequence[str], key: str) -> Iterator[str]:
    """Yield a line for each folder with images that the class of its set leaves out.

    Args:
        names: of the sets.
        key: ``"NAMES"`` or ``"TESTS"``.
    """
    registry = fastreid.data.datasets.DATASET_REGISTRY._obj_map
    for name in filter(registry.__contains__, names):
        for home, _ in _find_layout(name, registry[name]):
            yield from unread_images(home, PARTS_READ[key])


def _layout_problems(name: str, dataset: type, key: str) -> Iterator[SettingError]:
    for home, layout in _find_layout(name, dataset):
        yield from layout_problems(home, layout, _OWN, PARTS_READ[key])


def _find_layout(name: str, dataset: type) -> Iterator[tuple[str, Layout]]:
    """Yield the folder of a set that a class of FastReID's own reads as Market-1501, and what that takes."""
    if name in _LAYOUTS and dataset.__module__.split(".")[0] == "fastreid":
        yield _LAYOUTS[name].find_home(str(fastreid.data.build._root)), _LAYOUTS[name]


def folders(name: str, dataset: type) -> Sequence[str]:
    """Return the folders below :func:`root` of which one is there if the data set is."""
    published = find(name)
    if published and TOOLBOX.spell_data_set(published.name) == name:  # its class may not say in `dataset_dir`
        return [folder or needs[0] for folder, needs in published.readable.items()]
    return [getattr(dataset, "dataset_dir", "") or "."]


def check_batches(cfg: ConfigNode, dataset: TrainingImages) -> None:
    """Check that batches can be filled, where FastReID would wait for ever or divide by zero.

    Raises:
        SettingError: too few identities, images or steps.
    """
    names, batch = ", ".join(cfg.DATASETS.NAMES), cfg.SOLVER.IMS_PER_BATCH
    instances = cfg.DATALOADER.NUM_INSTANCE
    if cfg.DATALOADER.SAMPLER_TRAIN in IDENTITY_SAMPLERS and dataset.num_classes < batch // instances:
        needs = (
            f"needs {batch // instances} identities (DATALOADER.NUM_INSTANCE {instances} images of each), and {names} "
            f"has {dataset.num_classes}; {dataset.num_classes * instances} at most"
        )
        raise SettingError("SOLVER.IMS_PER_BATCH", batch, needs)
    classes = cfg.MODEL.HEADS.NUM_CLASSES
    if 0 < classes < dataset.num_classes:
        needs = f"{names} has {dataset.num_classes} identities; 0 takes their number"
        raise SettingError("MODEL.HEADS.NUM_CLASSES", classes, needs)
    steps = len(dataset) // batch
    if steps == 0:
        raise SettingError("SOLVER.IMS_PER_BATCH", batch, f"{names} has only {len(dataset)} training images")
    warmup = math.ceil(cfg.SOLVER.WARMUP_ITERS / steps)
    if cfg.SOLVER.SCHED == "CosineAnnealingLR" and max(warmup, cfg.SOLVER.DELAY_EPOCHS) >= cfg.SOLVER.MAX_EPOCH:
        needs = (
            f"leaves no epoch to anneal in after SOLVER.DELAY_EPOCHS {cfg.SOLVER.DELAY_EPOCHS} and SOLVER.WARMUP_ITERS "
            f"{cfg.SOLVER.WARMUP_ITERS} ({warmup} epochs of {steps} steps); lower them, or train longer"
        )
        raise SettingError("SOLVER.MAX_EPOCH", cfg.SOLVER.MAX_EPOCH, needs)
