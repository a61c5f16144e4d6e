"""Reading checkpoints of any toolbox, of any age, with errors of one line; knows no toolbox."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from drsl_plugin.errors import SettingError


def load(path: str | Path, setting: str) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Args:
        path: the file.
        setting: the setting that names it, for errors.

    Raises:
        SettingError: there is no such file, or torch cannot read it.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise SettingError(setting, path, "no such file")
    try:
        with numpy_scalars_allowed():
            checkpoint = torch.load(path, map_location="cpu")
    except Exception as error:  # torch raises what pickle, zipfile and its own reader raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise SettingError(setting, path, f"torch cannot read it ({reason[0]})") from error
    if not isinstance(checkpoint, Mapping):
        raise SettingError(setting, path, f"expected a dictionary of tensors, got {type(checkpoint).__name__}")
    return dict(checkpoint)


@contextlib.contextmanager
def numpy_scalars_allowed() -> Iterator[None]:
    """Let ``torch.load`` read the numpy scalar that Torchreid's own checkpoints hold as their ``rank1``.

    Cause: ``Engine.save_model`` (Torchreid 0.2.5 from PyPI, 1.4.0 from GitHub) stores ``cmc[0]``; since torch 2.6
    ``torch.load`` reads tensors and plain types only. To see it gone: ``test_old_checkpoint_needs_the_allow_list``.
    """
    import numpy as np

    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        yield
        return
    scalar = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(name)) for name in ("float64", "float32", "int64")]
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    with torch.serialization.safe_globals([*names, np.dtype, *dtypes]):
        yield


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
