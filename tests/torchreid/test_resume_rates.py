"""Rates of staged layers and settings of each optimizer after a resume: those of a run that was never stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import content
from hosts import Torchreid
from rates import assert_same_rates, train, train_in_two
from tiny import tiny

from drsl_plugin.errors import SettingError
from drsl_plugin.runs.checkpoint_files import load
from drsl_plugin.toolbox.going_on import SETTINGS
from drsl_plugin.torchreid.checkpoints import resume

Settings = dict[str, Any]
STAGED = {"train.staged_lr": True, "train.new_layers": ["classifier"], "train.lr_scheduler": "cosine"}

STAGES: dict[str, tuple[Settings, Settings, str]] = {
    "a longer cosine": (
        {"train.max_epoch": 3, "train.lr": 0.03},
        {"train.max_epoch": 5, "train.lr": 0.03},
        "train.max_epoch 3 -> 5",
    ),
    "another rate": ({"train.lr": 0.02}, {"train.lr": 0.03}, "train.lr 0.02 -> 0.03"),
    "another share": ({"train.base_lr_mult": 0.1}, {"train.base_lr_mult": 0.3}, "train.base_lr_mult 0.1 -> 0.3"),
    "a step of one length": (
        {"train.lr_scheduler": "single_step", "train.stepsize": [1]},
        {"train.lr_scheduler": "single_step", "train.stepsize": [2]},
        "train.stepsize 1 -> 2",
    ),
}


@pytest.mark.parametrize(("before", "now", "changes"), STAGES.values(), ids=STAGES)
def test_staged_rates_are_those_of_an_uninterrupted_run(
    before: Settings, now: Settings, changes: str, host: Torchreid, tmp_path: Path
) -> None:
    before, now = ({**tiny(host), **STAGED, "train.max_epoch": 5, **settings} for settings in (before, now))
    expected, rates = train_in_two(host, tmp_path, 2, before=before, now=now)
    assert_same_rates(host, tmp_path, expected, rates)
    assert all(len(set(step)) == 2 for step in expected.steps[:1])
    (line,) = rates.told
    assert line.startswith(f"Changed since the checkpoint: {changes}; the learning rate goes on as in a run")


@pytest.mark.parametrize(
    ("optimizer", "settings", "name", "value", "told"),
    [
        ("adam", {"adam.beta1": 0.8}, "betas", (0.8, 0.999), "adam.beta1 0.9 -> 0.8"),
        ("amsgrad", {"train.weight_decay": 0.01}, "weight_decay", 0.01, "train.weight_decay 0.0005 -> 0.01"),
        ("radam", {"adam.beta2": 0.9}, "betas", (0.9, 0.9), "adam.beta2 0.999 -> 0.9"),
        ("rmsprop", {"rmsprop.alpha": 0.9}, "alpha", 0.9, "rmsprop.alpha 0.99 -> 0.9"),
        ("sgd", {"sgd.dampening": 0.1}, "dampening", 0.1, "sgd.dampening 0 -> 0.1"),
        ("sgd", {"sgd.nesterov": True}, "nesterov", True, "sgd.nesterov False -> True"),
    ],
)
def test_settings_of_an_optimizer_hold(
    optimizer: str, settings: Settings, name: str, value: object, told: str, host: Torchreid, tmp_path: Path
) -> None:
    folder, first = tmp_path / "run", {**tiny(host), "train.optim": optimizer, "train.lr": 0.001}
    train(host, folder, **first)
    rates = train(host, folder, **{**first, **settings, "train.max_epoch": 2}, resume=True)
    assert rates.told == [f"Changed since the checkpoint: {told}; this holds from now on"]
    assert rates.steps[0] == [0.001]
    assert load(host.checkpoint(folder), "")["optimizer"]["param_groups"][0][name] == value


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({}, STAGED, "(train.staged_lr False -> True)"),
        (STAGED, {"train.staged_lr": False}, "(train.staged_lr True -> False)"),
        (STAGED, {**STAGED, "train.new_layers": ["body"]}, "(train.new_layers ['classifier'] -> ['body'])"),
    ],
)
def test_other_stages_do_not_go_on(
    before: Settings, now: Settings, told: str, host: Torchreid, trained: Callable[..., Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(trained(**tiny(host), **before), tmp_path / "run")
    before_it = content(folder)
    error = host.refusal(folder, **{**tiny(host), **now, "train.max_epoch": 2}, resume=True)
    path = host.checkpoint(folder)
    assert error.startswith(f"model.resume {path}: the state of other groups of parameters than train.staged_lr and ")
    assert told in error
    assert content(folder) == before_it


def test_an_evaluation_of_a_checkpoint_changes_nothing_and_tells_of_nothing(
    host: Torchreid, trained: Callable[..., Path], tmp_path: Path
) -> None:
    folder = trained(**tiny(host))
    now = {**tiny(host), "train.optim": "adam", "train.lr": 0.3, "train.seed": 7, "test.evaluate": True}
    assert train(host, tmp_path / "run", **now, resume=host.checkpoint(folder)).told == []


def test_stages_of_the_same_shapes_do_not_go_on(tmp_path: Path) -> None:
    """The momentum of the one layer would be the other's, and nothing would say so."""
    model = torch.nn.ModuleDict({"first": torch.nn.Linear(2, 2), "second": torch.nn.Linear(2, 2)})
    optimizer = torch.optim.SGD([{"params": list(layer.parameters())} for layer in model.values()], lr=0.1)
    stages = {"train.staged_lr": True, "train.new_layers": ["second"]}
    states = {"state_dict": model.state_dict(), "epoch": 1, "optimizer": optimizer.state_dict(), SETTINGS: stages}
    torch.save(states, tmp_path / "saved")
    resume(tmp_path / "saved", model, optimizer, settings=stages)
    with pytest.raises(SettingError, match=r"train\.new_layers \['second'\] -> \['first'\]"):
        resume(tmp_path / "saved", model, optimizer, settings={**stages, "train.new_layers": ["first"]})
