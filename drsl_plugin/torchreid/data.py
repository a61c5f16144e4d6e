"""The data of a run, by Torchreid's own data managers, with what only the data can tell."""

from __future__ import annotations

import functools

from drsl_plugin.errors import SettingError
from drsl_plugin.toolbox.types import ConfigNode
from drsl_plugin.torchreid.dataset_problems import datasets, unread_data
from drsl_plugin.torchreid.host import torchreid
from drsl_plugin.torchreid.kwargs import data_kwargs
from drsl_plugin.torchreid.reading import checked_sets, loaders, prepare_worker, read_set
from drsl_plugin.torchreid.targets import prepare_targets
from drsl_plugin.torchreid.training_problems import IDENTITY_SAMPLER
from drsl_plugin.torchreid.types import DataManager


def build_datamanager(cfg: ConfigNode) -> DataManager:
    """Read the data sets.

    Raises:
        SettingError: a folder or a split that is not there, a batch that they cannot fill, or a target that cannot be
            evaluated.
    """
    kind = torchreid.data.ImageDataManager if cfg.data.type == "image" else torchreid.data.VideoDataManager
    for line in unread_data(cfg):
        print(line)
    try:
        with checked_sets(cfg):
            datamanager: DataManager = kind(**data_kwargs(cfg))
    except AssertionError as error:
        _check_identities(cfg)
        reason = str(error) or f"Torchreid's own check of it failed with train.batch_size {cfg.train.batch_size}"
        raise SettingError("sampler.train_sampler", cfg.sampler.train_sampler, reason) from error
    if len(datamanager.train_loader) == 0 and not cfg.test.evaluate:
        images = len(datamanager.train_loader.dataset)  # type: ignore[arg-type]  # each of Torchreid's has a length
        needs = f"no batch can be filled from {images} training images"
        raise SettingError("train.batch_size", cfg.train.batch_size, needs)
    prepare_targets(datamanager, cfg.data.targets, trains=not cfg.test.evaluate)
    for loader in loaders(datamanager):
        loader.worker_init_fn = prepare_worker
    return datamanager


def _check_identities(cfg: ConfigNode) -> None:
    """Say that there are too few identities for a batch; Torchreid's sampler only asserts it."""
    if cfg.sampler.train_sampler != IDENTITY_SAMPLER:
        return
    batch, instances = cfg.train.batch_size, cfg.sampler.num_instances
    options = data_kwargs(cfg)
    names = options.pop("sources")
    read = functools.partial(read_set, lambda name, **kwargs: datasets(cfg)[name](**kwargs), cfg)
    sets = (read(name, **options, transform=lambda image: image, mode="train", verbose=False) for name in names)
    found = sum(each.num_train_pids for each in sets)
    if found < batch // instances:
        raise SettingError(
            "train.batch_size",
            batch,
            f"needs {batch // instances} identities (sampler.num_instances {instances} images of each), and "
            f"{', '.join(names)} has {found}; at most {found * instances} would do",
        )
