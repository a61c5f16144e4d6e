"""Torchreid itself, reached by attribute: its two distributions differ in where their modules lie."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType
from typing import Any

from drsl_plugin.toolbox.hosts import name_what_is_missing
from drsl_plugin.torchreid.troubles import INSTALL


def import_torchreid() -> Any:
    """Import Torchreid, from PyPI or from a checkout on PYTHONPATH.

    Raises:
        MissingPackageError: Torchreid, or a module that it imports, is not installed.
    """
    with name_what_is_missing("Torchreid", INSTALL), warnings.catch_warnings():
        # The PyPI distribution has no Cython source, so its advice to build it cannot be followed.
        warnings.filterwarnings("ignore", message="Cython evaluation")
        return importlib.import_module("torchreid")


torchreid = import_torchreid()


def registry(module: ModuleType, name: str) -> dict[str, Any]:
    """Return one of Torchreid's private tables (``__model_factory``, ``__image_datasets``, …), not a copy."""
    table: dict[str, Any] = getattr(module, name)
    return table
