"""FastReID itself, importable on today's Python and torch."""

from __future__ import annotations

import collections
import collections.abc
import importlib
import importlib.util
import sys
import types
import warnings
from pathlib import Path
from typing import Any

INSTALL = 'pip install "drsl-plugin[fastreid]" && pip install --no-deps fastreid==1.4.0'


def import_fastreid() -> Any:
    """Import FastReID, from PyPI or from a clone: on PYTHONPATH, or, where neither is there, in the current folder.

    Raises:
        ImportError: FastReID, or a module that it imports, is not installed; names the commands that install both.
    """
    _find_clone()
    alias_mapping()
    stub_torch_six()
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


def _find_clone() -> None:
    """Let FastReID be found in the current folder, as its own scripts do with ``sys.path.append('.')``."""
    here = Path.cwd()
    if "fastreid" not in sys.modules and (here / "fastreid" / "engine").is_dir() and str(here) not in sys.path:
        sys.path.append(str(here))


def alias_mapping() -> None:
    """Put ``collections.Mapping`` back (F2).

    Cause: ``fastreid/data/build.py`` and ``fastreid/evaluation/testing.py`` import it (1.4.0 from PyPI, GitHub's);
    Python has it in ``collections.abc`` alone since 3.10. To see it gone: ``test_fastreid_needs_collections_mapping``.
    """
    if not hasattr(collections, "Mapping"):
        collections.Mapping = collections.abc.Mapping  # type: ignore[attr-defined]


def stub_torch_six() -> None:
    """Put the one name of ``torch._six`` back that FastReID imports (F3).

    Cause: ``fastreid/data/build.py`` of 1.4.0 from PyPI imports ``string_classes`` from it; torch has had no such
    module since 2.0. GitHub's asks for it on torch 1.7 and older alone. To see it gone: ``test_pypi_needs_torch_six``.
    """
    if "torch._six" in sys.modules or importlib.util.find_spec("torch._six") is not None:
        return
    stub = types.ModuleType("torch._six")
    stub.string_classes = (str, bytes)  # type: ignore[attr-defined]
    sys.modules["torch._six"] = stub


fastreid = import_fastreid()
