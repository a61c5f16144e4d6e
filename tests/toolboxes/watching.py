"""What the losses of a run are given."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from torch import Tensor

from drsl_plugin import DRSLoss


class Call(NamedTuple):
    """What a loss had, and got."""

    temperature: float
    kept: int
    """How many embeddings of earlier batches its memory had."""
    batch: int


def watch_losses(patch: pytest.MonkeyPatch) -> list[Call]:
    """Return the list to which each call of a loss is added."""
    calls: list[Call] = []
    forward = DRSLoss.forward

    def watched(self: Any, embeddings: Tensor, labels: Tensor, *args: Any, **kwargs: Any) -> Any:
        entries = self.memory.entries() if self.memory is not None else None
        calls.append(Call(self.temperature, 0 if entries is None else len(entries[0]), len(embeddings)))
        return forward(self, embeddings, labels, *args, **kwargs)

    patch.setattr(DRSLoss, "forward", watched)
    return calls
