"""DRSL for person re-identification: the loss, and what Torchreid and FastReID need to train with it."""

from drsl_plugin.losses import DRSLoss, DRSLParts, drsl_loss

__all__ = ["DRSLParts", "DRSLoss", "drsl_loss"]
__version__ = "0.1.0"
