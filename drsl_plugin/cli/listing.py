"""``drsl presets``: lists, shows and copies the presets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from drsl_plugin import presets
from drsl_plugin.cli.application import app, tell_errors
from drsl_plugin.toolbox import toolboxes

presets_app = typer.Typer(help="List, show and copy the presets.", rich_markup_mode=None)
app.add_typer(presets_app, name="presets")


@presets_app.callback(invoke_without_command=True)
@tell_errors
def list_presets(context: typer.Context) -> None:
    """List the presets; with no terminal to print to, one full name a line."""
    if context.invoked_subcommand is not None:
        return
    names = presets.preset_names()
    if not sys.stdout.isatty():
        print("\n".join(names))
        return
    from rich.columns import Columns
    from rich.console import Console

    console = Console()
    for toolbox in dict.fromkeys(name.partition("/")[0] for name in names):
        console.print(f"[bold]{toolbox}/[/bold]")
        console.print(Columns([name.partition("/")[2] for name in names if name.startswith(f"{toolbox}/")]))
    commands = "\n          ".join(each.preset_command for each in toolboxes())
    console.print(f"\nrun one:  {commands}\nread one: drsl presets show NAME")


@presets_app.command("show")
@tell_errors
def show_preset(name: Annotated[str, typer.Argument(help="The preset's name.")]) -> None:
    """Print a preset, with what it builds on merged in."""
    print(presets.preset_text(name), end="")


@presets_app.command("copy")
@tell_errors
def copy_preset(
    name: Annotated[str, typer.Argument(help="The preset's name.")],
    destination: Annotated[
        Path, typer.Argument(help="A file that ends in .yaml, or a folder; made if missing.", metavar="DEST")
    ],
) -> None:
    """Copy a preset, to start a configuration of your own from it."""
    print(presets.copy_preset(name, destination))
