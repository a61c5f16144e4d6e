"""The errors that become one clear line and exit code 2."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import NoReturn


class DRSLError(Exception):
    """What a user can put right: its text is one line that names the setting, what it got and what would do."""


class ConfigError(DRSLError):
    """Several things that a user can put right, each of them a line of its own.

    Args:
        problems: the lines.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        """Keep the lines."""
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line too, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage.

        Raises:
            DRSLError: always, with argparse's message.
        """
        raise DRSLError(f"{message}; `{self.prog} --help` shows the arguments")


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Name the known names nearest to ``name``, as the end of an error line.

    Args:
        name: what was given.
        known: the names that exist.
        count: how many to offer at most.

    Returns:
        ``"; did you mean a, b or c?"``, or an empty string where nothing is near.

    Example:
        >>> nearest("loss.drls", ["loss.drsl", "train.lr"])
        '; did you mean loss.drsl?'
    """
    close = difflib.get_close_matches(name, list(known), n=count, cutoff=0.5)
    if not close:
        return ""
    offered = close[0] if len(close) == 1 else f"{', '.join(close[:-1])} or {close[-1]}"
    return f"; did you mean {offered}?"
