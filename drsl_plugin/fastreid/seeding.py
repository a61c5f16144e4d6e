"""One seed, from which every epoch's random numbers follow: a resumed run has no others than an uninterrupted one."""

from __future__ import annotations

from typing import Any

import numpy as np

from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.types import Loop
from drsl_plugin.toolbox.streams import find_patch_pools
from drsl_plugin.toolbox.types import ConfigNode


def choose_seed(cfg: ConfigNode) -> int:
    """Return ``SEED``, or one at random, the same in every process, where it is below 0 or not in the configuration.

    Cause (F10): FastReID has no setting for it, and seeds from the process and the clock; all distributions. To see it
    gone: ``test_stock_setup_seeds_by_the_clock``.
    """
    seed = int(cfg.SEED) if "SEED" in cfg else -1
    return seed if seed >= 0 else int(fastreid.utils.comm.shared_random_seed())


def seed_process(seed: int, *numbers: int) -> None:
    """Seed Python, numpy and torch, in each process differently.

    Args:
        seed: the run's seed.
        *numbers: what else decides, the epoch among others.
    """
    fastreid.utils.env.seed_all_rng(derive_seed(seed, *numbers, fastreid.utils.comm.get_rank()))


def start_epoch_of_data(trainer: Loop, seed: int, epoch: int) -> None:
    """Start the stream of batches anew, from a seed of this epoch (F11).

    Cause: FastReID's samplers are endless streams that start from the beginning in a resumed run, which sees the first
    epochs' batches again; all distributions. To see it gone: ``test_stock_sampler_starts_again``.

    Args:
        trainer: FastReID's ``SimpleTrainer`` or ``AMPTrainer``.
        seed: the run's seed.
        epoch: from 0.
    """
    loader: Any = trainer.data_loader
    if hasattr(loader, "shutdown"):  # FastReID's loader on CUDA, which reads ahead in a thread
        loader.shutdown()
    seed_process(seed, epoch + 1)
    for pool in find_patch_pools(getattr(loader.dataset, "transform", None)):
        pool.clear()  # empty at the start of a resumed run, too
    sampler = find_sampler(loader)
    if hasattr(sampler, "_seed"):
        sampler._seed = derive_seed(seed, epoch + 1)  # the same in every process: each takes its share of one stream
    trainer._data_loader_iter = iter(loader)


def find_sampler(loader: object) -> Any:
    """Return the sampler of a loader's images, or None."""
    return getattr(getattr(loader, "batch_sampler", None), "sampler", None)


def end_data(trainer: Loop) -> None:
    """Let go of the stream of batches, and with it of the loader's workers."""
    loader: Any = trainer.data_loader
    if hasattr(loader, "shutdown"):
        loader.shutdown()
    trainer._data_loader_iter = None


def derive_seed(*numbers: int) -> int:
    """Derive one seed, below 2³¹, from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0]) >> 1
