"""Commands that ``torchrun`` cannot start."""

from __future__ import annotations

import os
from collections.abc import Iterator

from drsl_plugin.errors import SettingError


def started_by_torchrun(advice: str) -> Iterator[SettingError]:
    """Yield an error where this is one of several processes of ``torchrun``, which would all do the same.

    Args:
        advice: how to run the command in several processes, or that it is for one.
    """
    size = int(os.environ.get("WORLD_SIZE") or 1)
    if size > 1 and "TORCHELASTIC_RUN_ID" in os.environ:
        yield SettingError("torchrun", f"with {size} processes", advice)
