"""How a run of FastReID is stopped in its middle."""

from __future__ import annotations

from typing import Any

import pytest

from drsl_plugin.fastreid.trainer import DRSLTrainer

STEPS = 4  # of an epoch of the smallest run


def interrupt_at(patch: pytest.MonkeyPatch, step: int, reason: BaseException) -> None:
    """Stop as Ctrl-C or an error of the data would, after a step counted from 1."""
    run_step = DRSLTrainer.run_step

    def interrupted(self: Any) -> None:
        run_step(self)
        if self.iter + 1 == step:
            raise reason

    patch.setattr(DRSLTrainer, "run_step", interrupted)
