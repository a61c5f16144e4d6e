"""Reading checkpoints of any toolbox, of any age, with errors of one line; knows no toolbox."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from drsl_plugin.errors import SettingError
from drsl_plugin.runs.reading import UnsafeFileError, read_tensors


def load(path: str | Path, setting: str) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Args:
        path: the file.
        setting: the setting that names it, for errors.

    Raises:
        SettingError: there is no such file, torch cannot read it, or it would have to be run to be read.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise SettingError(setting, path, "no such file")
    try:
        checkpoint = read_tensors(path, map_location="cpu")
    except UnsafeFileError as error:
        raise SettingError(setting, path, error.needs) from None
    except Exception as error:  # torch raises what pickle, zipfile and its own reader raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise SettingError(setting, path, f"torch cannot read it ({reason[0]})") from error
    if not isinstance(checkpoint, Mapping):
        raise SettingError(setting, path, f"expected a dictionary of tensors, got {type(checkpoint).__name__}")
    return dict(checkpoint)


def check_kind(
    optimizer: torch.optim.Optimizer, saved_groups: list[dict[str, Any]], setting: str, path: str | Path, kind_key: str
) -> None:
    """Tell optimizers apart by their settings: torch would take another's state, and fail at the first step.

    Args:
        optimizer: the one that is to go on.
        saved_groups: the ``param_groups`` of the saved state.
        setting: the setting that names the checkpoint, for the error.
        path: the checkpoint, likewise.
        kind_key: the setting that names the optimizer, likewise.

    Raises:
        SettingError: the state is another optimizer's.
    """
    own, saved = optimizer.param_groups[0], saved_groups[0]
    # torch adds settings to its optimizers from version to version; what makes one is in all of them.
    kind = {"betas", "momentum", "alpha", "amsgrad"}
    switches = ("amsgrad", "decoupled_weight_decay")  # the second, from torch 2.7 on, makes Adam AdamW
    differ = any(own[name] != saved[name] for name in switches if name in own and name in saved)
    if kind & set(own) != kind & set(saved) or differ:
        raise SettingError(setting, path, f"the state of another {kind_key} than {type(optimizer).__name__}")
