"""The weights of models: what a run saved, what its steps move, and FastReID's own model to load them into."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastreid
import pytest
import torch

from drsl_plugin.fastreid.config import get_cfg
from drsl_plugin.fastreid.trainer import DRSLTrainer

NO_DECAY = {f"SOLVER.WEIGHT_DECAY{which}": 0.0 for which in ("", "_NORM", "_BIAS")}


def weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint."""
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=False)["model"]
    return found


def unequal_weights(one: Path, other: Path) -> set[str]:
    """The weights that two checkpoints do not share."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return {key for key in first if not torch.equal(first[key], second[key])}


def trainable(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The tensors that are trained, with their names."""
    return ((name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad)


def watch_moves(patch: pytest.MonkeyPatch) -> list[set[str]]:
    """Return the list to which each step adds the trainable tensors that it moved."""
    steps: list[set[str]] = []
    step = DRSLTrainer.run_step

    def watched(self: Any) -> None:
        before = {name: tensor.detach().clone() for name, tensor in trainable(self.model)}
        step(self)
        steps.append({name for name, tensor in trainable(self.model) if not torch.equal(tensor, before[name])})

    patch.setattr(DRSLTrainer, "run_step", watched)
    return steps


def stock_model(folder: Path) -> Any:
    """FastReID's own model, of the configuration that a run leaves, without anything of ours in it."""
    told = get_cfg()
    told.merge_from_file(str(folder / "config.yaml"))
    cfg = fastreid.config.get_cfg()
    cfg.MODEL.merge_from_other_cfg(
        fastreid.config.CfgNode({key: value for key, value in told.MODEL.items() if key != "LOSSES"})
    )
    cfg.INPUT.merge_from_other_cfg(told.INPUT)
    assert cfg.MODEL.META_ARCHITECTURE in ("Baseline", "MGN")
    return fastreid.modeling.meta_arch.build_model(cfg)


def configured(options: list[str]) -> Any:
    """A configuration with options, for the eight identities of the rendered set."""
    cfg = get_cfg()
    cfg.merge_from_list(options)
    cfg.MODEL.HEADS.NUM_CLASSES = 8
    return cfg
