"""The temperature of a step: by the formula, at the ends exactly, and of the step alone."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drsl_plugin.losses import TemperatureSchedule
from drsl_plugin.losses.settings import TrainingSettings

numbers = st.floats(1e-3, 1.0)


@pytest.mark.parametrize(
    ("kind", "quarter", "half"),
    [("constant", 0.1, 0.1), ("linear", 0.08, 0.06), ("cosine", 0.02 + 0.08 * 0.8535533905932737, 0.06)],
)
def test_values_by_hand(kind: Any, quarter: float, half: float) -> None:
    """From 0.1 to 0.02 over 9 steps: a quarter of the way is step 2; (1 + cos 45°) / 2 is 0.85355."""
    schedule = TemperatureSchedule(0.1, kind, 0.02)
    assert schedule.at(2, 9) == pytest.approx(quarter, rel=1e-12)
    assert schedule.at(4, 9) == pytest.approx(half, rel=1e-12)


@given(numbers, numbers, st.integers(2, 10**6), st.sampled_from(["linear", "cosine"]))
def test_ends_are_exact(start: float, end: float, steps: int, kind: Any) -> None:
    schedule = TemperatureSchedule(start, kind, end)
    assert schedule.at(0, steps) == start
    assert schedule.at(steps - 1, steps) == end
    assert schedule.at(steps, steps) == schedule.at(steps + 100, steps) == end


@given(numbers, numbers, st.integers(1, 50), st.sampled_from(["constant", "linear", "cosine"]))
def test_it_only_goes_one_way_and_stays_between(start: float, end: float, steps: int, kind: Any) -> None:
    values = [TemperatureSchedule(start, kind, end).at(step, steps) for step in range(steps)]
    slack = 1e-12
    assert min(start, end) - slack <= min(values) <= max(values) <= max(start, end) + slack
    ways = {b > a for a, b in itertools.pairwise(values) if abs(b - a) > slack}
    assert ways <= {end > start}


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_a_training_of_one_step_has_its_start(kind: Any) -> None:
    assert TemperatureSchedule(0.1, kind, 0.02).at(0, 1) == 0.1


def test_only_the_constant_one_is_constant() -> None:
    assert TemperatureSchedule(0.1).is_constant
    assert TemperatureSchedule(0.1).at(5, 9) == 0.1
    assert not any(TemperatureSchedule(0.1, kind, 0.02).is_constant for kind in ("linear", "cosine"))


def check(schedule: Any, end: Any) -> None:
    TrainingSettings(temperature_schedule=schedule, temperature_end=end)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("step", 0.1), "temperature_schedule must be one of 'constant', 'linear', 'cosine', got 'step'"),
        (("linear", 0.0), "temperature_end must be a finite number above 0 where the schedule is linear, got 0.0"),
        (("cosine", -0.1), "temperature_end must be a finite number above 0, got -0.1"),
        (("cosine", float("nan")), "temperature_end must be a finite number above 0, got nan"),
        (("cosine", float("inf")), "temperature_end must be a finite number above 0, got inf"),
        (("linear", True), "temperature_end must be a finite number above 0, got True"),
        (("constant", 0.02), "temperature_end must be left at 0 where the schedule is constant, got 0.02"),
    ],
)
def test_settings_outside_their_range(settings: tuple[Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check(*settings)


def test_settings_that_are_fine() -> None:
    for settings in (("constant", 0.0), ("constant", 0), ("linear", 1), ("cosine", 0.01)):
        check(*settings)
