"""While a toolbox runs, what it asks ``torch.load`` for is read without being run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch

from drsl_plugin.runs.reading import is_trusting, read_tensors, torch_load, trusting_files
from drsl_plugin.toolbox.patching import replaced
from drsl_plugin.toolbox.registry import TOOLBOXES


@contextlib.contextmanager
def guarded_reading(trust: bool | None = None) -> Iterator[None]:
    """Let ``torch.load`` read tensors and plain values alone within the block, whoever asks it.

    Cause: both toolboxes call it without ``weights_only``, which below torch 2.6 runs what a file says; and
    ``torch.hub``, by which both fetch weights, says ``weights_only=False`` on any torch, as does, in effect,
    Torchreid's ``load_checkpoint``, whose second try names a ``pickle_module``. All distributions. To see it gone:
    ``test_stock_weights_are_run``.

    A script's own call that says ``weights_only=False`` is its own word, and does as it says.

    Args:
        trust: whether files are trusted; None leaves it as it is.
    """

    def load(f: Any, map_location: Any = None, pickle_module: Any = None, **options: Any) -> Any:
        if options.get("weights_only") is False and not _is_toolboxes(sys._getframe(1).f_globals):
            return torch_load(f, map_location, pickle_module, **options)
        return read_tensors(f, map_location, pickle_module=pickle_module, **options)

    with trusting_files(is_trusting() if trust is None else trust), replaced(torch, "load", load):
        yield


def _is_toolboxes(module: dict[str, Any]) -> bool:
    """Tell whether a module is a toolbox's, torch's own or one of ours, by its globals."""
    package = str(module.get("__name__", "")).partition(".")[0]
    return package in ("torch", __name__.partition(".")[0], *TOOLBOXES)
