"""FastReID itself, importable on today's Python and torch."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from drsl_plugin.fastreid.shims import make_importable

INSTALL = 'pip install "drsl-plugin[fastreid]" && pip install --no-deps fastreid==1.4.0'


def import_fastreid() -> Any:
    """Import FastReID, from PyPI or from a clone: on PYTHONPATH, or, where neither is there, in the current folder.

    Raises:
        ImportError: FastReID, or a module that it imports, is not installed; names the commands that install both.
    """
    make_importable()
    try:
        with warnings.catch_warnings():
            # Where its Cython cannot be built the advice to build it cannot be followed: see evaluation.py.
            warnings.filterwarnings("ignore", message="Cython rank evaluation")
            importlib.import_module("fastreid.engine")
            importlib.import_module("fastreid.modeling.meta_arch")
            return importlib.import_module("fastreid")
    except ImportError as error:  # a module that is missing, or one whose system library is (cv2 and libGL)
        what = f"FastReID cannot be imported ({error})"
        if isinstance(error, ModuleNotFoundError):
            what = "FastReID is not installed" if error.name == "fastreid" else f"FastReID needs {error.name}"
        raise ImportError(f"{what}: {INSTALL}", name=error.name) from error


fastreid = import_fastreid()
