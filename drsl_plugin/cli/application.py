"""The command itself: what it is called, and how its errors become lines and exit codes."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Annotated, ParamSpec

import typer

from drsl_plugin import __version__
from drsl_plugin.errors import DRSLError
from drsl_plugin.toolbox import toolboxes

Arguments = ParamSpec("Arguments")

app = typer.Typer(
    help=f"DRSL, a ranking loss for person re-identification, in {' and '.join(each.title for each in toolboxes())}.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command of this process; what Typer has to say of its arguments is one line, too."""
    try:
        code = app(prog_name="drsl", standalone_mode=False)
    except Exception as error:
        format_message = getattr(error, "format_message", None)  # click's errors, which Typer may bring its own copy of
        if format_message is None:
            raise
        message = str(format_message())
        if type(error).__name__ != "NoArgsIsHelpError":  # its message is the help
            message = f"drsl: error: {' '.join(message.split())}"
        print(message, file=sys.stderr)
        code = 2
    raise SystemExit(code or 0)


def tell_errors(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Let a command end bad input in a line for each error and exit code 2, an interruption in one line and 130."""

    @functools.wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (DRSLError, PermissionError, NotADirectoryError, FileExistsError) as error:
            for each in error.errors if isinstance(error, DRSLError) else [error]:
                print(f"drsl: error: {' '.join(str(each).splitlines())}", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt as error:
            print(f"drsl: interrupted{error or ''}", file=sys.stderr)
            raise typer.Exit(130) from None

    return run


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit
