"""Checkpoints under Torchreid's names: written whole, resumed exactly, old ones read on today's torch."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from drsl_plugin.errors import SettingError
from drsl_plugin.losses import FeatureLosses
from drsl_plugin.losses.features import MemoryCase, compare_memories
from drsl_plugin.runs.checkpoint_files import check_kind, load
from drsl_plugin.runs.folder import whole_file
from drsl_plugin.toolbox.going_on import SETTINGS, compare, has_layout
from drsl_plugin.toolbox.types import Scheduler
from drsl_plugin.torchreid.generators import read_generators
from drsl_plugin.torchreid.going_on import LAYOUT, go_on_as_set
from drsl_plugin.torchreid.keys import DRSL_KEYS
from drsl_plugin.torchreid.types import Engine

CHECKPOINT_NAME = "model.pth.tar-{}"
BEST = "model-best.pth.tar"
MEMORY = "drsl_memory"
RESUME = "model.resume"
"""The key that names the checkpoint that a run goes on from."""


def save_engine(engine: Engine, epoch: int, save_dir: str | Path, is_best: bool, **extra: Any) -> list[Path]:
    """Save each model of an engine as ``SAVE_DIR/NAME/model.pth.tar-EPOCH``, and as ``model-best.pth.tar`` if it is.

    Unlike Torchreid's own this keeps plain numbers (a numpy scalar cannot be resumed on torch ≥ 2.6), the random
    states, DRSL's memories, needs no scheduler, and replaces a file only by a whole one.

    Args:
        engine: a Torchreid engine.
        epoch: the epoch that has just been trained, from 0.
        save_dir: the run's folder.
        is_best: also write the best model's file.
        **extra: plain numbers or tensors to keep beside the states.

    Returns:
        The checkpoints written, one a model.
    """
    written = []
    criteria: FeatureLosses | None = getattr(engine, "criteria", None)
    memories = [] if criteria is None else criteria.memory_state()
    for name in engine.get_model_names():
        scheduler = engine._scheds[name]
        state = {
            "state_dict": engine._models[name].state_dict(),
            "epoch": epoch + 1,
            "optimizer": engine._optims[name].state_dict(),
            **({} if scheduler is None else {"scheduler": scheduler.state_dict()}),
            "random_state": read_generators(),
            **({MEMORY: memories} if memories else {}),
            **extra,
        }
        folder = Path(save_dir, name)
        path = folder / CHECKPOINT_NAME.format(epoch + 1)
        with whole_file(path) as unfinished:
            torch.save(state, unfinished)
            if is_best:  # before the checkpoint that says so: an interruption between the two loses neither
                with whole_file(folder / BEST) as unfinished_best:
                    shutil.copy(unfinished, unfinished_best)
        print(f'Checkpoint saved to "{path}"' + (f" and, the best so far, as {BEST}" if is_best else ""))
        written.append(path)
    return written


def resume(
    path: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Scheduler | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Load a checkpoint of this package or of Torchreid, of any age, into a model, its optimizer and its scheduler.

    Where optimizer or scheduler were built with other settings than the checkpoint's, these hold, and a line says so:
    the learning rate goes on as in a run that had them from its first epoch on.

    Args:
        path: the checkpoint.
        model: with or without ``DataParallel``: the prefix that it adds is put in or taken off.
        optimizer: new, as the run builds it; None for the weights alone.
        scheduler: likewise; None for an optimizer without one.
        settings: those of :func:`~drsl_plugin.torchreid.going_on.describe`, where there is a configuration.

    Returns:
        The checkpoint; its ``epoch`` is the number of epochs trained.

    Raises:
        SettingError: no checkpoint with the state of a training, or one of another model or optimizer.
    """
    checkpoint = load(path, RESUME)
    missing = [key for key in ("state_dict", "epoch", "optimizer") if key not in checkpoint]
    if missing:
        needs = f"no {' and no '.join(missing)} in it, so training cannot go on from it; model.load_weights starts "
        raise SettingError(RESUME, path, f"{needs}from its weights")
    load_state(model, checkpoint["state_dict"], path)
    told: list[str] = []
    if optimizer is not None:
        check_kind(optimizer, checkpoint["optimizer"]["param_groups"], RESUME, path, "train.optim")
        _check_layout(path, checkpoint, optimizer, settings or {})
        told += go_on_as_set(checkpoint, optimizer, scheduler)
        optimizer.load_state_dict(checkpoint["optimizer"])
        if scheduler is not None and "scheduler" in checkpoint:
            scheduler.load_state_dict(checkpoint["scheduler"])
    print(*[f'Resumed from "{path}" after epoch {checkpoint["epoch"]}', *told], sep="\n")
    return checkpoint


def _check_layout(
    path: str | Path, checkpoint: Mapping[str, Any], optimizer: torch.optim.Optimizer, settings: Mapping[str, Any]
) -> None:
    """Refuse the state of an optimizer whose parameters are in other groups, or in another order."""
    saved, groups = checkpoint.get(SETTINGS, {}), checkpoint["optimizer"]["param_groups"]
    changed = [each for each in compare(saved, settings) if each.setting in LAYOUT]
    if changed or not has_layout(optimizer, checkpoint["optimizer"]):
        how = ", ".join(map(str, changed)) or f"{len(groups)} there, {len(optimizer.param_groups)} in this run"
        needs = f"the state of other groups of parameters than {' and '.join(LAYOUT)} make ({how}); set them as they "
        raise SettingError(RESUME, path, f"{needs}were, or start from its weights with model.load_weights")


def resume_memory(path: str | Path, checkpoint: Mapping[str, Any], engine: Engine) -> None:
    """Give an engine the memories of earlier embeddings that a checkpoint holds.

    One without starts them empty, and says so; an engine without a memory leaves the checkpoint's aside.

    Args:
        path: the checkpoint's place, for messages.
        checkpoint: what :func:`resume` returns.
        engine: the engine, of any loss.

    Raises:
        SettingError: memories of another size, or no states of memories.
    """
    criteria: FeatureLosses | None = getattr(engine, "criteria", None)
    memory = None if criteria is None else criteria.of(0).memory
    size = 0 if memory is None else memory.size
    case = compare_memories(checkpoint.get(MEMORY), size)
    if case is MemoryCase.NONE_SAVED and criteria is not None:
        name, value = criteria.of(0).memory_setting
        setting = f"{DRSL_KEYS.dotted(name)} {value}"
        print(f'"{path}" holds no memory of embeddings: that of {setting} starts empty')
    elif case is MemoryCase.NONE_WANTED:
        print(f'"{path}" holds a memory of embeddings, which this run leaves aside: it has none')
    elif case is not MemoryCase.NONE and criteria is not None:
        try:
            criteria.load_memory_state(checkpoint[MEMORY], next(engine.model.parameters()).device)
        except SettingError as error:
            raise SettingError(RESUME, path, str(error.named(DRSL_KEYS.dotted(error.setting)))) from error
        except ValueError as error:
            raise SettingError(RESUME, path, str(error)) from error


def load_state(model: nn.Module, state: Mapping[str, Any], path: str | Path) -> None:
    """Load a model's state strictly, with or without the prefix of ``DataParallel``.

    Raises:
        SettingError: names the first layers that are missing, unknown or of another shape.
    """
    own = model.state_dict()
    prefix = "module." if next(iter(own), "").startswith("module.") else ""
    state = {prefix + key.removeprefix("module."): value for key, value in state.items()}
    wrong = [f"{key} is missing" for key in own if key not in state]
    wrong += [f"{key} is unknown" for key in state if key not in own]
    wrong += [
        f"{key} has shape {tuple(state[key].shape)} there and {tuple(value.shape)} in the model"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    if wrong:
        more = f" (and {len(wrong) - 2} more)" if len(wrong) > 2 else ""
        raise SettingError(RESUME, path, f"a checkpoint of another model: {'; '.join(wrong[:2])}{more}")
    model.load_state_dict(state)
