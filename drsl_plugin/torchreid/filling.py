"""How many images a Torchreid training has, and whether they fill a memory."""

from __future__ import annotations

from typing import Any

from drsl_plugin.losses import DRSLoss
from drsl_plugin.losses.filling import too_few_images
from drsl_plugin.losses.settings import contradictions_between
from drsl_plugin.torchreid.keys import DRSL_KEYS
from drsl_plugin.torchreid.types import DataManager


def count_training_images(datamanager: DataManager) -> int | None:
    """Count the training images of all sources, in video the frames that one pass takes of them; None if unknown."""
    dataset: Any = getattr(datamanager.train_loader, "dataset", None)
    try:
        return len(dataset) * int(getattr(dataset, "seq_len", 1))
    except TypeError:
        return None


def check_fresh_memory(criterion: DRSLoss, datamanager: DataManager) -> None:
    """Check that there is a memory to fill, and that the training images fill it.

    Raises:
        SettingError: no memory, or one with room for more than there are.
    """
    size = 0 if criterion.memory is None else criterion.memory.size
    for error in contradictions_between({"memory_size": size}, {"memory_fill": "fresh"}):
        raise error.named(DRSL_KEYS.dotted(error.setting))
    images = count_training_images(datamanager)
    if images is not None:
        for error in too_few_images(criterion, images):
            raise error.named(DRSL_KEYS.dotted(error.setting))
