"""How a benchmark ends where it cannot go on: one line, and no traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from drsl_plugin.errors import DRSLError


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; what is wrong is told in a line, with exit code 2."""
    try:
        main()
    except DRSLError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
