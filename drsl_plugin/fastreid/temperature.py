"""The temperature of DRSL over a FastReID training."""

from __future__ import annotations

from typing import Any

from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.meta_arch import drsl_settings
from drsl_plugin.losses import FeatureLosses, TemperatureSchedule

TEMPERATURE = "drsl_temperature"
"""The name under which FastReID's logs show it, where it is not constant."""


class TemperatureHook(fastreid.engine.train_loop.HookBase):
    """A hook that gives DRSL the temperature of each step, by the number of the step and by nothing else.

    Args:
        losses: the model's DRSL.
        schedule: the schedule.
    """

    def __init__(self, losses: FeatureLosses, schedule: TemperatureSchedule) -> None:
        """Keep both."""
        self._losses = losses
        self._schedule = schedule

    def before_step(self) -> None:
        """Set the temperature, and put it into the logs."""
        temperature = self._schedule.at(self.trainer.iter, self.trainer.max_iter)
        self._losses.set_temperature(temperature)
        self.trainer.storage.put_scalar(TEMPERATURE, temperature)


def temperature_hooks(cfg: Any, model: Any) -> list[TemperatureHook]:
    """Return the hook that a configuration asks for; none where the temperature is constant, or no DRSL is trained.

    Args:
        cfg: the configuration.
        model: the model, without its wrapper.
    """
    settings, losses = drsl_settings(cfg), getattr(model, "drsl_features", None)
    if settings is None or not isinstance(losses, FeatureLosses):
        return []
    schedule = TemperatureSchedule(**{name: settings[name] for name in TemperatureSchedule._fields})
    return [] if schedule.is_constant else [TemperatureHook(losses, schedule)]
