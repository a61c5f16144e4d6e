"""One seed, from which every epoch's random numbers follow: a resumed run has no others than an uninterrupted one."""

from __future__ import annotations

from typing import Any

import numpy as np

from drsl_plugin.fastreid.host import fastreid


def chosen_seed(cfg: Any) -> int:
    """Return ``SEED``, or one at random, the same in every process, where it is below 0 or not in the configuration.

    Cause (F10): FastReID has no setting for it, and seeds from the process and the clock; all distributions. To see it
    gone: ``test_stock_setup_seeds_by_the_clock``.
    """
    seed = int(cfg.get("SEED", -1))
    return seed if seed >= 0 else int(fastreid.utils.comm.shared_random_seed())


def seed_process(seed: int, *numbers: int) -> None:
    """Seed Python, numpy and torch, in each process differently.

    Args:
        seed: the run's seed.
        *numbers: what else decides, the epoch among others.
    """
    fastreid.utils.env.seed_all_rng(mixed(seed, *numbers, fastreid.utils.comm.get_rank()))


def start_epoch_of_data(trainer: Any, seed: int, epoch: int) -> None:
    """Start the stream of batches anew, from a seed of this epoch (F11).

    Cause: FastReID's samplers are endless streams that start from the beginning in a resumed run, which sees the first
    epochs' batches again; all distributions. To see it gone: ``test_stock_sampler_starts_again``.

    Args:
        trainer: FastReID's ``SimpleTrainer`` or ``AMPTrainer``.
        seed: the run's seed.
        epoch: from 0.
    """
    loader = trainer.data_loader
    if hasattr(loader, "shutdown"):  # FastReID's loader on CUDA, which reads ahead in a thread
        loader.shutdown()
    seed_process(seed, epoch + 1)
    for transform in getattr(getattr(loader.dataset, "transform", None), "transforms", []):
        if hasattr(transform, "patchpool"):  # RandomPatch: empty at the start of a resumed run, too
            transform.patchpool.clear()
    sampler: Any = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    if hasattr(sampler, "_seed"):
        sampler._seed = mixed(seed, epoch + 1)  # the same in every process: each takes its share of one stream
    trainer._data_loader_iter = iter(loader)


def end_data(trainer: Any) -> None:
    """Let go of the stream of batches, and with it of the loader's workers."""
    if hasattr(trainer.data_loader, "shutdown"):
        trainer.data_loader.shutdown()
    trainer._data_loader_iter = None


def mixed(*numbers: int) -> int:
    """Mix numbers into one seed below 2³¹."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0]) >> 1
