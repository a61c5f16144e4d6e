"""What makes FastReID importable on today's Python and torch, without importing it."""

from __future__ import annotations

import collections
import collections.abc
import importlib.util
import sys
import types
from pathlib import Path


def make_importable() -> None:
    """Let ``import fastreid`` work; a second call changes nothing."""
    _find_clone()
    alias_mapping()
    stub_torch_six()


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
