"""Torchreid's modules under the names that upstream's scripts import, whichever distribution it is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from drsl_plugin.torchreid.host import torchreid  # noqa: F401  (its modules are what this is about)


@contextlib.contextmanager
def flat_modules() -> Iterator[None]:
    """Make ``from torchreid.utils import …`` work on the PyPI distribution, whose modules lie in ``torchreid.reid``.

    Cause: torchreid 0.2.5 from PyPI; none on a GitHub checkout. To see it gone: ``test_pypi_has_no_torchreid_utils``.
    """
    added = add_flat_modules()
    try:
        yield
    finally:
        for name in added:
            sys.modules.pop(name, None)


def add_flat_modules() -> list[str]:
    """Make it work from now on, as a loader's worker needs it that imports such a script.

    Returns:
        The names that are new.
    """
    nested = {name: module for name, module in sys.modules.items() if name.startswith("torchreid.reid.")}
    flat = {name.replace("torchreid.reid.", "torchreid.", 1): module for name, module in nested.items()}
    added = {name: module for name, module in flat.items() if name not in sys.modules}
    sys.modules.update(added)
    return list(added)
