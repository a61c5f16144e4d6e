"""What a training step is checked for: outputs that a ranking loss can use, and values that are finite."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from drsl_plugin.errors import DRSLError
from drsl_plugin.torchreid.types import Engine, Features


def split_outputs(outputs: object) -> tuple[Features, Features]:
    """Return logits and features of what a model returns in training.

    Raises:
        DRSLError: it is no pair of them.
    """
    if not isinstance(outputs, (tuple, list)) or len(outputs) != 2:
        raise DRSLError(
            "the model returns no pair of logits and features: build it with loss='drsl' after "
            "drsl_plugin.torchreid.register(), or with loss='triplet'"
        )
    return outputs[0], outputs[1]


def list_features(features: Features) -> Sequence[Tensor]:
    """Return the features of a model one by one."""
    return [features] if isinstance(features, Tensor) else features


def check_finite(engine: Engine, summary: dict[str, float]) -> None:
    """Stop where a loss is not finite.

    Raises:
        DRSLError: names the epoch, the step and the values.
    """
    if all(map(math.isfinite, summary.values())):
        return
    values = ", ".join(f"{name} {value:.4g}" for name, value in summary.items())
    step = getattr(engine, "batch_idx", 0) + 1
    raise DRSLError(
        f"epoch {engine.epoch + 1}, step {step}: NaN or infinity in the embeddings ({values}); "
        "a lower train.lr, or a checkpoint from before, may help"
    )
