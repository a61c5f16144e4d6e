"""The command that downloads data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drsl_plugin.cli.application import app, tell_errors


@app.command("download")
@tell_errors
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
