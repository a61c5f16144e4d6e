"""A run of Torchreid that goes on with other settings than its checkpoint's: its optimizer and its learning rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from drsl_plugin.toolbox.going_on import (
    FIRST_RATE,
    SETTINGS,
    Change,
    compare,
    give_settings,
    ratio,
    read_groups,
    read_schedule,
    take_steps,
    tell,
)
from drsl_plugin.toolbox.types import ConfigNode, Scheduler

SCHEDULER, WEIGHTS = "train.lr_scheduler", "model.load_weights"
KINDS = {"step_size": "single_step", "milestones": "multi_step", "T_max": "cosine"}
"""The schedulers, each by what only its state holds."""
OF_SCHEDULE = {
    "T_max": "train.max_epoch",
    "step_size": "train.stepsize",
    "milestones": "train.stepsize",
    "gamma": "train.gamma",
}
OF_OPTIMIZER = {
    "weight_decay": "train.weight_decay",
    "momentum": "sgd.momentum",
    "dampening": "sgd.dampening",
    "nesterov": "sgd.nesterov",
    "alpha": "rmsprop.alpha",
}
LAYOUT = ("train.staged_lr", "train.new_layers")
"""The keys that part the parameters into groups."""


def describe(cfg: ConfigNode) -> dict[str, Any]:
    """Return the settings that a checkpoint's states do not tell, by their keys."""
    staged = {"train.new_layers": list(cfg.train.new_layers)} if cfg.train.staged_lr else {}
    given = {"train.seed": cfg.train.seed, WEIGHTS: cfg.model.load_weights}
    return {**given, "train.staged_lr": cfg.train.staged_lr, **staged}


def go_on_as_set(
    checkpoint: dict[str, Any], optimizer: torch.optim.Optimizer, scheduler: Scheduler | None
) -> Iterator[str]:
    """Put the settings of this run into the states that it is to load; where nothing is another they stay as they are.

    Args:
        checkpoint: what is to be loaded; its optimizer is of the same kind and layout.
        optimizer: new.
        scheduler: new, or None, which leaves the checkpoint's last rate as it is.

    Yields:
        A line that says what was changed, if anything was.
    """
    saved, own = checkpoint["optimizer"]["param_groups"], optimizer.param_groups
    changes = compare(_read_optimizer(saved), _read_optimizer(own))
    rates: list[Change] = []
    if scheduler is not None:
        before = _read_rates(saved) | _read_schedule(checkpoint.get("scheduler", {}))
        rates = compare(before, _read_rates(own) | _read_schedule(scheduler.state_dict()))
        if rates:
            take_steps({"scheduler": scheduler}, {"scheduler": checkpoint["epoch"]}, checkpoint)
    if rates or changes:
        give_settings(optimizer, checkpoint, rates=bool(rates))
        yield tell([*rates, *changes], rates=bool(rates))


def keep_what_is_saved(cfg: ConfigNode, checkpoint: Mapping[str, Any]) -> None:
    """Set the settings whose part a checkpoint takes to what holds, and say so of each that was another.

    Args:
        cfg: the configuration.
        checkpoint: what the run goes on from, or evaluates.
    """
    saved, epochs = checkpoint.get(SETTINGS, {}), checkpoint["epoch"]
    seed, began_with = saved.get("train.seed", cfg.train.seed), saved.get(WEIGHTS)
    trains = not cfg.test.evaluate
    if trains and cfg.train.seed != seed:
        print(
            f"train.seed {cfg.train.seed} is not used: the checkpoint's random states go on, which are of seed {seed}"
        )
        cfg.train.seed = seed
    if cfg.model.load_weights and cfg.model.load_weights != began_with:
        print(f"{WEIGHTS} {cfg.model.load_weights} is not used: the weights are those of model.resume")
    if began_with is not None:
        cfg.model.load_weights = began_with
    if trains and cfg.train.start_epoch not in (0, epochs):
        print(f"train.start_epoch {cfg.train.start_epoch} is not used: the checkpoint has {epochs} epochs behind it")
    cfg.train.start_epoch = epochs


def _read_schedule(state: Mapping[str, Any]) -> dict[str, Any]:
    kind = next((KINDS[name] for name in KINDS if name in state), None)
    found = read_schedule(state, OF_SCHEDULE)
    return {SCHEDULER: kind or ", ".join(found) or "none", **found}


def _read_rates(groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the rates before any schedule: with ``train.staged_lr`` the first group has a share of the last one's."""
    first, last = (group.get(FIRST_RATE, group["lr"]) for group in (groups[0], groups[-1]))
    shared = {"train.base_lr_mult": ratio(first, last)} if len(groups) == 2 else {}
    return {"train.lr": last, **shared}


def _read_optimizer(groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = {key: read_groups(groups, name) for name, key in OF_OPTIMIZER.items() if name in groups[0]}
    if "betas" in groups[0]:
        found |= dict(zip(("adam.beta1", "adam.beta2"), groups[0]["betas"], strict=True))
    return found
