"""The scale of gradients in mixed precision, which is a state of a run of FastReID too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import assert_equal_runs
from hosts import FastReID
from stopping import STEPS, interrupt_at

from drsl_plugin.fastreid import training
from drsl_plugin.fastreid.main import main
from drsl_plugin.fastreid.trainer import DRSLTrainer

pytestmark = pytest.mark.usefixtures("fastreid_root")


class ScaledTrainer(DRSLTrainer):
    """A trainer with a gradient scaler, as on CUDA, whose scale changes from step to step."""

    def build_hooks(self) -> list[Any]:
        self._trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=3)
        return super().build_hooks()

    def run_step(self) -> None:
        super().run_step()
        seen.append(self.grad_scaler.get_scale())
        stepped = torch.ones((), requires_grad=True)
        optimizer = torch.optim.SGD([stepped], lr=0.0)
        self.grad_scaler.scale(stepped * 1).backward()
        self.grad_scaler.step(optimizer)
        self.grad_scaler.update()


seen: list[float] = []


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The scale at each step."""
    if not hasattr(torch.amp, "GradScaler"):
        pytest.skip("torch has a gradient scaler for the CPU from 2.3 on")
    monkeypatch.setattr(training, "DRSLTrainer", ScaledTrainer)
    seen.clear()
    return seen


def test_the_scale_of_gradients_goes_on(
    scaled: list[float],
    tmp_path: Path,
    host: FastReID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"SOLVER.MAX_EPOCH": 3}
    main(host.options(tmp_path / "whole", **options))
    expected, scaled[:] = scaled[:], []
    assert expected[:8] == [2, 2, 2, 4, 4, 4, 8, 8]
    with monkeypatch.context() as patch:
        interrupt_at(patch, STEPS + 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            main(host.options(tmp_path / "cut", **options))
    scaled.clear()
    main(["--resume", *host.options(tmp_path / "cut", **options)])
    assert scaled == expected[STEPS:]
    assert_equal_runs(host, tmp_path / "cut", tmp_path / "whole")
    assert host.checkpoints(tmp_path / "cut")["model_final.pth"]["grad_scaler"]["scale"] == 32


def test_a_checkpoint_without_a_scale(scaled: list[float], tmp_path: Path, host: FastReID) -> None:
    main(host.options(tmp_path / "run"))
    states = host.checkpoints(tmp_path / "run")["model_final.pth"]
    del states["grad_scaler"]
    torch.save(states, tmp_path / "run" / "model_final.pth")
    scaled.clear()
    main(["--resume", *host.options(tmp_path / "run", **{"SOLVER.MAX_EPOCH": 2})])
    assert scaled == [2, 2, 2, 4]


def test_a_scale_that_is_not_needed(
    scaled: list[float],
    tmp_path: Path,
    host: FastReID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main(host.options(tmp_path / "run"))
    monkeypatch.setattr(training, "DRSLTrainer", DRSLTrainer)
    main(["--resume", *host.options(tmp_path / "run", **{"SOLVER.MAX_EPOCH": 2})])
    assert "grad_scaler" not in host.checkpoints(tmp_path / "run")["model_final.pth"]
