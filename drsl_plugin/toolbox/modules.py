"""Which modules there are, without importing them."""

from __future__ import annotations

import importlib.machinery
import importlib.util


def find_module(name: str) -> importlib.machinery.ModuleSpec | None:
    """Find a top-level module without importing it.

    Example:
        >>> find_module("no_such_module") is None
        True
    """
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # ValueError: imported already, by something that left no spec
        return None
