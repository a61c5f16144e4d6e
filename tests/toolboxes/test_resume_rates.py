"""A run that goes on with other settings has the learning rates of one that had them from its first epoch on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from comparing import unequal
from hosts import Host
from rates import SCHEDULES, assert_same_rates, schedules, train, train_in_two
from tiny import Body, Tiny, tiny

from drsl_plugin.runs.checkpoint_files import load
from drsl_plugin.toolbox.going_on import SETTINGS

HOLDS = "; the learning rate goes on as in a run that had this from its first epoch on"
COSINE, STEPS = {"schedule": "cosine"}, {"schedule": "steps", "milestones": "[1, 3]"}
Settings = dict[str, Any]

# How many epochs it had, its settings then, those now, and what is told of them.
CHANGED: dict[str, tuple[int, Settings, Settings, str]] = {
    "a longer cosine": (4, {**COSINE, "epochs": 4}, {**COSINE, "epochs": 8}, "{epochs} 4 -> 8"),
    "a shorter one": (2, {**COSINE, "epochs": 9}, {**COSINE, "epochs": 5}, "{epochs} 9 -> 5"),
    "another rate": (2, {**COSINE, "lr": 0.02}, {**COSINE, "lr": 0.04}, "{lr} 0.02 -> 0.04"),
    "another rate of steps": (2, {**STEPS, "lr": 0.02}, {**STEPS, "lr": 0.04}, "{lr} 0.02 -> 0.04"),
    "a step put off": (2, STEPS, {**STEPS, "milestones": "[3, 4]"}, "{milestones} [1, 3] -> [3, 4]"),
    "another factor": (2, {**STEPS, "gamma": 0.1}, {**STEPS, "gamma": 0.5}, "{gamma} 0.1 -> 0.5"),
    "a cosine in place of steps": (2, STEPS, COSINE, "{schedule} {steps} -> {cosine}"),
    "steps in place of a cosine": (2, COSINE, STEPS, "{schedule} {cosine} -> {steps}"),
    "two at once": (
        2,
        {**COSINE, "lr": 0.02},
        {**COSINE, "epochs": 6, "lr": 0.04},
        "{lr} 0.02 -> 0.04, {epochs} 5 -> 6",
    ),
}


def named(host: Host, text: str) -> str:
    keys = {name: host.key(name) for name in ("epochs", "lr", "gamma", "milestones", "schedule", "momentum")}
    return text.format(**keys, **{name: settings[keys["schedule"]] for name, settings in host.schedules.items()})


@pytest.mark.parametrize(("behind", "before", "now", "changes"), CHANGED.values(), ids=CHANGED)
def test_the_rates_are_those_of_an_uninterrupted_run(
    behind: int, before: Settings, now: Settings, changes: str, host: Host, tmp_path: Path
) -> None:
    before, now = ({**tiny(host), "epochs": 5, **settings} for settings in (before, now))
    expected, rates = train_in_two(host, tmp_path, behind, before=before, now=now)
    assert len({str(each) for each in expected.steps}) > 1
    assert_same_rates(host, tmp_path, expected, rates)
    (line,) = rates.told
    assert line.endswith(f"Changed since the checkpoint: {named(host, changes)}{HOLDS}")


@pytest.mark.parametrize(
    ("now", "changes"),
    [({}, None), ({"epochs": 4}, None), ({"momentum": 0.5}, "{momentum} {before} -> 0.5; this holds from now on")],
    ids=["nothing", "more epochs of steps", "the optimizer"],
)
def test_what_changes_no_rate(now: Settings, changes: str | None, host: Host, tmp_path: Path) -> None:
    before = {**tiny(host), **STEPS, "epochs": 3, "momentum": 0.9}
    expected, rates = train_in_two(host, tmp_path, 2, before=before, now={**before, **now})
    assert_same_rates(host, tmp_path, expected, rates)
    assert [line.partition("checkpoint: ")[2] for line in rates.told] == (
        [] if changes is None else [changes.format(momentum=host.key("momentum"), before=0.9)]
    )


# Checkpoints that know nothing of their settings

STOCK = {
    "torchreid": {"state_dict", "epoch", "rank1", "optimizer", "scheduler"},
    "fastreid": {"model", "optimizer", "lr_sched", "warmup_sched", "epoch", "metric"},
}


def keep_what_stock_has(host: Host, path: Path, *, schedule: bool = True) -> None:
    kept = {name: state for name, state in load(path, "").items() if name in STOCK[host.name]}
    for name in SCHEDULES if not schedule else ():
        kept.pop(name, None)
    torch.save(kept, path)


@pytest.fixture
def cosine(host: Host, trained: Callable[..., Path], tmp_path: Path) -> Path:
    """The folder of a run of three epochs, a copy for the test."""
    return shutil.copytree(trained(**tiny(host), **COSINE, epochs=3), tmp_path / "run")


@pytest.mark.parametrize("schedule", [True, False], ids=["with its schedule", "without"])
def test_a_checkpoint_of_the_stock_toolbox(schedule: bool, host: Host, cosine: Path, tmp_path: Path) -> None:
    now = {**tiny(host), **COSINE, "epochs": 5, "lr": 0.04}
    keep_what_stock_has(host, host.checkpoint(cosine), schedule=schedule)
    rates = train(host, cosine, **now, resume=True)
    expected = train(host, tmp_path / "whole", **now)
    assert rates.steps == expected.steps[-len(rates.steps) :]
    assert unequal(schedules(host, cosine), schedules(host, tmp_path / "whole")) == []
    lr = tiny(host)[host.key("lr")]
    text = f"{{lr}} {lr} -> 0.04, " + ("{epochs} 3 -> 5" if schedule else "{schedule} none -> {cosine}")
    (line,) = rates.told
    assert line.endswith(named(host, text) + HOLDS)


def test_the_stock_toolbox_keeps_the_old_schedule(host: Host, cosine: Path) -> None:
    """It reads a checkpoint of ours, and leaves its settings alone.

    When this fails, the toolbox lets a longer run have a schedule of its own, and ``go_on_as_set`` can go.
    """
    path = host.checkpoint(cosine)
    saved = load(path, "")
    assert SETTINGS in saved
    sizes = [len(group["params"]) for group in saved["optimizer"]["param_groups"]]
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1)) for _ in range(size)]} for size in sizes]
    optimizer = torch.optim.SGD(groups, lr=0.04)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)
    if host.name == "torchreid":
        model = Tiny(len(saved["state_dict"]["classifier.bias"]), "triplet")
        assert host.package.utils.resume_from_checkpoint(str(path), model, optimizer, scheduler) == 3
    else:
        checkpointer = host.package.utils.checkpoint.Checkpointer(Body(), optimizer=optimizer, lr_sched=scheduler)
        assert checkpointer.load(str(path))["epoch"] == 2
    assert scheduler.T_max == 3
    assert optimizer.param_groups[0]["initial_lr"] == tiny(host)[host.key("lr")]


# What a checkpoint takes the part of


def test_a_seed_and_weights_that_are_not_used_are_told_and_not_recorded(
    host: Host, cosine: Path, tmp_path: Path
) -> None:
    now, expected = {**tiny(host), **COSINE, "epochs": 4, "seed": 7}, [f"{host.key('seed')} 7"]
    if host.name == "fastreid":  # Torchreid's command refuses both at once
        weights = shutil.copytree(cosine, tmp_path / "whole") / "model_final.pth"
        now[host.key("weights")] = weights
        expected.append(f"{host.key('weights')} {weights}")
    told = [line.partition(" is not used")[0] for line in train(host, cosine, **now, resume=True).told[1:]]
    assert [line.rpartition(": ")[2] for line in told] == expected
    config = yaml.safe_load((cosine / "config.yaml").read_text())
    assert [value_of(config, host.key(name)) for name in ("seed", "weights")] == [1, ""]


def value_of(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = config[name]
    return config
