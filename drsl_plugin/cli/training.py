"""The commands that train: one for each toolbox, a team's own script, and the demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from drsl_plugin.cli.application import app, tell_errors
from drsl_plugin.errors import one_of
from drsl_plugin.toolbox import Toolbox, toolboxes

_PASS_ON: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _add_toolbox(toolbox: Toolbox) -> None:
    """Add the command that runs a toolbox."""

    @app.command(
        toolbox.name,
        context_settings=_PASS_ON,
        add_help_option=False,
        help=f"Train or evaluate with {toolbox.title}.\n\nTakes the arguments of {toolbox.title}'s {toolbox.script}.",
    )
    @tell_errors
    def run_toolbox(context: typer.Context) -> None:
        toolbox.main(context.args)


for _toolbox in toolboxes():
    _add_toolbox(_toolbox)


@app.command(
    "run",
    context_settings=_PASS_ON,
    add_help_option=False,
    help=f"Run your own {one_of([each.title for each in toolboxes()])} script, unmodified, with DRSL.",
)
@tell_errors
def run_script(context: typer.Context) -> None:
    """Run a team's own script with DRSL known to its toolbox."""
    from drsl_plugin.run import main

    main(context.args)


@app.command()
@tell_errors
def demo(
    directory: Annotated[Path, typer.Argument(help="Folder for the demo's data and runs.")] = Path("drsl-demo"),
    data_only: Annotated[
        Path | None, typer.Option(help="Render the data set into this folder and stop.", metavar="DIR")
    ] = None,
    identities: Annotated[int, typer.Option(help="Identities to train on, and as many to test on.")] = 48,
    cameras: Annotated[int, typer.Option(help="Cameras, 2 to 6.")] = 4,
    images: Annotated[int, typer.Option(help="Images of an identity from each camera.")] = 3,
    epochs: Annotated[int, typer.Option(help="Epochs of each training.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the drawings and of the trainings.")] = 0,
    compare: Annotated[bool, typer.Option(help="Train with the triplet loss as well.")] = True,
) -> None:
    """Render a data set, train on it, show the results."""
    settings = {"identities": identities, "cameras": cameras, "images": images, "seed": seed}
    if data_only is not None:
        from drsl_plugin.toolbox.rendering import render_with_progress

        render_with_progress(data_only, settings)
    else:
        from drsl_plugin.torchreid.demo import run_demo

        run_demo(directory, settings, epochs=epochs, losses=("drsl", "triplet") if compare else ("drsl",))
