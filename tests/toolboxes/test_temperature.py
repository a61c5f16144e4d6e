"""The scheduled temperature reaches the loss of each toolbox, step by step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hosts import Host
from tiny import tiny
from watching import Call

from drsl_plugin.runs.folder import RunFolder

BATCH = 8
COSINE = {"temperature": 0.2, "temperature_schedule": "cosine", "temperature_end": 0.02}


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_every_step_has_its_temperature(kind: str, host: Host, tmp_path: Path, seen: list[Call]) -> None:
    """By the formula, over the steps that the toolbox announces: 4 an epoch, 8 in all."""
    host.train(tmp_path / "run", **tiny(host), **{**COSINE, "temperature_schedule": kind}, epochs=2)
    rows = host.steps(tmp_path / "run")
    announced = 32 // BATCH
    in_epoch = {epoch: [row for row in rows if row["epoch"] == epoch] for epoch in (1, 2)}
    places = [announced * (epoch - 1) + i for epoch, steps in in_epoch.items() for i in range(len(steps))]
    progress = [place / (2 * announced - 1) for place in places]
    weights = progress if kind == "linear" else [(1 - math.cos(math.pi * p)) / 2 for p in progress]
    expected = [0.2 - 0.18 * weight for weight in weights]
    assert [row["temperature"] for row in rows] == pytest.approx(expected, rel=1e-12)
    assert [call.temperature for call in seen] == [row["temperature"] for row in rows]
    assert rows[0]["temperature"] == 0.2
    assert rows[-1]["temperature"] == (0.02 if len(in_epoch[2]) == announced else pytest.approx(expected[-1]))
    assert len(set(expected)) == len(expected) >= 6


def test_a_constant_temperature_is_not_shown(host: Host, tmp_path: Path) -> None:
    host.train(tmp_path / "run", **tiny(host))
    assert not any("temperature" in row for row in RunFolder(tmp_path / "run").rows())


def test_a_schedule_without_drsl_does_nothing(host: Host, tmp_path: Path) -> None:
    host.train(tmp_path / "run", **tiny(host), **COSINE, losses="classes")
    assert host.steps(tmp_path / "run")
    assert not any("temperature" in row for row in RunFolder(tmp_path / "run").rows())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature_schedule": "step"}, "{schedule} must be one of 'constant', 'linear', 'cos"),
        ({"temperature_schedule": "linear"}, "{end} must be a finite number above 0 where the"),
        ({"temperature_schedule": "linear", "temperature_end": -1.0}, "{end} must be a finite"),
        ({"temperature_end": 0.1}, "{end} must be left at 0 where the schedule is constant, got 0."),
    ],
)
def test_bad_settings_are_one_line(host: Host, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    error = host.refusal(tmp_path / "run", **changes)
    assert error.startswith(message.format(schedule=host.key("temperature_schedule"), end=host.key("temperature_end")))
    assert not (tmp_path / "run").exists()
