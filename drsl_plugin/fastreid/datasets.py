"""The data sets that FastReID reads: where they are, and whether a batch can be filled from them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from drsl_plugin.errors import DRSLError, nearest
from drsl_plugin.fastreid.host import fastreid

# Where FastReID's classes do not say in `dataset_dir`: one of these is there if the data set is.
FOLDERS = {
    "Market1501": ("Market-1501-v15.09.15", "bounding_box_train"),
    "MSMT17": ("MSMT17_V1", "MSMT17_V2"),
}
WHERE_TO_GET = {
    "Market1501": "unpack Market-1501-v15.09.15.zip, from its authors, there; "
    "`drsl demo --data-only ROOT` renders a small stand-in",
    "MSMT17": "ask its authors for MSMT17_V1 and unpack it there",
    "CUHK03": "unpack cuhk03_release.zip, from its authors, into cuhk03 there",
    "DukeMTMC": "its authors have withdrawn it",
}
IDENTITY_SAMPLERS = ("NaiveIdentitySampler", "BalancedIdentitySampler", "SetReWeightSampler")


def root() -> Path:
    """Return the folder of all data sets, which FastReID takes from ``FASTREID_DATASETS`` when it is imported."""
    return Path(fastreid.data.build._root)


def dataset_problems(cfg: Any, keys: Sequence[str] = ("NAMES", "TESTS")) -> Iterator[str]:
    """Yield which data sets of ``DATASETS.NAMES`` and ``DATASETS.TESTS`` are unknown or not on disk."""
    registry = fastreid.data.datasets.DATASET_REGISTRY._obj_map
    seen = set()
    for key in keys:
        if not cfg.DATASETS[key]:
            yield f'DATASETS.{key} (): names no data set, for example ("Market1501",)'
        for name in cfg.DATASETS[key]:
            if name in seen:
                continue
            seen.add(name)
            if name not in registry:
                yield f"DATASETS.{key} {name}: no data set of this name{nearest(str(name), registry)}"
            elif not any((root() / folder).exists() for folder in folders(name, registry[name])):
                path = (root() / folders(name, registry[name])[0]).absolute()
                how = WHERE_TO_GET.get(name, "FastReID's documentation of data sets says how to lay it out")
                yield (
                    f"DATASETS.{key} {name}: not on disk, no folder {path} (FASTREID_DATASETS, the folder of all data "
                    f"sets, is {root()}); {how}"
                )


def folders(name: str, dataset: Any) -> Sequence[str]:
    """Return the folders below :func:`root` of which one is there if the data set is."""
    return FOLDERS.get(name) or (getattr(dataset, "dataset_dir", "") or ".",)


@contextlib.contextmanager
def data_errors(key: str, names: Sequence[str]) -> Iterator[None]:
    """Say in one line what FastReID's classes raise of files that are not there."""
    try:
        yield
    except (RuntimeError, AssertionError, OSError) as error:
        what = " ".join(str(error).split()) or "cannot be read"
        raise DRSLError(f"DATASETS.{key} {', '.join(names)}: {what} (FASTREID_DATASETS is {root()})") from error


def check_batches(cfg: Any, dataset: Any) -> None:
    """Check that batches can be filled, where FastReID would wait for ever or divide by zero.

    Raises:
        DRSLError: too few identities, images or steps.
    """
    names, batch = ", ".join(cfg.DATASETS.NAMES), cfg.SOLVER.IMS_PER_BATCH
    instances = cfg.DATALOADER.NUM_INSTANCE
    if cfg.DATALOADER.SAMPLER_TRAIN in IDENTITY_SAMPLERS and dataset.num_classes < batch // instances:
        raise DRSLError(
            f"SOLVER.IMS_PER_BATCH {batch}: needs {batch // instances} identities (DATALOADER.NUM_INSTANCE {instances} "
            f"images of each), and {names} has {dataset.num_classes}; {dataset.num_classes * instances} at most"
        )
    classes = cfg.MODEL.HEADS.NUM_CLASSES
    if 0 < classes < dataset.num_classes:
        raise DRSLError(
            f"MODEL.HEADS.NUM_CLASSES {classes}: {names} has {dataset.num_classes} identities; 0 takes their number"
        )
    steps = len(dataset) // batch
    if steps == 0:
        raise DRSLError(f"SOLVER.IMS_PER_BATCH {batch}: {names} has only {len(dataset)} training images")
    warmup = math.ceil(cfg.SOLVER.WARMUP_ITERS / steps)
    if cfg.SOLVER.SCHED == "CosineAnnealingLR" and max(warmup, cfg.SOLVER.DELAY_EPOCHS) >= cfg.SOLVER.MAX_EPOCH:
        raise DRSLError(
            f"SOLVER.MAX_EPOCH {cfg.SOLVER.MAX_EPOCH}: leaves no epoch to anneal in behind SOLVER.DELAY_EPOCHS "
            f"{cfg.SOLVER.DELAY_EPOCHS} and SOLVER.WARMUP_ITERS {cfg.SOLVER.WARMUP_ITERS} ({warmup} epochs of {steps} "
            "steps); lower them, or train longer"
        )
