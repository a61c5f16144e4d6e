"""DRSL for person re-identification: the loss, and its engines and presets for Torchreid and FastReID."""

__version__ = "0.1.0"
