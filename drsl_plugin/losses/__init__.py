"""DRSL itself, in pure PyTorch: no toolbox, no file, no print."""

from drsl_plugin.losses.distributed import distributed_drsl_loss
from drsl_plugin.losses.features import FeatureLosses
from drsl_plugin.losses.functional import DRSLParts, drsl_loss
from drsl_plugin.losses.memory import EmbeddingMemory
from drsl_plugin.losses.module import DRSLoss
from drsl_plugin.losses.schedules import TemperatureSchedule
from drsl_plugin.losses.two_stage import TwoStage

__all__ = [
    "DRSLParts",
    "DRSLoss",
    "EmbeddingMemory",
    "FeatureLosses",
    "TemperatureSchedule",
    "TwoStage",
    "distributed_drsl_loss",
    "drsl_loss",
]
