"""A run that goes on from a checkpoint with other settings than the checkpoint's: which they are, and how they hold.

What an optimizer and a schedule were made of stands in their states, in those of stock toolboxes too; a toolbox says
what its configuration calls it. Where something of the schedule is another, its steps are taken again from the first
one on, as in a run that had always been so: torch computes a rate from the one before it.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from drsl_plugin.toolbox.types import Scheduler

SETTINGS = "drsl_settings"
"""Of a checkpoint: the settings by their keys that its states do not tell."""
FIRST_RATE = "initial_lr"
"""What torch calls a group's rate before any schedule."""
OF_OPTIMIZER = ("weight_decay", "momentum", "dampening", "nesterov", "betas", "alpha", "freeze_status")
"""What a configuration gives an optimizer's groups besides their rates."""
PLACE = ("last_epoch", "base_lrs", "verbose")
"""What a schedule's state holds that is no setting of it; names that begin with an underscore apart."""


class Change(NamedTuple):
    """A setting that is not the checkpoint's."""

    setting: str
    saved: object
    now: object

    def __str__(self) -> str:
        """Return how it changed."""
        return f"{self.setting} {self.saved} -> {self.now}"


def compare(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Return the settings that differ, of those that both have.

    Example:
        >>> print(*compare({"train.lr": 0.1, "train.gamma": 0.1}, {"train.lr": 0.3, "train.max_epoch": 8}))
        train.lr 0.1 -> 0.3
    """
    pairs = {key: (plain(saved[key]), plain(now[key])) for key in now if key in saved}
    return [Change(key, *pair) for key, pair in pairs.items() if pair[0] != pair[1]]


def tell(changes: Sequence[Change], *, rates: bool) -> str:
    """Say in a line what a run has changed.

    Args:
        changes: the settings.
        rates: whether the learning rate is another for them.
    """
    holds = "the learning rate goes on as in a run that had this from its first epoch on"
    return (
        f"Changed since the checkpoint: {', '.join(map(str, changes))}; {holds if rates else 'this holds from now on'}"
    )


def read_schedule(state: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of a schedule's state.

    Args:
        state: of a scheduler, a saved or a new one.
        names: a toolbox's keys by torch's names; what is not among them keeps torch's.

    Example:
        >>> read_schedule({"T_max": 60.0, "last_epoch": 3, "_step_count": 4}, {"T_max": "train.max_epoch"})
        {'train.max_epoch': 60}
    """
    own = {name: value for name, value in state.items() if not name.startswith("_") and name not in PLACE}
    return {names.get(name, name): plain(value) for name, value in own.items()}


def read_groups(groups: Sequence[Mapping[str, Any]], name: str) -> Any:
    """Return what an optimizer's groups have of a name: one value where all have the same, else a list; or None."""
    found = [plain(group[name]) for group in groups if name in group]
    return found[0] if found and all(value == found[0] for value in found) else found or None


def plain(value: Any) -> Any:
    """Return a value as a configuration has it: milestones as a list, a tuple as one, a whole number as an integer."""
    if isinstance(value, Counter):
        return sorted(value.elements())
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def ratio(rate: float, base: float) -> float:
    """Return what a rate is to another, without the last digits that a division adds."""
    return float(f"{rate / base:.12g}") if base else 0.0


def has_layout(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> bool:
    """Tell whether an optimizer's state is of the same groups of parameters.

    torch compares their numbers alone: it would take a state of other shapes, and fail at the first step.

    Args:
        optimizer: the one that is to go on.
        saved: the saved state.
    """
    own_groups, saved_groups = optimizer.param_groups, saved["param_groups"]
    if [len(group["params"]) for group in own_groups] != [len(group["params"]) for group in saved_groups]:
        return False
    own = [parameter for group in own_groups for parameter in group["params"]]
    places = [place for group in saved_groups for place in group["params"]]
    return all(
        value.numel() in (1, parameter.numel())
        for parameter, place in zip(own, places, strict=True)
        for value in saved["state"].get(place, {}).values()
        if isinstance(value, torch.Tensor)
    )


def take_steps(schedulers: Mapping[str, Scheduler], steps: Mapping[str, int], checkpoint: dict[str, Any]) -> None:
    """Take the steps that new schedules would have taken by now, and leave the saved ones' states out.

    Args:
        schedulers: by their names in a checkpoint, in the order in which they step.
        steps: how many each has behind it.
        checkpoint: what is to be loaded.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*optimizer.step")  # which this run has not called yet
        for name, scheduler in schedulers.items():
            for _ in range(steps[name]):
                scheduler.step()
            checkpoint.pop(name, None)


def give_settings(optimizer: torch.optim.Optimizer, checkpoint: dict[str, Any], *, rates: bool) -> None:
    """Put an optimizer's own settings in the place of those in the state that it is to load.

    Args:
        optimizer: new, or one whose schedules have taken their steps.
        checkpoint: its ``optimizer`` is of the same layout.
        rates: the learning rates too.
    """
    names = (*OF_OPTIMIZER, *(("lr", FIRST_RATE) if rates else ()))
    saved = checkpoint["optimizer"]
    groups = [
        {**group, **{name: own[name] for name in names if name in own}}
        for group, own in zip(saved["param_groups"], optimizer.param_groups, strict=True)
    ]
    checkpoint["optimizer"] = {**saved, "param_groups": groups}
