"""``drsl evaluate``: mAP, mINP and Rank-k from features, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drsl_plugin.cli.application import app, tell_errors
from drsl_plugin.errors import DRSLError, MissingPackageError, SettingError
from drsl_plugin.runs.reading import OPTION, trusting_files

if TYPE_CHECKING:
    from drsl_plugin.runs.evaluating import TargetResult


@app.command()
@tell_errors
def evaluate(
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
    trust_checkpoints: Annotated[
        bool, typer.Option(OPTION, help="Read arrays of Python objects, which are pickled and can say anything.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, and nothing else.")] = False,
) -> None:
    """Compute mAP, mINP and Rank-k from a run's features."""
    results = _evaluate(run, features, metric, target, cuhk03, trust_checkpoints)
    if as_json:
        rows = {name: result.row() for name, result in results.items()}
        print(json.dumps(rows if len(rows) > 1 else next(iter(rows.values()))))
    else:
        _print_table(results)


def _evaluate(
    run: Path | None,
    features: Path | None,
    metric: str | None,
    target: str | None,
    single_shot: bool | None,
    trust: bool,
) -> dict[str, TargetResult]:
    """Evaluate the targets of a run, or a file of features; None leaves it to what the run did."""
    try:
        from drsl_plugin.evaluation import METRICS
        from drsl_plugin.runs.config import EvaluationSettings, read_config
        from drsl_plugin.runs.evaluating import evaluate_file
        from drsl_plugin.runs.features import find_features
        from drsl_plugin.toolbox.registry import find_evaluation_settings
    except ModuleNotFoundError as error:  # PyTorch runs without it
        if error.name != "numpy":
            raise
        raise MissingPackageError("drsl evaluate needs NumPy", "pip install numpy", error.name) from None
    if metric not in (None, *METRICS):
        raise SettingError("--metric", "", f"{' or '.join(METRICS)}, not {metric}")
    if run is not None and features is None:
        files, settings = find_features(run, target), find_evaluation_settings(read_config(run))
    elif run is not None or features is None:
        raise DRSLError("drsl evaluate takes a run folder or --features FILE, one of the two")
    elif target is not None:
        raise SettingError("--target", "", "names a data set of a run folder; a file of --features has but one")
    else:
        files, settings = {features.name: features}, EvaluationSettings()
    settings = EvaluationSettings(
        metric or settings.metric, settings.single_shot if single_shot is None else single_shot
    )
    with trusting_files(trust):
        return {name: evaluate_file(path, settings) for name, path in files.items()}


def _print_table(results: Mapping[str, TargetResult]) -> None:
    from rich.console import Console
    from rich.table import Table

    from drsl_plugin.runs.evaluating import SHOWN_RANKS

    table = Table("target", "metric", "queries", "mAP", "mINP", *(f"Rank-{k}" for k in SHOWN_RANKS))
    for name, result in results.items():
        counted = f"{len(result.ranking.ap)} of {result.queries}"
        values = (f"{100 * value:.1f}" for value in result.row().values())
        table.add_row(name, result.settings.metric, counted, *values)
    console = Console()
    console.print(table)
    if any(len(result.ranking.ap) < result.queries for result in results.values()):
        console.print("A query without a correct match in the gallery from another camera does not count.")
    if any(result.settings.single_shot for result in results.values()):
        console.print("Rank-k: CUHK03's single-gallery-shot, expected over its random draws; mAP, mINP: whole gallery.")
