"""FastReID itself, importable on today's Python and torch."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from drsl_plugin.fastreid.shims import make_importable
from drsl_plugin.fastreid.troubles import INSTALL
from drsl_plugin.toolbox.hosts import name_what_is_missing


def import_fastreid() -> Any:
    """Import FastReID, from PyPI or from a clone: on PYTHONPATH, or, where neither is there, in the current folder.

    Raises:
        MissingPackageError: FastReID, or a module that it imports, is not installed.
    """
    make_importable()
    with name_what_is_missing("FastReID", INSTALL), warnings.catch_warnings():
        # Where its Cython cannot be built the advice to build it cannot be followed: see evaluation.py.
        warnings.filterwarnings("ignore", message="Cython rank evaluation")
        importlib.import_module("fastreid.engine")
        importlib.import_module("fastreid.modeling.meta_arch")
        return importlib.import_module("fastreid")


fastreid = import_fastreid()
