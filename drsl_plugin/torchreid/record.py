"""What a run of Torchreid writes down of itself, and what an evaluation of it gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from drsl_plugin.runs.folder import environment
from drsl_plugin.toolbox.types import ConfigNode
from drsl_plugin.torchreid import processes
from drsl_plugin.torchreid.config import dump
from drsl_plugin.torchreid.going_on import describe
from drsl_plugin.torchreid.host import torchreid

OnStep: TypeAlias = Callable[[int, int, int], None]
"""What is called after each training step with the epoch, the step in it and the number of steps in it, from 1."""


class Evaluation(NamedTuple):
    """What one evaluation of one target gave; fractions of 1."""

    mAP: float  # noqa: N815
    mINP: float  # noqa: N815
    cmc: np.ndarray[Any, np.dtype[np.float64]]
    """The share of queries with a correct match among the first k, k = 1, 2, …"""

    def row(self, ranks: list[int]) -> dict[str, float]:
        """Return the values under the names of ``metrics.jsonl``."""
        return {"mAP": self.mAP, "mINP": self.mINP, **{f"rank{k}": float(self.cmc[k - 1]) for k in ranks}}


class RunRecord(NamedTuple):
    """What a run writes down of itself, and what it goes on from."""

    config: str
    """The resolved configuration, YAML."""
    environment: dict[str, Any]
    """Versions, device, seed, preset."""
    weights: str = ""
    """The file of the weights that an evaluation without a training is of."""
    resumed: tuple[Path, dict[str, Any]] | None = None
    """The checkpoint that the run goes on from: its place and what it holds."""
    on_step: OnStep | None = None
    settings: Mapping[str, Any] = {}
    """What its checkpoints hold of its configuration."""


def describe_run(
    cfg: ConfigNode,
    argv: Sequence[str],
    *,
    preset: str | None = None,
    checkpoint: dict[str, Any] | None = None,
    on_step: OnStep | None = None,
) -> RunRecord:
    """Return the record of a configuration's run.

    Args:
        cfg: the configuration.
        argv: the command's arguments.
        preset: the name of the preset that it came from.
        checkpoint: what ``cfg.model.resume`` holds, where the run goes on from it.
        on_step: called after each training step.
    """
    facts = environment(seed=cfg.train.seed, preset=preset, argv=argv, toolbox=torchreid, cuda=cfg.use_gpu)
    return RunRecord(
        config=dump(cfg),
        environment={**facts, "processes": processes.count()},
        weights=cfg.model.resume or cfg.model.load_weights,
        resumed=None if checkpoint is None else (Path(cfg.model.resume).expanduser(), checkpoint),
        on_step=on_step,
        settings=describe(cfg),
    )
