"""Which modules and distributions there are, and what a module prints while it is imported kept back."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import io
import warnings
from collections.abc import Iterator
from types import ModuleType


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


def installed_version(distribution: str) -> str | None:
    """Return the version of a distribution, or None where it is not installed."""
    try:
        return importlib.metadata.version(distribution) or "of unknown version"
    except Exception:  # not there, or its metadata is damaged: importlib.metadata has no error of its own for that
        return None


def import_quietly(name: str) -> ModuleType | None:
    """Import a module that may be missing, or broken in any way; None where it cannot be imported."""
    try:
        with quiet():
            return importlib.import_module(name)
    except Exception:
        return None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep back what modules print and warn of while they are imported."""
    kept = io.StringIO()
    with contextlib.redirect_stdout(kept), contextlib.redirect_stderr(kept), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
