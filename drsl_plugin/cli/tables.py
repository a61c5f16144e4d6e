"""The commands of several runs: a table of them, and a page about them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drsl_plugin.cli.application import app, tell_errors


@app.command("reproduce", context_settings={"ignore_unknown_options": True})  # a value may be -1
@tell_errors
def reproduce_command(
    table: Annotated[str, typer.Argument(help="Table file, or a shipped one: zoo, ablation, imbalance, demo.")],
    changes: Annotated[
        list[str] | None, typer.Argument(help="`key value` pairs for all rows of a toolbox.", metavar="[KEY VALUE]...")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of data sets, as `drsl download` lays it out.", metavar="DIR")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the table. Default: drsl-tables/TABLE.", metavar="DIR"),
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Runs at once.", metavar="N")] = None,
    gpus: Annotated[str | None, typer.Option(help="GPUs to use, a run on each: 0,1.", metavar="N,N")] = None,
    only: Annotated[list[str] | None, typer.Option(help="A row to run; may be given again.", metavar="ROW")] = None,
    data: Annotated[list[str] | None, typer.Option(help="A data set to run, likewise.", metavar="NAME")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print each run's command, and run none.")] = False,
) -> None:
    """Run what a table asks for and is not there yet, and write the table.

    Takes up where it was stopped. Exit code 1 where a run failed.
    """
    from drsl_plugin.reproduce.main import Options, reproduce

    options = Options(root, output, jobs, gpus, only or (), data or (), dry_run)
    if code := reproduce(table, changes or (), options):
        raise typer.Exit(code)


@app.command("report")
@tell_errors
def report_command(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of either toolbox.", metavar="RUN...")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The page; replaced if there.", metavar="FILE.html")
    ] = Path("report.html"),
    images: Annotated[
        Path | None,
        typer.Option(help="Folder to look for the images in, in place of where the runs saw them.", metavar="DIR"),
    ] = None,
) -> None:
    """Make one HTML page of runs, side by side: settings, curves, distances, ranked lists, a map."""
    from drsl_plugin.report.main import main as make_report

    make_report(runs, output, images)
