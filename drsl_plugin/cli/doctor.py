"""The command that says what is installed and what ails it."""

from __future__ import annotations

from typing import Annotated

import typer

from drsl_plugin.cli.application import app, tell_errors


@app.command()
@tell_errors
def doctor(
    root: Annotated[
        str, typer.Option(help="Folder of data sets, for the commands that take one.", metavar="DIR")
    ] = "reid-data",
) -> None:
    """Show what is installed, what ails it, where data sets are looked for, and what to type next.

    Exit code 1: no toolbox is installed, or one that is lacks something that it needs.
    """
    from drsl_plugin.doctor import main

    if code := main(root):
        raise typer.Exit(code)
