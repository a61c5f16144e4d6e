"""What is wrong with a configuration: all of it, before anything is built, read or written."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch

from drsl_plugin.errors import SettingError
from drsl_plugin.toolbox.rules import Keyed, bad_folder, below_least, missing_file, unknown_name
from drsl_plugin.toolbox.types import ConfigNode
from drsl_plugin.torchreid.config import settings
from drsl_plugin.torchreid.dataset_problems import dataset_problems
from drsl_plugin.torchreid.host import registry, torchreid
from drsl_plugin.torchreid.ineffective import ineffective_settings
from drsl_plugin.torchreid.training_problems import training_problems

LOSSES = ("softmax", "triplet", "drsl")
TRANSFORMS = ("random_flip", "random_crop", "random_patch", "color_jitter", "random_erase")
AT_LEAST = {
    **dict.fromkeys(("data.height", "data.width", "data.k_tfm", "video.seq_len"), 1),
    **dict.fromkeys(("sampler.num_instances", "train.batch_size", "train.max_epoch", "train.print_freq"), 1),
    **dict.fromkeys(("train.stepsize", "test.batch_size", "test.ranks", "test.visrank_topk"), 1),
    **dict.fromkeys(("data.workers", "train.fixbase_epoch", "train.start_epoch", "train.seed"), 0),
    **dict.fromkeys(("train.lr", "train.weight_decay", "loss.triplet.weight_t", "loss.triplet.weight_x"), 0),
    **dict.fromkeys(("train.gamma", "train.base_lr_mult", "sgd.momentum", "rmsprop.alpha"), 0),
    **dict.fromkeys(("adam.beta1", "adam.beta2", "data.split_id", "test.start_eval"), 0),
}


def problems(cfg: ConfigNode, processes: int = 1) -> Iterator[SettingError]:
    """Yield all that is wrong with a configuration and can be found without reading data.

    Where a value is wrong by itself, what would follow from it is not told as well.

    Args:
        cfg: the configuration, merged.
        processes: how many share a batch.
    """
    swallowed = list(_swallowed_options(cfg))
    if swallowed:  # the other settings are not what was meant
        yield from swallowed
        return
    yield from _missing_device(cfg)
    wrong = [*_unknown_names(cfg), *below_least(settings(cfg), AT_LEAST)]
    yield from wrong
    keys = {error.setting for error in wrong}
    yield from _unknown_transforms(cfg)
    yield from _normalisation_problems(cfg)
    if "data.type" not in keys:
        yield from dataset_problems(cfg)
    if "loss.name" not in keys:
        yield from training_problems(cfg, processes, keys)
    for key, path in (("model.load_weights", cfg.model.load_weights), ("model.resume", cfg.model.resume)):
        yield from missing_file(Keyed(key, path))
    yield from ineffective_settings(cfg)
    yield from _evaluation_problems(cfg)
    yield from bad_folder(Keyed("data.save_dir", cfg.data.save_dir))


def _swallowed_options(cfg: ConfigNode) -> Iterator[SettingError]:
    """Find an option with several values that took the ``key value`` pairs after it for its own."""
    known = settings(cfg)
    for option, words in (
        ("--transforms", cfg.data.transforms),
        ("--sources", cfg.data.sources),
        ("--targets", cfg.data.targets),
    ):
        key = next((word for word in words if word in known), None)
        if key is not None:
            values, rest = words[: words.index(key)], words[words.index(key) :]
            yield SettingError(
                option,
                " ".join((*values, key)),
                f"takes every word behind it, {key} too; put `key value` options behind another option, as in "
                f"`{' '.join((option, *values, '--root DIR', *rest))}`",
            )


def _missing_device(cfg: ConfigNode) -> Iterator[SettingError]:
    if cfg.use_gpu and not torch.cuda.is_available():
        yield SettingError("use_gpu", True, "torch finds no CUDA device here; leave use_gpu out, or set it False")


def _unknown_names(cfg: ConfigNode) -> Iterator[SettingError]:
    optim = torchreid.optim.__name__
    for key, value, known in (
        ("loss.name", cfg.loss.name, LOSSES),
        ("data.type", cfg.data.type, ("image", "video")),
        ("model.name", cfg.model.name, registry(torchreid.models, "__model_factory")),
        ("sampler.train_sampler", cfg.sampler.train_sampler, torchreid.data.sampler.AVAI_SAMPLERS),
        ("train.optim", cfg.train.optim, sys.modules[f"{optim}.optimizer"].AVAI_OPTIMS),
        ("train.lr_scheduler", cfg.train.lr_scheduler, sys.modules[f"{optim}.lr_scheduler"].AVAI_SCH),
        ("test.dist_metric", cfg.test.dist_metric, ("euclidean", "cosine")),
        ("video.pooling_method", cfg.video.pooling_method, ("avg", "max")),
        ("video.sample_method", cfg.video.sample_method, ("evenly", "random", "all")),
    ):
        yield from unknown_name(Keyed(key, value), known)


def _unknown_transforms(cfg: ConfigNode) -> Iterator[SettingError]:
    for name in cfg.data.transforms:
        if name.lower() not in TRANSFORMS:
            yield SettingError("data.transforms", name, f"unknown; Torchreid knows {', '.join(TRANSFORMS)}")


def _normalisation_problems(cfg: ConfigNode) -> Iterator[SettingError]:
    for key, values in (("data.norm_mean", cfg.data.norm_mean), ("data.norm_std", cfg.data.norm_std)):
        if len(values) != 3 or (key == "data.norm_std" and min(values) <= 0):
            above = " above 0" * (key == "data.norm_std")
            yield SettingError(key, values, f"expected a number{above} for each of red, green and blue")


def _evaluation_problems(cfg: ConfigNode) -> Iterator[SettingError]:
    if cfg.test.visrank and not cfg.test.evaluate:
        needs = "pictures are made by an evaluation; set test.evaluate True as well"
        yield SettingError("test.visrank", True, needs)
    if cfg.test.evaluate and not (cfg.model.load_weights or cfg.model.resume or cfg.model.pretrained):
        yield SettingError("test.evaluate", True, "of random weights; name a file with model.load_weights")
