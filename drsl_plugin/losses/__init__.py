"""DRSL itself, in pure PyTorch: no toolbox, no file, no print."""

from drsl_plugin.losses.distributed import distributed_drsl_loss
from drsl_plugin.losses.functional import DRSLParts, drsl_loss
from drsl_plugin.losses.module import DRSLoss

__all__ = ["DRSLParts", "DRSLoss", "distributed_drsl_loss", "drsl_loss"]
