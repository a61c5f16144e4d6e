"""How a command ended, and what it said."""

from __future__ import annotations

import re
from typing import NamedTuple

ERROR = "drsl: error: "
OF_TORCH = re.compile(r".*CUDA_HOME").match  # that there is a CUDA toolkit but no GPU


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    output: str
    """What it printed, without the error stream."""
    lines: list[str]
    """What it said on the error stream."""

    @property
    def errors(self) -> list[str]:
        """What it says is wrong, without what stands before each."""
        assert self.code == 2
        assert all(line.startswith(ERROR) for line in self.lines), self.lines
        assert "Traceback" not in self.output
        return [line[len(ERROR) :] for line in self.lines]

    @property
    def error(self) -> str:
        """The one thing that is wrong."""
        (error,) = self.errors
        return error
