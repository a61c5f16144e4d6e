"""``register()`` makes Torchreid know DRSL; ``unregister()`` puts everything back."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from drsl_plugin.losses import DRSLoss
from drsl_plugin.toolbox.patching import replaced_all
from drsl_plugin.torchreid.engines import ImageDRSLEngine, VideoDRSLEngine
from drsl_plugin.torchreid.host import torchreid

_registered = contextlib.ExitStack()
_is_registered = False


def register() -> None:
    """Make Torchreid know DRSL; a second call changes nothing.

    From then on ``torchreid.losses.DRSLoss``, ``torchreid.engine.ImageDRSLEngine`` and
    ``torchreid.engine.VideoDRSLEngine`` exist, and ``torchreid.models.build_model(..., loss='drsl')`` builds the model
    that returns logits and features.

    Example:
        >>> import torchreid
        >>> from drsl_plugin.torchreid import register, unregister
        >>> register()
        >>> model = torchreid.models.build_model("osnet_x0_25", num_classes=10, loss="drsl", pretrained=False)
        >>> model.loss
        'triplet'
        >>> unregister()
        >>> hasattr(torchreid.losses, "DRSLoss")
        False
    """
    global _is_registered
    if _is_registered:
        return
    _is_registered = True
    _registered.enter_context(
        replaced_all(
            (torchreid.losses, "DRSLoss", DRSLoss),
            (torchreid.engine, "ImageDRSLEngine", ImageDRSLEngine),
            (torchreid.engine, "VideoDRSLEngine", VideoDRSLEngine),
            (torchreid.models, "build_model", _teach_drsl(torchreid.models.build_model)),
        )
    )


def unregister() -> None:
    """Put back what :func:`register` changed; without one before, changes nothing."""
    global _is_registered
    _registered.close()
    _is_registered = False


def _teach_drsl(build_model: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    @functools.wraps(build_model)
    def build(name: str, num_classes: int, loss: str = "softmax", *args: Any, **kwargs: Any) -> nn.Module:
        # "triplet" is Torchreid's word for a model that returns logits and features; any other name than it and
        # "softmax" fails at the first forward.
        return build_model(name, num_classes, "triplet" if loss == "drsl" else loss, *args, **kwargs)

    return build
