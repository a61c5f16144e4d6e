"""DRSL for person re-identification: the loss, and its engines and presets for Torchreid."""

from drsl_plugin.losses import DRSLoss, DRSLParts, drsl_loss

__all__ = ["DRSLParts", "DRSLoss", "drsl_loss"]
__version__ = "0.1.0"
