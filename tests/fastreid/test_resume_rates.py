"""Warm-up, delay and rates of groups of their own after a resume: those of a run that was never stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import content
from hosts import FastReID
from rates import assert_same_rates, train, train_in_two
from stopping import STEPS
from tiny import tiny

from drsl_plugin.fastreid.config import get_cfg
from drsl_plugin.fastreid.going_on import MAIN, WARMUP, RunSettings, go_on_as_set
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.trainer import DRSLTrainer
from drsl_plugin.toolbox.going_on import SETTINGS

Settings = dict[str, Any]
WARM = STEPS + 2
COSINE, MILESTONES = {"SOLVER.SCHED": "CosineAnnealingLR"}, {"SOLVER.SCHED": "MultiStepLR", "SOLVER.STEPS": "[2, 4]"}
OWN_RATES = {"SOLVER.BIAS_LR_FACTOR": 2.0, "SOLVER.HEADS_LR_FACTOR": 0.5}

# The settings of the first two epochs, those from then on, and what is told of them.
CHANGED: dict[str, tuple[Settings, Settings, str]] = {
    "a longer cosine after a warm-up": (
        {**COSINE, "SOLVER.WARMUP_ITERS": 2, "SOLVER.MAX_EPOCH": 4},
        {**COSINE, "SOLVER.WARMUP_ITERS": 2, "SOLVER.MAX_EPOCH": 6},
        "SOLVER.MAX_EPOCH 4 -> 6",
    ),
    "a longer cosine and rates of groups": (
        {**COSINE, **OWN_RATES, "SOLVER.WARMUP_ITERS": 2, "SOLVER.MAX_EPOCH": 4, "SOLVER.BASE_LR": 0.1},
        {**COSINE, **OWN_RATES, "SOLVER.WARMUP_ITERS": 2, "SOLVER.MAX_EPOCH": 6, "SOLVER.BASE_LR": 0.2},
        "SOLVER.BASE_LR 0.1 -> 0.2, SOLVER.MAX_EPOCH 4 -> 6",
    ),
    "other factors": (
        {**MILESTONES, **OWN_RATES},
        {**MILESTONES, "SOLVER.BIAS_LR_FACTOR": 3.0, "SOLVER.HEADS_LR_FACTOR": 0.25},
        "SOLVER.BIAS_LR_FACTOR 2 -> 3, SOLVER.HEADS_LR_FACTOR 0.5 -> 0.25",
    ),
    "another least rate": (
        {**COSINE, "SOLVER.ETA_MIN_LR": 0.001},
        {**COSINE, "SOLVER.ETA_MIN_LR": 0.01},
        "SOLVER.ETA_MIN_LR 0.001 -> 0.01",
    ),
    "another rate within a warm-up": (
        {**COSINE, "SOLVER.WARMUP_ITERS": 3 * STEPS, "SOLVER.BASE_LR": 0.1},
        {**COSINE, "SOLVER.WARMUP_ITERS": 3 * STEPS, "SOLVER.BASE_LR": 0.2},
        "SOLVER.BASE_LR 0.1 -> 0.2",
    ),
    "a warm-up that is over goes on": (
        {**MILESTONES, "SOLVER.WARMUP_ITERS": WARM},
        {**MILESTONES, "SOLVER.WARMUP_ITERS": 3 * STEPS + 1},
        f"SOLVER.WARMUP_ITERS {WARM} -> {3 * STEPS + 1}",
    ),
    "a warm-up ends sooner": (
        {**COSINE, "SOLVER.WARMUP_ITERS": 3 * STEPS + 1},
        {**COSINE, "SOLVER.WARMUP_ITERS": STEPS},
        f"SOLVER.WARMUP_ITERS {3 * STEPS + 1} -> {STEPS}",
    ),
    "a warm-up that there was not": (
        {**COSINE, "SOLVER.WARMUP_ITERS": 0},
        {**COSINE, "SOLVER.WARMUP_ITERS": 3 * STEPS},
        f"SOLVER.WARMUP_ITERS 0 -> {3 * STEPS}",
    ),
    "no warm-up any more": (
        {**COSINE, "SOLVER.WARMUP_ITERS": 3 * STEPS},
        {**COSINE, "SOLVER.WARMUP_ITERS": 0},
        f"SOLVER.WARMUP_ITERS {3 * STEPS} -> 0",
    ),
    "another kind of warm-up": (
        {**COSINE, "SOLVER.WARMUP_ITERS": 3 * STEPS, "SOLVER.WARMUP_METHOD": "constant"},
        {**COSINE, "SOLVER.WARMUP_ITERS": 3 * STEPS, "SOLVER.WARMUP_FACTOR": 0.2},
        "SOLVER.WARMUP_FACTOR 0.1 -> 0.2, SOLVER.WARMUP_METHOD constant -> linear",
    ),
    "a cosine that waits": (
        {**COSINE, "SOLVER.DELAY_EPOCHS": 0},
        {**COSINE, "SOLVER.DELAY_EPOCHS": 3},
        "SOLVER.DELAY_EPOCHS 0 -> 3",
    ),
    "a cosine that waits no more": (
        {**COSINE, "SOLVER.DELAY_EPOCHS": 3},
        {**COSINE, "SOLVER.DELAY_EPOCHS": 1},
        "SOLVER.DELAY_EPOCHS 3 -> 1",
    ),
    "steps that wait": (
        {**MILESTONES, "SOLVER.DELAY_EPOCHS": 0},
        {**MILESTONES, "SOLVER.DELAY_EPOCHS": 2},
        "SOLVER.DELAY_EPOCHS 0 -> 2",
    ),
}


@pytest.mark.parametrize(("before", "now", "changes"), CHANGED.values(), ids=CHANGED)
def test_the_rates_are_those_of_an_uninterrupted_run(
    before: Settings, now: Settings, changes: str, host: FastReID, tmp_path: Path
) -> None:
    before, now = ({**tiny(host), "SOLVER.MAX_EPOCH": 5, **settings} for settings in (before, now))
    expected, rates = train_in_two(host, tmp_path, 2, before=before, now=now)
    assert_same_rates(host, tmp_path, expected, rates)
    (line,) = rates.told
    told, _, holds = line.partition("Changed since the checkpoint: ")[2].partition("; ")
    assert sorted(told.split(", ")) == sorted(changes.split(", "))
    assert holds == "the learning rate goes on as in a run that had this from its first epoch on"


def test_groups_of_parameters_have_rates_of_their_own(host: FastReID, tmp_path: Path) -> None:
    """What the two cases above with factors rest on."""
    rates = train(host, tmp_path / "run", **{**tiny(host), **OWN_RATES, "SOLVER.BASE_LR": 0.1})
    assert sorted(set(rates.steps[0])) == [0.05, 0.1, 0.2]


def test_a_warm_up_goes_on_at_its_step_where_an_epoch_has_another_number_of_them(
    host: FastReID, trained: Callable[..., Path], tmp_path: Path
) -> None:
    settings = {**tiny(host), **MILESTONES, "SOLVER.WARMUP_ITERS": 20, "SOLVER.MAX_EPOCH": 5}
    smaller = {**settings, "SOLVER.IMS_PER_BATCH": 4}
    expected = train(host, tmp_path / "whole", **smaller)
    folder = shutil.copytree(trained(**{**settings, "SOLVER.MAX_EPOCH": 2}), tmp_path / "cut")
    rates = train(host, folder, **smaller, resume=True)
    assert rates.steps == expected.steps[-len(rates.steps) :]
    (line,) = rates.told
    assert f"steps in an epoch (SOLVER.IMS_PER_BATCH, DATASETS.NAMES) {STEPS} -> {2 * STEPS}" in line


def test_a_checkpoint_that_knows_no_settings_tells_them_by_its_states(
    host: FastReID, trained: Callable[..., Path], tmp_path: Path
) -> None:
    before, now, _ = CHANGED["a longer cosine and rates of groups"]
    folder = shutil.copytree(trained(**{**tiny(host), **before}), tmp_path / "cut")
    forget_settings(host, folder)
    expected = train(host, tmp_path / "whole", **{**tiny(host), **now})
    rates = train(host, folder, **{**tiny(host), **now}, resume=True)
    assert rates.steps == expected.steps[-len(rates.steps) :]
    (line,) = rates.told
    assert "checkpoint: SOLVER.BASE_LR 0.1 -> 0.2, SOLVER.MAX_EPOCH 4 -> 6; " in line


def forget_settings(host: FastReID, folder: Path) -> None:
    states = host.checkpoints(folder)["model_final.pth"]
    del states[SETTINGS]
    torch.save(states, folder / "model_final.pth")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"SOLVER.BIAS_LR_FACTOR": 2.0}, "(SOLVER.BIAS_LR_FACTOR 1 -> 2)"),
        ({"SOLVER.HEADS_LR_FACTOR": 2.0}, "(SOLVER.HEADS_LR_FACTOR 1 -> 2)"),
        ({"SOLVER.WEIGHT_DECAY": 0.1}, "(SOLVER.WEIGHT_DECAY 0 -> 0.1)"),
        (
            {"MODEL.FREEZE_LAYERS": '["heads"]', "SOLVER.FREEZE_ITERS": 3},
            "(MODEL.FREEZE_LAYERS [] -> ['heads'])",
        ),
    ],
)
@pytest.mark.parametrize("knows", [True, False], ids=["knows its settings", "does not"])
def test_groups_of_other_parameters_do_not_go_on(
    settings: Settings, told: str, knows: bool, host: FastReID, trained: Callable[..., Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(trained(**tiny(host)), tmp_path / "run")
    if not knows:
        forget_settings(host, folder)
    before = content(folder)
    error = host.refusal(folder, **{**tiny(host), "SOLVER.MAX_EPOCH": 2, **settings}, resume=True)
    assert error.startswith(f"--resume {folder / 'model_final.pth'}: the state of other groups of parameters than ")
    assert (told if knows else "(1 there, 2 in this run)") in error
    assert content(folder) == before


def test_momentum_of_other_shapes_does_not_go_on(host: FastReID, trained: Callable[..., Path], tmp_path: Path) -> None:
    """Two groups each, of other parameters: torch would take the state and fail at the first step."""
    settings = {**tiny(host), "SOLVER.MOMENTUM": 0.9}
    folder = shutil.copytree(trained(**{**settings, "SOLVER.BIAS_LR_FACTOR": 2.0}), tmp_path / "run")
    now = {**settings, "SOLVER.HEADS_LR_FACTOR": 2.0, "SOLVER.MAX_EPOCH": 2}
    error = host.refusal(folder, **now, resume=True)
    assert "(SOLVER.BIAS_LR_FACTOR 2 -> 1, SOLVER.HEADS_LR_FACTOR 1 -> 2)" in error


def test_a_schedule_of_a_team_goes_on_and_what_it_does_not_use_is_told(
    host: FastReID, trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = DRSLTrainer.build_lr_scheduler

    def build(cls: type, cfg: Any, optimizer: Any, steps: int) -> Any:
        return stock(cfg, optimizer, steps)

    monkeypatch.setattr(DRSLTrainer, "build_lr_scheduler", classmethod(build))
    settings = {**tiny(host), **MILESTONES, "SOLVER.BASE_LR": 0.1}
    folder = tmp_path / "run"
    train(host, folder, **settings)
    rates = train(host, folder, **{**settings, "SOLVER.BASE_LR": 0.2, "SOLVER.MAX_EPOCH": 2}, resume=True)
    assert rates.steps == [[0.1]] * STEPS
    (line,) = rates.told
    assert "SOLVER.BASE_LR 0.1 -> 0.2 is not used" in line
    error = host.refusal(folder, **{**settings, **COSINE, "SOLVER.MAX_EPOCH": 3}, resume=True)
    assert "the state of another schedule than CosineAnnealingLR" in error


# Mixed precision leaves out steps of a warm-up


@pytest.mark.parametrize(("warmup", "expected"), [(6, 4), (9, 6), (2, 0)])
def test_steps_of_a_warm_up_that_mixed_precision_left_out_stay_out(warmup: int, expected: int) -> None:
    """After 8 steps the warm-up of 6 stands at 4, since two had an overflow."""
    run, states, checkpoint = warmed_up(6, 4), warmed_up(warmup, 0), {"epoch": 1, "grad_scaler": {}}
    checkpoint |= {name: state.state_dict() for name, state in run.items()}
    cfg = get_cfg()
    cfg.SOLVER.WARMUP_ITERS = warmup
    list(go_on_as_set(checkpoint, states, RunSettings(cfg, STEPS, own_schedule=False)))
    states[WARMUP].load_state_dict(checkpoint.get(WARMUP, {}))
    assert states[WARMUP].last_epoch == expected


def warmed_up(iterations: int, taken: int) -> dict[str, Any]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    main = torch.optim.lr_scheduler.MultiStepLR(optimizer, [30, 55])
    warm = fastreid.solver.lr_scheduler.WarmupLR(optimizer, warmup_iters=iterations)
    for scheduler, steps in ((warm, taken), (main, 1)):
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
    return {"optimizer": optimizer, WARMUP: warm, MAIN: main}
