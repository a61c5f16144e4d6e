"""How the ``host`` modules import their toolboxes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from drsl_plugin.errors import MissingPackageError


@contextlib.contextmanager
def name_what_is_missing(title: str, command: str) -> Iterator[None]:
    """Say which package the import of a toolbox lacks, and what installs it.

    Args:
        title: the toolbox's; in small letters it is the name of its module.
        command: what installs it and all that it imports.

    Raises:
        MissingPackageError: the toolbox, or a module that it imports, is not installed, or its system library is not
            (cv2 and libGL).
    """
    try:
        yield
    except ImportError as error:
        reason = f"{title} cannot be imported ({error})"
        if isinstance(error, ModuleNotFoundError):
            reason = f"{title} is not installed" if error.name == title.lower() else f"{title} needs {error.name}"
        raise MissingPackageError(reason, command, error.name) from error
