"""Settings that would have no effect, or none but an error later: refused by name before anything is built.

What else has an effect only beside another setting is listed in ``docs/settings.md``.
"""

from __future__ import annotations

from collections.abc import Iterator

from drsl_plugin.errors import SettingError
from drsl_plugin.toolbox.types import ConfigNode


def ineffective_settings(cfg: ConfigNode) -> Iterator[SettingError]:
    """Yield the settings of a run that nothing reads, or that another one undoes."""
    if cfg.model.load_weights and cfg.model.resume:
        needs = f"model.resume {cfg.model.resume} replaces these weights; leave one of the two out"
        yield SettingError("model.load_weights", cfg.model.load_weights, needs)
    if not cfg.test.evaluate:
        yield from _of_training(cfg)


def _of_training(cfg: ConfigNode) -> Iterator[SettingError]:
    train, sampler = cfg.train, cfg.sampler
    if cfg.test.rerank:
        needs = "Torchreid re-ranks where it only evaluates; leave it out here, and set it with test.evaluate True"
        yield SettingError("test.rerank", True, needs)
    if cfg.data.k_tfm > 1:
        needs = "gives several pictures of an image at once, which no loss here trains on; use 1"
        yield SettingError("data.k_tfm", cfg.data.k_tfm, needs)
    if cfg.data.load_train_targets:
        needs = "reads the targets' training images, which no loss here trains on; set it False"
        yield SettingError("data.load_train_targets", True, needs)
    if train.start_epoch >= max(train.max_epoch, 1) and not cfg.model.resume:
        yield SettingError("train.start_epoch", train.start_epoch, f"no epoch is left below {train.max_epoch}")
    if train.fixbase_epoch > 0 and not train.open_layers:
        needs = f"names no layer to train in the first train.fixbase_epoch {train.fixbase_epoch} epochs"
        yield SettingError("train.open_layers", "[]", needs)
    if train.staged_lr and not train.new_layers:
        needs = "names no layer whose learning rate is train.lr, so that with train.staged_lr all would train below it"
        yield SettingError("train.new_layers", "[]", needs)
    if sampler.train_sampler == "RandomDatasetSampler" and sampler.num_datasets > len(cfg.data.sources):
        needs = f"draws a batch from so many data sets, and {len(cfg.data.sources)} is in data.sources"
        yield SettingError("sampler.num_datasets", sampler.num_datasets, needs)
