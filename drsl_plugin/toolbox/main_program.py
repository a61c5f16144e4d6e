"""What running a team's own script as the main program takes; knows no toolbox."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from drsl_plugin.errors import SettingError
from drsl_plugin.toolbox.patching import replaced_all


@contextlib.contextmanager
def as_main_program(script: Path, argv: Sequence[str]) -> Iterator[None]:
    """Set arguments and import path as ``python SCRIPT ARGV…`` would.

    Args:
        script: the script.
        argv: its arguments.
    """
    path = [str(script.resolve().parent), *sys.path]
    with replaced_all((sys, "argv", [str(script), *argv]), (sys, "path", path)):
        yield


@contextlib.contextmanager
def plain_config_errors(command: str = "drsl run", reader: str = "") -> Iterator[None]:
    """Turn what yacs raises of a script's options, by assertions among others, and a missing file into one line.

    Args:
        command: begins the line.
        reader: the toolbox's module that opens the files which a script names, where that is not yacs itself.

    Raises:
        SettingError: in yacs' own words, or with the file's name.
    """
    try:
        yield
    except (AssertionError, KeyError, ValueError, FileNotFoundError) as error:
        innermost = list(traceback.walk_tb(error.__traceback__))[-1][0].f_globals.get("__name__", "")
        is_of_yacs = innermost.startswith("yacs")
        if isinstance(error, FileNotFoundError) and (is_of_yacs or innermost == reader):
            raise SettingError(command, "", f"no such file: {error.filename!r}") from error
        if is_of_yacs:
            raise SettingError(command, "", " ".join(map(str, error.args))) from error
        raise
