"""What stops a run of FastReID in its middle."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hosts import FastReID


def test_a_learning_rate_that_is_too_high(output: Path, host: FastReID) -> None:
    options = {"SOLVER.BASE_LR": 1e30, "SOLVER.WARMUP_ITERS": 0}
    message = host.refusal(output, **options)
    assert message.startswith("epoch 1, step 2: ")
    assert "loss_drsl" in message
    assert "a lower SOLVER.BASE_LR" in message
    assert "Traceback" not in (output / "log.txt").read_text(encoding="utf-8")


def test_a_bug_keeps_its_traceback(output: Path, host: FastReID, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(images: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError("of a team's own code")

    host.alter_images(monkeypatch, fail)
    with pytest.raises(ZeroDivisionError):
        host.run(output)
    assert "ZeroDivisionError: of a team's own code" in (output / "log.txt").read_text(encoding="utf-8")
