"""DRSL in FastReID: two meta-architectures, the configuration node, the trainer and the command's machinery.

Importing this package, before anything of FastReID's, makes FastReID importable on today's Python and torch. FastReID
is imported with the first of these names, which registers ``DRSLBaseline`` and ``DRSLMGN``; nothing that it has is
replaced.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from drsl_plugin.fastreid.shims import make_importable

make_importable()

if TYPE_CHECKING:
    from drsl_plugin.fastreid.checkpoints import ExactCheckpointer
    from drsl_plugin.fastreid.config import add_drsl_config
    from drsl_plugin.fastreid.loss_names import register_loss_name
    from drsl_plugin.fastreid.meta_arch import DRSLMGN, DRSLBaseline
    from drsl_plugin.fastreid.processes import launch
    from drsl_plugin.fastreid.script import plain_config_errors
    from drsl_plugin.fastreid.trainer import DRSLTrainer
    from drsl_plugin.fastreid.training import check_run

__all__ = [
    "DRSLMGN",
    "DRSLBaseline",
    "DRSLTrainer",
    "ExactCheckpointer",
    "add_drsl_config",
    "check_run",
    "launch",
    "plain_config_errors",
    "register_loss_name",
]

_HOMES = {
    "DRSLMGN": "meta_arch",
    "DRSLBaseline": "meta_arch",
    "DRSLTrainer": "trainer",
    "ExactCheckpointer": "checkpoints",
    "add_drsl_config": "config",
    "check_run": "training",
    "launch": "processes",
    "plain_config_errors": "script",
    "register_loss_name": "loss_names",
}


def __getattr__(name: str) -> object:
    """Import what has a public name when it is asked for.

    Raises:
        AttributeError: there is no such name.
        ImportError: FastReID is not installed; names the command that installs it.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module(f"{__name__}.meta_arch")  # registers the architectures, whatever is asked for
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
