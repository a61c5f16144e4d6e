"""Torchreid itself, reached by attribute: its two distributions differ in where their modules lie."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType
from typing import Any

INSTALL = 'pip install "drsl-plugin[torchreid]"'


def import_torchreid() -> Any:
    """Import Torchreid, from PyPI or from a checkout on PYTHONPATH.

    Raises:
        ImportError: Torchreid, or a module that it imports, is not installed; names the command that installs both.
    """
    try:
        with warnings.catch_warnings():
            # The PyPI distribution has no Cython source, so its advice to build it cannot be followed.
            warnings.filterwarnings("ignore", message="Cython evaluation")
            return importlib.import_module("torchreid")
    except ImportError as error:  # a module that is missing, or one whose system library is (cv2 and libGL)
        what = f"Torchreid cannot be imported ({error})"
        if isinstance(error, ModuleNotFoundError):
            what = "Torchreid is not installed" if error.name == "torchreid" else f"Torchreid needs {error.name}"
        raise ImportError(f"{what}: {INSTALL}", name=error.name) from error


torchreid = import_torchreid()


def registry(module: ModuleType, name: str) -> dict[str, Any]:
    """Return one of Torchreid's private tables (``__model_factory``, ``__image_datasets``, …), not a copy."""
    table: dict[str, Any] = getattr(module, name)
    return table
