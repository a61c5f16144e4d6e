"""The run folders of a report, read and told apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from drsl_plugin.errors import DRSLError
from drsl_plugin.evaluate import Protocol, feature_files, run_protocol
from drsl_plugin.report.settings import ENVIRONMENT_LEFT_OUT, flatten
from drsl_plugin.runs.folder import RunFolder


class Run(NamedTuple):
    """What a run left, but for its features."""

    label: str
    path: Path
    features: dict[str, Path]
    """Files by target."""
    protocol: Protocol
    config: dict[str, str]
    """Flattened; empty where there is none, like the environment and the rows."""
    environment: dict[str, str]
    rows: list[dict[str, Any]]


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read run folders of either toolbox.

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
            raise DRSLError(f"{paths[place]}: the same run folder twice")
    found = same_targets([feature_files(path) for path in paths])
    return [
        Run(label, path, features, run_protocol(path), _config(path), _environment(path), _rows(path))
        for label, path, features in zip(labels(resolved), paths, found, strict=True)
    ]


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


def same_targets(found: Sequence[dict[str, Path]]) -> list[dict[str, Path]]:
    """Give a target one name: the toolboxes spell the same data set ``market1501`` and ``Market1501``.

    Args:
        found: each run's files by target.

    Example:
        >>> [list(each) for each in same_targets([{"market1501": Path("a")}, {"Market1501": Path("b")}])]
        [['market1501'], ['market1501']]
    """
    spelt: dict[str, str] = {}
    return [{spelt.setdefault(target.lower(), target): path for target, path in files.items()} for files in found]


def _config(path: Path) -> dict[str, str]:
    """Flatten the configuration, whose YAML was checked with the protocol."""
    file = path / "config.yaml"
    return flatten(yaml.safe_load(file.read_text(encoding="utf-8"))) if file.exists() else {}


def _environment(path: Path) -> dict[str, str]:
    file = path / "environment.json"
    try:
        found = flatten(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}
    except ValueError as error:
        raise DRSLError(f"{file}: cannot be read: {error}") from None
    return {name: text for name, text in found.items() if name.partition(".")[0] not in ENVIRONMENT_LEFT_OUT}


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        return [row for row in RunFolder(path).rows() if isinstance(row, dict)]
    except UnicodeDecodeError as error:
        raise DRSLError(f"{path / 'metrics.jsonl'}: cannot be read: {error}") from None
