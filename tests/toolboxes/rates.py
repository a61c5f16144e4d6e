"""The learning rates of a run's steps, of all groups of parameters, as the optimizer has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from comparing import unequal
from hosts import Ended, Host, interrupted
from optimizer_steps import watching_steps

from drsl_plugin.runs.checkpoint_files import load

SCHEDULES = ("scheduler", "lr_sched", "warmup_sched")
"""The schedules of a checkpoint."""


class Rates(NamedTuple):
    """A run that has ended."""

    steps: list[list[float]]
    """The rate of each group in each step."""
    told: list[str]
    """The lines that say what it has changed since its checkpoint, and what it does not use."""


def train(host: Host, folder: Path, **changes: Any) -> Rates:
    """Train, and note the rates."""
    steps: list[list[float]] = []

    def note(optimizer: Any, args: Any, kwargs: Any) -> None:
        steps.append([group["lr"] for group in optimizer.param_groups])

    with watching_steps(before=note):
        ended = host.train(folder, **changes)
    return Rates(steps, lines_told(ended))


def lines_told(ended: Ended) -> list[str]:
    told = ("Changed since the checkpoint", " is not used")
    return [line for line in ended.output.splitlines() if any(words in line for words in told)]


def train_in_two(
    host: Host, folder: Path, behind: int, *, before: dict[str, Any], now: dict[str, Any]
) -> tuple[Rates, Rates]:
    """Train in one go, and likewise in two, the first of which has other settings and ends after some epochs.

    Returns:
        That in one go in ``FOLDER/whole``, and the second of the two in ``FOLDER/cut``.
    """
    whole, cut = folder / "whole", folder / "cut"
    expected = train(host, whole, **now)
    with interrupted(sum(row["epoch"] <= behind for row in host.steps(whole)) + 1):
        assert host.run(cut, **before).code in (0, 130)
    assert host.epoch(host.checkpoint(cut)) == behind
    return expected, train(host, cut, **now, resume=True)


def assert_same_rates(host: Host, folder: Path, expected: Rates, rates: Rates) -> None:
    """What :func:`train_in_two` gives has the same rates, and leaves the same schedules."""
    assert 0 < len(rates.steps) < len(expected.steps)
    assert rates.steps == expected.steps[-len(rates.steps) :]
    assert unequal(*(schedules(host, folder / name) for name in ("cut", "whole"))) == []


def schedules(host: Host, folder: Path) -> dict[str, Any]:
    """The states of the schedules and the settings of the groups in a run's last checkpoint."""
    checkpoint = load(host.checkpoint(folder), "")
    found = {name: checkpoint[name] for name in SCHEDULES if name in checkpoint}
    return {**found, "groups": checkpoint["optimizer"]["param_groups"]}
