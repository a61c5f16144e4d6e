"""The run folders of a report, read and told apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from drsl_plugin.errors import DRSLError, SettingError
from drsl_plugin.report.settings import ENVIRONMENT_LEFT_OUT, flatten
from drsl_plugin.runs.config import EvaluationSettings, read_config
from drsl_plugin.runs.features import find_features
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.toolbox.registry import data_set_key, find_evaluation_settings


class ReportedRun(NamedTuple):
    """What a run left, but for its features."""

    label: str
    path: Path
    features: dict[str, Path]
    """Files by target."""
    evaluation: EvaluationSettings
    config: dict[str, str]
    """Flattened; empty where there is none, like the environment and the rows."""
    environment: dict[str, str]
    rows: list[dict[str, Any]]


def read_runs(paths: Sequence[Path]) -> list[ReportedRun]:
    """Read run folders of any toolbox.

    Args:
        paths: the folders.

    Raises:
        DRSLError: none or one given twice, no folder, no features in it, or a file that cannot be read.
    """
    if not paths:
        raise DRSLError("drsl report takes one run folder or several")
    resolved = [path.expanduser().resolve() for path in paths]
    for place, path in enumerate(resolved):
        if path in resolved[:place]:
            raise SettingError(str(paths[place]), "", "the same run folder twice")
    found = name_targets_alike([find_features(path) for path in paths])
    return [
        _read_run(label, path, features) for label, path, features in zip(labels(resolved), paths, found, strict=True)
    ]


def _read_run(label: str, path: Path, features: dict[str, Path]) -> ReportedRun:
    config = read_config(path)
    evaluation = find_evaluation_settings(config)
    return ReportedRun(label, path, features, evaluation, flatten(config), _read_environment(path), _read_rows(path))


def labels(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of paths that tell each from all others.

    Args:
        paths: different from one another.

    Example:
        >>> labels([Path("/runs/drsl/seed-1"), Path("/runs/triplet/seed-1"), Path("/runs/drsl/seed-2")])
        ['drsl/seed-1', 'triplet/seed-1', 'seed-2']
    """
    found = []
    for path in paths:
        others = [other.parts for other in paths if other != path]
        lengths = range(1, len(path.parts) + 1)
        length = next((n for n in lengths if all(other[-n:] != path.parts[-n:] for other in others)), len(path.parts))
        found.append(Path(*path.parts[-length:]).as_posix())
    return found


def name_targets_alike(found: Sequence[dict[str, Path]]) -> list[dict[str, Path]]:
    """Give a target one name, the first of those by which toolboxes call the same data set.

    Args:
        found: each run's files by target.

    Example:
        >>> [list(each) for each in name_targets_alike([{"market1501": Path("a")}, {"Market1501": Path("b")}])]
        [['market1501'], ['market1501']]
    """
    spelt: dict[str, str] = {}
    return [{spelt.setdefault(data_set_key(target), target): path for target, path in files.items()} for files in found]


def _read_environment(path: Path) -> dict[str, str]:
    file = path / "environment.json"
    try:
        found = flatten(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}
    except ValueError as error:
        raise SettingError(str(file), "", f"cannot be read: {error}") from None
    return {name: text for name, text in found.items() if name.partition(".")[0] not in ENVIRONMENT_LEFT_OUT}


def _read_rows(path: Path) -> list[dict[str, Any]]:
    try:
        return [row for row in RunFolder(path).rows() if isinstance(row, dict)]
    except UnicodeDecodeError as error:
        raise SettingError(str(path / "metrics.jsonl"), "", f"cannot be read: {error}") from None
