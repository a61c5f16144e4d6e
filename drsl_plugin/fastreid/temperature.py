"""The temperature of DRSL over a FastReID training."""

from __future__ import annotations

from torch import nn

from drsl_plugin.fastreid.config import find_node
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.keys import DRSL_KEYS
from drsl_plugin.fastreid.meta_arch import find_losses
from drsl_plugin.losses import FeatureLosses, TemperatureSchedule
from drsl_plugin.toolbox.types import ConfigNode

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


def build_temperature_hooks(cfg: ConfigNode, model: nn.Module) -> list[TemperatureHook]:
    """Return the hook that a configuration asks for; none where the temperature is constant, or no DRSL is trained.

    Args:
        cfg: the configuration.
        model: the model, without its wrapper.
    """
    node, losses = find_node(cfg), find_losses(model)
    if node is None or losses is None:
        return []
    training = DRSL_KEYS.of_training(node)
    start = DRSL_KEYS.of_loss(node).temperature
    schedule = TemperatureSchedule(start, training.temperature_schedule, training.temperature_end)
    return [] if schedule.is_constant else [TemperatureHook(losses, schedule)]
