"""The ``drsl`` command: one thin function a sub-command."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from drsl_plugin import __version__, presets
from drsl_plugin.errors import DRSLError

app = typer.Typer(
    help="DRSL, a ranking loss for person re-identification, in Torchreid and FastReID.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
presets_app = typer.Typer(help="List, show and copy the presets.", rich_markup_mode=None)
app.add_typer(presets_app, name="presets")

_PASS_ON: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


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


def _plain_errors(command: Callable[..., None]) -> Callable[..., None]:
    """End bad input in one line and exit code 2, an interruption in one line and exit code 130."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (DRSLError, ImportError, PermissionError, NotADirectoryError, FileExistsError) as error:
            if isinstance(error, ImportError) and "pip install" not in str(error):
                raise
            for problem in getattr(error, "problems", [str(error)]):
                print(f"drsl: error: {' '.join(problem.splitlines())}", file=sys.stderr)
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


@app.command("torchreid", context_settings=_PASS_ON, add_help_option=False)
@_plain_errors
def torchreid_command(context: typer.Context) -> None:
    """Train or evaluate with Torchreid.

    Takes the arguments of Torchreid's scripts/main.py.
    """
    from drsl_plugin.torchreid.main import main as run

    run(context.args)


@app.command("fastreid", context_settings=_PASS_ON, add_help_option=False)
@_plain_errors
def fastreid_command(context: typer.Context) -> None:
    """Train or evaluate with FastReID.

    Takes the arguments of FastReID's tools/train_net.py.
    """
    from drsl_plugin.fastreid.main import main as run

    run(context.args)


@app.command("run", context_settings=_PASS_ON, add_help_option=False)
@_plain_errors
def run_command(context: typer.Context) -> None:
    """Run your own Torchreid or FastReID script, unmodified, with DRSL."""
    from drsl_plugin.run import main as run

    run(context.args)


@app.command("doctor")
@_plain_errors
def doctor_command(
    root: Annotated[str, typer.Option(help="Folder of data sets, for the commands that take one.", metavar="DIR")] = (
        "reid-data"
    ),
) -> None:
    """Show what is installed, what ails it, where data sets are looked for, and what to type next.

    Exit code 1: no toolbox is installed, or one that is lacks something that it needs.
    """
    from drsl_plugin.doctor import main as run

    if code := run(root):
        raise typer.Exit(code)


@app.command()
@_plain_errors
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
        from drsl_plugin.data.progress import render_with_progress

        render_with_progress(data_only, settings)
    else:
        from drsl_plugin.torchreid.demo import run_demo

        run_demo(directory, settings, epochs=epochs, losses=("drsl", "triplet") if compare else ("drsl",))


@app.command("download")
@_plain_errors
def download_command(
    dataset: Annotated[str, typer.Argument(help="market1501, msmt17 or cuhk03.")],
    root: Annotated[Path, typer.Option(help="Folder of data sets; serves both toolboxes.", metavar="DIR")] = Path(
        "reid-data"
    ),
    archive: Annotated[Path | None, typer.Option(help="Unpack this one instead.", metavar="FILE")] = None,
) -> None:
    """Download a published data set, or unpack one, for both toolboxes.

    What has to be asked for gets its instructions instead, and exit code 1.
    """
    from drsl_plugin.data.catalogue import published
    from drsl_plugin.data.download import download, instructions
    from drsl_plugin.doctor import training_commands

    data_set = published(dataset)
    if archive is None and data_set.source is None:
        print(instructions(data_set, root))
        raise typer.Exit(1)
    root = root.expanduser()
    print(f"{data_set.title}: {download(data_set, root, archive and archive.expanduser())}")
    for toolbox, command in training_commands(data_set, str(root)).items():
        print(f"{toolbox}: {command}")
    if data_set.note:
        print(data_set.note)


@app.command("evaluate")
@_plain_errors
def evaluate_command(
    run: Annotated[Path | None, typer.Argument(help="Run folder of either toolbox: all its targets.")] = None,
    features: Annotated[
        Path | None, typer.Option(help="Features in place of a run folder, as a run leaves them.", metavar="FILE.npz")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Default: the run's own; of a file, cosine.", metavar="cosine|euclidean")
    ] = None,
    target: Annotated[str | None, typer.Option(help="One target of the run folder.", metavar="NAME")] = None,
    cuhk03: Annotated[
        bool | None,
        typer.Option(help="Rank-k by CUHK03's single-gallery-shot, its expectation. Default: as the run did."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, and nothing else.")] = False,
) -> None:
    """Compute mAP, mINP and Rank-k from a run's features."""
    from drsl_plugin.evaluate import main as run_evaluation

    run_evaluation(run, features, metric, target, cuhk03, as_json)


@app.command("reproduce", context_settings={"ignore_unknown_options": True})  # a value may be -1
@_plain_errors
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
@_plain_errors
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


@presets_app.callback(invoke_without_command=True)
@_plain_errors
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
    console.print(
        "\nrun one:  drsl torchreid --config-file NAME --root DIR"
        "\n          FASTREID_DATASETS=DIR drsl fastreid --config-file NAME"
        "\nread one: drsl presets show NAME"
    )


@presets_app.command("show")
@_plain_errors
def show_preset(name: Annotated[str, typer.Argument(help="The preset's name.")]) -> None:
    """Print a preset, with what it builds on merged in."""
    print(presets.preset_text(name), end="")


@presets_app.command("copy")
@_plain_errors
def copy_preset(
    name: Annotated[str, typer.Argument(help="The preset's name.")],
    destination: Annotated[
        Path, typer.Argument(help="A file that ends in .yaml, or a folder; made if missing.", metavar="DEST")
    ],
) -> None:
    """Copy a preset, to start a configuration of your own from it."""
    print(presets.copy_preset(name, destination))
