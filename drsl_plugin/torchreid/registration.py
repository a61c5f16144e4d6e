"""``register()`` makes Torchreid know DRSL; ``unregister()`` puts everything back."""

from __future__ import annotations

import functools
from typing import Any

from drsl_plugin.losses import DRSLoss
from drsl_plugin.torchreid.engines import ImageDRSLEngine, VideoDRSLEngine
from drsl_plugin.torchreid.host import torchreid

_ABSENT = object()
_replaced: list[tuple[Any, str, Any]] = []


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
    if _replaced:
        return
    _replace(torchreid.losses, "DRSLoss", DRSLoss)
    _replace(torchreid.engine, "ImageDRSLEngine", ImageDRSLEngine)
    _replace(torchreid.engine, "VideoDRSLEngine", VideoDRSLEngine)
    _replace(torchreid.models, "build_model", _knowing_drsl(torchreid.models.build_model))


def unregister() -> None:
    """Put back what :func:`register` changed; without one before, changes nothing."""
    while _replaced:
        owner, name, before = _replaced.pop()
        if before is _ABSENT:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


def _replace(owner: Any, name: str, value: Any) -> None:
    _replaced.append((owner, name, getattr(owner, name, _ABSENT)))
    setattr(owner, name, value)


def _knowing_drsl(build_model: Any) -> Any:
    @functools.wraps(build_model)
    def build(name: str, num_classes: int, loss: str = "softmax", *args: Any, **kwargs: Any) -> Any:
        # "triplet" is Torchreid's word for a model that returns logits and features; any other name than it and
        # "softmax" fails at the first forward.
        return build_model(name, num_classes, "triplet" if loss == "drsl" else loss, *args, **kwargs)

    return build
