"""The temperature over a training, as a function of the step alone: a resumed run has no other than one in one go."""

from __future__ import annotations

import math
from typing import NamedTuple

from drsl_plugin.losses.settings import Schedule


class TemperatureSchedule(NamedTuple):
    r"""The temperature of each step, from its own at the first to another at the last.

    .. math::

        \tau(t) = (1 - w)\,\tau_{start} + w\,\tau_{end}, \qquad
        w = p \;\text{(linear)}, \quad w = \frac{1 - \cos \pi p}{2} \;\text{(cosine)}, \qquad p = \frac{t}{T - 1}

    for the steps t = 0, …, T - 1.

    Args:
        temperature: at the first step, above 0.
        temperature_schedule: ``"constant"``, ``"linear"`` or ``"cosine"``.
        temperature_end: at the last step, above 0; 0 where the schedule is constant.

    Example:
        >>> schedule = TemperatureSchedule(0.1, "linear", 0.02)
        >>> [round(schedule.at(step, steps=5), 3) for step in range(5)]
        [0.1, 0.08, 0.06, 0.04, 0.02]
    """

    temperature: float
    temperature_schedule: Schedule = "constant"
    temperature_end: float = 0.0

    @property
    def is_constant(self) -> bool:
        """Whether every step has the same."""
        return self.temperature_schedule == "constant"

    def at(self, step: int, steps: int) -> float:
        """Return the temperature of a step.

        Args:
            step: from 0; after the last one it stays at its end.
            steps: how many the training has.
        """
        if self.is_constant:
            return self.temperature
        progress = min(1.0, step / (steps - 1)) if steps > 1 else 0.0
        weight = progress if self.temperature_schedule == "linear" else (1 - math.cos(math.pi * progress)) / 2
        return (1 - weight) * self.temperature + weight * self.temperature_end
