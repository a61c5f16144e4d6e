"""A run of FastReID that goes on with other settings than its checkpoint's: its optimizer and its learning rate."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from drsl_plugin.toolbox.going_on import (
    FIRST_RATE,
    SETTINGS,
    Change,
    compare,
    give_settings,
    has_layout,
    ratio,
    read_groups,
    read_schedule,
    take_steps,
    tell,
)
from drsl_plugin.toolbox.types import ConfigNode

logger = logging.getLogger("fastreid.drsl")

WARMUP, MAIN = "warmup_sched", "lr_sched"
"""The schedules of a checkpoint, in the order in which they step."""
SCHED, WEIGHTS = "SOLVER.SCHED", "MODEL.WEIGHTS"
KINDS = {"milestones": "MultiStepLR", "T_max": "CosineAnnealingLR"}
"""The schedulers, each by what only its state holds."""
OF_SCHEDULE = {
    "T_max": "SOLVER.MAX_EPOCH",
    "eta_min": "SOLVER.ETA_MIN_LR",
    "milestones": "SOLVER.STEPS",
    "gamma": "SOLVER.GAMMA",
    "warmup_iters": "SOLVER.WARMUP_ITERS",
    "warmup_factor": "SOLVER.WARMUP_FACTOR",
    "warmup_method": "SOLVER.WARMUP_METHOD",
}
OF_OPTIMIZER = {"momentum": "SOLVER.MOMENTUM", "nesterov": "SOLVER.NESTEROV", "freeze_status": "MODEL.FREEZE_LAYERS"}
FACTORS = ("BIAS_LR_FACTOR", "HEADS_LR_FACTOR")
DECAYS = ("WEIGHT_DECAY", "WEIGHT_DECAY_NORM", "WEIGHT_DECAY_BIAS")
LAYOUT = (*(f"SOLVER.{name}" for name in (*FACTORS, *DECAYS)), "MODEL.FREEZE_LAYERS")
"""The keys that part the parameters into groups."""
STEPS = "steps in an epoch (SOLVER.IMS_PER_BATCH, DATASETS.NAMES)"


class RunSettings:
    """What a checkpoint holds of the settings of optimizer and schedule, as FastReID's checkpointer wants it.

    Args:
        cfg: the configuration.
        steps: how many there are in an epoch.
        own_schedule: whether a team's trainer builds schedules of its own.
    """

    def __init__(self, cfg: ConfigNode, steps: int, *, own_schedule: bool) -> None:
        """Keep them."""
        self.cfg, self.steps, self.own_schedule = cfg, steps, own_schedule
        self.saved: Mapping[str, Any] = {}
        """What the checkpoint holds of them that the run goes on from."""

    def state_dict(self) -> dict[str, Any]:
        """Return the settings, and the weights that the run began with."""
        return {**self.now, WEIGHTS: self.cfg.MODEL.WEIGHTS}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Keep a checkpoint's, which change nothing: :func:`go_on_as_set` has let the run's own hold."""
        self.saved = state

    @property
    def now(self) -> dict[str, Any]:
        """The settings by their keys: those alone that count."""
        solver, frozen = self.cfg.SOLVER, self.cfg.MODEL.FREEZE_LAYERS if self.cfg.SOLVER.FREEZE_ITERS > 0 else ()
        names = ["SCHED", "DELAY_EPOCHS", "WARMUP_ITERS", "BASE_LR", *FACTORS, *DECAYS]
        names += ["WARMUP_FACTOR", "WARMUP_METHOD"] if solver.WARMUP_ITERS > 0 else []
        names += {"MultiStepLR": ["STEPS", "GAMMA"], "CosineAnnealingLR": ["MAX_EPOCH", "ETA_MIN_LR"]}.get(
            solver.SCHED, []
        )
        names += ["MOMENTUM", "NESTEROV"] if solver.OPT == "SGD" else []
        found = {f"SOLVER.{name}": solver[name] for name in names}
        return {**found, "MODEL.FREEZE_LAYERS": list(frozen), STEPS: self.steps}

    def count(self, epochs: int) -> dict[str, int]:
        """Return how many steps each schedule has taken after so many epochs, as FastReID's hook takes them."""
        warm, delay = self.cfg.SOLVER.WARMUP_ITERS, self.cfg.SOLVER.DELAY_EPOCHS
        ends = ((epoch, epoch * self.steps) for epoch in range(1, epochs + 1))
        main = sum(taken >= warm and epoch > delay for epoch, taken in ends)
        return {WARMUP: min(epochs * self.steps, warm), MAIN: main}


def explain_refusal(checkpoint: Mapping[str, Any], states: Mapping[str, Any], run: RunSettings) -> str | None:
    """Return why a run cannot go on with the states of a checkpoint, or None where it can.

    Args:
        checkpoint: what is to be loaded; its optimizer is of the same kind.
        states: new, by their names in a checkpoint: the optimizer and the schedules, among others.
        run: the settings.
    """
    optimizer, saved = states["optimizer"], checkpoint["optimizer"]
    if not has_layout(optimizer, saved):
        changed = [each for each in compare(checkpoint.get(SETTINGS, {}), run.now) if each.setting in LAYOUT]
        groups = f"{len(saved['param_groups'])} there, {len(optimizer.param_groups)} in this run"
        how = f"{', '.join(LAYOUT)} make ({', '.join(map(str, changed)) or groups})"
        return f"the state of other groups of parameters than {how}; set them as they were, or start with MODEL.WEIGHTS"
    if (
        run.own_schedule
        and MAIN in states
        and _read_kind(states[MAIN].state_dict()) != _read_kind(checkpoint.get(MAIN))
    ):
        return (
            f"the state of another schedule than {type(states[MAIN]).__name__}, which the trainer builds in its own way"
        )
    return None


def go_on_as_set(checkpoint: dict[str, Any], states: Mapping[str, Any], run: RunSettings) -> Iterator[str]:
    """Put the settings of this run into the states that it is to load; where nothing is another they stay as they are.

    Args:
        checkpoint: what is to be loaded; nothing speaks against it.
        states: as for :func:`explain_refusal`.
        run: the settings.

    Yields:
        A line that says what was changed, if anything was.

    Cause: ``Checkpointer.load`` takes the saved states whole, in which the rates and the cosine's length are those of
    the run before; all distributions. To see it gone: ``test_the_stock_toolbox_keeps_the_old_schedule``.
    """
    optimizer, schedulers = states["optimizer"], {name: states[name] for name in (WARMUP, MAIN) if name in states}
    groups = checkpoint["optimizer"]["param_groups"], optimizer.param_groups
    schedules = checkpoint, {name: scheduler.state_dict() for name, scheduler in schedulers.items()}
    shift = run.cfg.SOLVER.MAX_EPOCH - schedules[1].get(MAIN, {}).get("T_max", 0)  # by warm-up and delay
    changes = compare(*map(_read_optimizer, groups))
    rates = compare(*(_read_rates(*each, shift) for each in zip(groups, schedules, strict=True)))
    if run.own_schedule:
        if rates:
            yield f"{', '.join(map(str, rates))} is not used: the trainer has a schedule of its own, which goes on"
            rates = []
    else:
        steps = _count_steps(checkpoint, run)
        rates += _find_misplaced(checkpoint, steps, schedulers)
        if rates:
            take_steps(schedulers, steps, checkpoint)
    if rates or changes:
        give_settings(optimizer, checkpoint, rates=bool(rates))
        known = compare(checkpoint.get(SETTINGS, {}), run.now)
        yield tell(known or [*rates, *changes], rates=bool(rates))


def keep_what_is_saved(cfg: ConfigNode, seed: int, run: RunSettings) -> ConfigNode:
    """Return a configuration in which the settings whose part a checkpoint takes are what holds; tell of each other.

    Args:
        cfg: that of a run that goes on.
        seed: the checkpoint's.
        run: what has loaded the checkpoint's settings.
    """
    held = cfg.clone()
    held.defrost()
    given = cfg.SEED if "SEED" in cfg else -1
    if given >= 0 and given != seed:
        logger.warning(f"SEED {given} is not used: --resume goes on with the checkpoint's, {seed}")
        held.SEED = seed
    began_with = run.saved.get(WEIGHTS)
    if cfg.MODEL.WEIGHTS not in ("", began_with):
        logger.warning(f"{WEIGHTS} {cfg.MODEL.WEIGHTS} is not used: --resume goes on with the checkpoint's weights")
    if began_with is not None:
        held.MODEL.WEIGHTS = began_with
    if cfg.is_frozen():
        held.freeze()
    run.cfg = held
    return held


def _count_steps(checkpoint: Mapping[str, Any], run: RunSettings) -> dict[str, int]:
    """Return the steps that the schedules would have taken; less those of a warm-up that mixed precision left out."""
    epochs = checkpoint["epoch"] + 1
    steps, warmup = run.count(epochs), checkpoint.get(WARMUP)
    if warmup is not None and (run.cfg.SOLVER.AMP.ENABLED or "grad_scaler" in checkpoint):
        in_epoch = checkpoint.get(SETTINGS, {}).get(STEPS, run.steps)
        left_out = min(epochs * in_epoch, warmup["warmup_iters"]) - warmup["last_epoch"]
        steps[WARMUP] -= min(max(left_out, 0), steps[WARMUP])
    return steps


def _find_misplaced(checkpoint: Mapping[str, Any], steps: Mapping[str, int], names: Iterable[str]) -> Iterator[Change]:
    """Yield the schedules that would stand elsewhere: by a delay, or where an epoch had another number of steps."""
    for name in names:
        taken = checkpoint.get(name, {}).get("last_epoch", steps[name])
        if taken != steps[name]:
            yield Change(f"{name}'s steps so far (SOLVER.DELAY_EPOCHS, {STEPS})", taken, steps[name])


def _read_rates(groups: Sequence[Mapping[str, Any]], schedules: Mapping[str, Any], shift: float) -> dict[str, Any]:
    """Return what the rates follow from: that of the first group, which is the backbone's, is the one for all."""
    first = [group.get(FIRST_RATE, group["lr"]) for group in groups]
    factors = {" and ".join(f"SOLVER.{name}" for name in FACTORS): [ratio(rate, first[0]) for rate in first]}
    main = schedules.get(MAIN, {})
    found = read_schedule({**schedules.get(WARMUP, {"warmup_iters": 0}), **main}, OF_SCHEDULE)
    if "T_max" in main:
        found[OF_SCHEDULE["T_max"]] += shift
    return {"SOLVER.BASE_LR": first[0], **factors, SCHED: _read_kind(main), **found}


def _read_kind(state: Mapping[str, Any] | None) -> str:
    names = read_schedule(state or {}, {})
    return next((KINDS[name] for name in KINDS if name in names), None) or ", ".join(names) or "none"


def _read_optimizer(groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = {key: read_groups(groups, name) for name, key in OF_OPTIMIZER.items() if name in groups[0]}
    return {**found, " and ".join(f"SOLVER.{name}" for name in DECAYS): read_groups(groups, "weight_decay")}
