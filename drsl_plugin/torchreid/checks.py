"""What a configuration is checked for before anything is read, trained or written."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from drsl_plugin.errors import DRSLError, nearest
from drsl_plugin.torchreid.building import check_training
from drsl_plugin.torchreid.config import settings
from drsl_plugin.torchreid.host import registry, torchreid

LOSSES = ("softmax", "triplet", "drsl")
TRANSFORMS = ("random_flip", "random_crop", "random_patch", "color_jitter", "random_erase")
AT_LEAST = {
    **dict.fromkeys(("data.height", "data.width", "data.k_tfm", "video.seq_len"), 1),
    **dict.fromkeys(("sampler.num_instances", "train.batch_size", "train.max_epoch", "train.print_freq"), 1),
    **dict.fromkeys(("train.stepsize", "test.batch_size", "test.ranks", "test.visrank_topk"), 1),
    **dict.fromkeys(("data.workers", "train.fixbase_epoch", "train.start_epoch", "train.seed"), 0),
    **dict.fromkeys(("train.lr", "train.weight_decay", "loss.triplet.weight_t", "loss.triplet.weight_x"), 0),
}
WHERE_TO_GET = {
    "market1501": "unpack Market-1501-v15.09.15.zip, from its authors, there; "
    "`drsl demo --data-only ROOT` renders a small stand-in",
    "msmt17": "ask its authors for MSMT17_V1 and unpack it there",
    "cuhk03": "unpack cuhk03_release.zip, from its authors, there",
    "dukemtmcreid": "its authors have withdrawn it",
    "dukemtmcvidreid": "its authors have withdrawn it",
}


def check_config(cfg: Any) -> None:
    """Check all that can be checked without reading data.

    Args:
        cfg: the configuration, merged.

    Raises:
        DRSLError: names the setting, what it got and what would do.
    """
    _check_swallowed(cfg)
    _check_choices(cfg)
    _check_ranges(cfg)
    _check_transforms(cfg)
    check_datasets(cfg)
    check_training(cfg)
    for key, path in (("model.load_weights", cfg.model.load_weights), ("model.resume", cfg.model.resume)):
        if path and not Path(path).expanduser().is_file():
            raise DRSLError(f"{key} {path}: no such file")
    if cfg.test.visrank and not cfg.test.evaluate:
        raise DRSLError("test.visrank True: pictures are made by an evaluation; set test.evaluate True as well")
    if cfg.test.evaluate and not (cfg.model.load_weights or cfg.model.resume or cfg.model.pretrained):
        raise DRSLError("test.evaluate True: of random weights; name a file with model.load_weights")
    _check_save_dir(cfg)


def check_datasets(cfg: Any) -> None:
    """Check that the data sets are known and on disk.

    Raises:
        DRSLError: says where a data set was looked for, and how to get it.
    """
    for option, names in (("--sources", cfg.data.sources), ("--targets", cfg.data.targets)):
        if not names:
            raise DRSLError(f"{option} []: names no data set (known: {', '.join(sorted(datasets(cfg)))})")
        for name in names:
            _check_dataset(cfg, option, name)


def datasets(cfg: Any) -> dict[str, Any]:
    """Return Torchreid's data sets of ``cfg.data.type``, by name."""
    return registry(torchreid.data.datasets, f"__{cfg.data.type}_datasets")


def _check_swallowed(cfg: Any) -> None:
    """Find an option with several values that took the ``key value`` pairs behind it for its own."""
    known = settings(cfg)
    for option, words in (
        ("--transforms", cfg.data.transforms),
        ("--sources", cfg.data.sources),
        ("--targets", cfg.data.targets),
    ):
        key = next((word for word in words if word in known), None)
        if key is not None:
            values, rest = words[: words.index(key)], words[words.index(key) :]
            raise DRSLError(
                f"{' '.join((option, *values, key))}: takes every word behind it, {key} too; put `key value` options "
                f"behind another option, as in `{' '.join((option, *values, '--root DIR', *rest))}`"
            )


def _check_choices(cfg: Any) -> None:
    optim = torchreid.optim
    for key, value, allowed in (
        ("loss.name", cfg.loss.name, LOSSES),
        ("data.type", cfg.data.type, ("image", "video")),
        ("model.name", cfg.model.name, registry(torchreid.models, "__model_factory")),
        ("sampler.train_sampler", cfg.sampler.train_sampler, torchreid.data.sampler.AVAI_SAMPLERS),
        ("train.optim", cfg.train.optim, sys.modules[f"{optim.__name__}.optimizer"].AVAI_OPTIMS),
        ("train.lr_scheduler", cfg.train.lr_scheduler, sys.modules[f"{optim.__name__}.lr_scheduler"].AVAI_SCH),
        ("test.dist_metric", cfg.test.dist_metric, ("euclidean", "cosine")),
        ("video.pooling_method", cfg.video.pooling_method, ("avg", "max")),
        ("video.sample_method", cfg.video.sample_method, ("evenly", "random", "all")),
    ):
        if value not in allowed:
            offered = f"; one of {', '.join(allowed)}" if len(allowed) <= 10 else nearest(value, allowed)
            raise DRSLError(f"{key} {value}: unknown{offered}")


def _check_ranges(cfg: Any) -> None:
    for key, value in settings(cfg).items():
        least = AT_LEAST.get(key)
        numbers = value if isinstance(value, list) else [value]
        if least is not None and not all(number >= least for number in numbers):
            raise DRSLError(f"{key} {value}: must be {least} or above")


def _check_transforms(cfg: Any) -> None:
    for name in cfg.data.transforms:
        if name.lower() not in TRANSFORMS:
            raise DRSLError(f"data.transforms {name}: unknown; Torchreid knows {', '.join(TRANSFORMS)}")


def _check_dataset(cfg: Any, option: str, name: str) -> None:
    if name not in datasets(cfg):
        raise DRSLError(
            f"{option} {name}: no {cfg.data.type} data set of this name{nearest(name, datasets(cfg))} "
            f"(known: {', '.join(sorted(datasets(cfg)))})"
        )
    folder = getattr(datasets(cfg)[name], "dataset_dir", None)
    # Torchreid would make the folder and try a download; those links are dead, and the empty folder stays.
    if folder and not Path(cfg.data.root, folder).expanduser().is_dir():
        path = Path(cfg.data.root, folder).expanduser().absolute()
        how = WHERE_TO_GET.get(name, "Torchreid's documentation of data sets says how to lay it out")
        raise DRSLError(f"{option} {name}: not on disk, no folder {path} (--root is {cfg.data.root}); {how}")


def _check_save_dir(cfg: Any) -> None:
    path = Path(cfg.data.save_dir).absolute()
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir():
        raise DRSLError(f"data.save_dir {cfg.data.save_dir}: {there} is a file; give a folder, or one yet to be made")
    if not os.access(there, os.W_OK):
        raise DRSLError(f"data.save_dir {cfg.data.save_dir}: {there} cannot be written to; give another folder")
