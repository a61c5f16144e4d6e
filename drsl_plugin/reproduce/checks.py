"""Checks each run's configuration by its toolbox before the first run starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from drsl_plugin.errors import ConfigError, DRSLError
from drsl_plugin.reproduce.runs import Run


def check_runs(runs: Sequence[Run], root: Path, *, cuda: bool) -> None:
    """Let the toolboxes check all that they can check without reading data.

    Args:
        runs: the runs; seeds make no difference.
        root: the folder of data sets.
        cuda: whether they run on CUDA.

    Raises:
        ConfigError: a line for each thing that is wrong, with the first row that has it.
        ImportError: a toolbox is not installed; names the command that installs it.
    """
    rows: dict[str, list[str]] = {}
    for run in {(run.row.name, run.data): run for run in runs}.values():
        problems = _torchreid_problems if run.row.toolbox == "torchreid" else _fastreid_problems
        for problem in problems(run.arguments(root, cuda), root):
            rows.setdefault(problem, []).append(f"{run.row.name} on {run.data}")
    if rows:
        raise ConfigError([f"{_named(names)}: {problem}" for problem, names in rows.items()])


def _named(names: Sequence[str]) -> str:
    return f"row {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _torchreid_problems(arguments: Sequence[str], root: Path) -> list[str]:
    from drsl_plugin.torchreid.main import configure, parser
    from drsl_plugin.torchreid.problems import problems

    try:
        cfg, _, wrong = configure(parser().parse_args(arguments))
    except DRSLError as error:
        return [str(error)]
    return [str(error) for error in (*wrong, *problems(cfg))]


def _fastreid_problems(arguments: Sequence[str], root: Path) -> list[str]:
    os.environ.setdefault("FASTREID_DATASETS", str(root.absolute()))  # read when FastReID is imported, which is here
    from drsl_plugin.fastreid import datasets
    from drsl_plugin.fastreid.main import configure, parser
    from drsl_plugin.fastreid.problems import config_problems

    args = parser().parse_args(arguments)
    try:
        cfg, _, merging = configure(args)
    except DRSLError as error:
        return [str(error)]
    errors = [*merging, *config_problems(cfg)]
    if datasets.root().absolute() == root.absolute():
        errors += datasets.dataset_problems(cfg)
    return list(map(str, errors))
