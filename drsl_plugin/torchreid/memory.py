"""The memory of earlier embeddings and the number of training images: what share of them, and whether they fill it."""

from __future__ import annotations

from typing import Any

from drsl_plugin.errors import SettingError
from drsl_plugin.losses import DRSLoss
from drsl_plugin.losses.filling import too_few_images
from drsl_plugin.torchreid.keys import DRSL_KEYS
from drsl_plugin.torchreid.types import DataManager


def count_training_images(datamanager: DataManager) -> int | None:
    """Count the training images of all sources, in video the frames that one pass takes of them; None if unknown."""
    dataset: Any = getattr(datamanager.train_loader, "dataset", None)
    try:
        return len(dataset) * _count_frames(datamanager.train_loader)
    except TypeError:
        return None


def _count_frames(loader: Any) -> int:
    """Count the images that a sample has: one, or in video the frames that are taken of a tracklet."""
    return int(getattr(loader.dataset, "seq_len", 1))


def make_memory(criterion: DRSLoss, datamanager: DataManager) -> None:
    """Make the memory of a loss whose size is a share of the training images; leave any other loss as it is.

    Raises:
        SettingError: the data manager does not tell how many there are.
    """
    if not criterion.lacks_memory:
        return
    loader: Any = datamanager.train_loader
    setting, share = DRSL_KEYS.dotted("memory_share"), criterion.memory_share
    images = count_training_images(datamanager)
    if images is None:
        raise SettingError(setting, share, "a share of how many? the training loader does not say; use memory_size")
    batch = getattr(getattr(loader, "batch_sampler", None), "batch_size", 1)
    size = criterion.make_memory(images, batch * _count_frames(loader))
    print(f"{setting} {share} of {images} training images: a memory of {size} embeddings")


def check_fresh_memory(criterion: DRSLoss, datamanager: DataManager) -> None:
    """Check that the training images fill the memory of a loss, where it has one.

    Raises:
        SettingError: it has room for more than there are.
    """
    images = count_training_images(datamanager)
    if images is not None:
        for error in too_few_images(criterion, images):
            raise error.named(DRSL_KEYS.dotted(error.setting))
