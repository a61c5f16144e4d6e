"""``drsl evaluate``: CMC, mAP and mINP from the features that a run left, or from any like them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from drsl_plugin.errors import DRSLError, nearest

try:
    from drsl_plugin.evaluation import METRICS, Ranking, evaluate_features
    from drsl_plugin.runs.features import read_features
except ModuleNotFoundError as error:  # PyTorch runs without it
    if error.name != "numpy":
        raise
    raise ImportError("drsl evaluate needs NumPy: pip install numpy") from None

RANKS = (1, 5, 10)


class Protocol(NamedTuple):
    """How to evaluate."""

    metric: str
    """``"cosine"`` or ``"euclidean"``."""
    single_shot: bool
    """CMC of CUHK03's single-gallery-shot."""


class Result(NamedTuple):
    """What the evaluation of one target gave."""

    protocol: Protocol
    queries: int
    ranking: Ranking

    def row(self) -> dict[str, float]:
        """Return mAP, mINP and Rank-k under the names of ``metrics.jsonl``, fractions of 1."""
        ranking = self.ranking
        return {"mAP": ranking.mAP, "mINP": ranking.mINP, **{f"rank{k}": float(ranking.cmc[k - 1]) for k in RANKS}}


def main(
    run: Path | None = None,
    features: Path | None = None,
    metric: str | None = None,
    target: str | None = None,
    single_shot: bool | None = None,
    as_json: bool = False,
) -> None:
    """Evaluate a run folder or a file of features, and print the table or the JSON object.

    Args:
        run: the run folder, of either toolbox.
        features: an ``.npz`` file, in place of ``run``.
        metric: ``"cosine"`` or ``"euclidean"``; None for the run's own, for a file cosine.
        target: the run's target to evaluate; None for all.
        single_shot: CUHK03's single-gallery-shot; None for what the run did, for a file not.
        as_json: one JSON object and nothing else.

    Raises:
        DRSLError: what was given cannot be evaluated.
    """
    if metric not in (None, *METRICS):
        raise DRSLError(f"--metric: {' or '.join(METRICS)}, not {metric}")
    if (run is None) == (features is None):
        raise DRSLError("drsl evaluate takes a run folder or --features FILE, one of the two")
    if run is not None:
        files, protocol = feature_files(run, target), run_protocol(run)
    elif target is not None:
        raise DRSLError("--target: names a data set of a run folder; a file of --features has but one")
    else:
        assert features is not None
        files, protocol = {features.name: features}, Protocol("cosine", False)
    protocol = Protocol(metric or protocol.metric, protocol.single_shot if single_shot is None else single_shot)
    results = {name: evaluate_file(path, protocol) for name, path in files.items()}
    if as_json:
        rows = {name: result.row() for name, result in results.items()}
        print(json.dumps(rows if len(rows) > 1 else next(iter(rows.values()))))
    else:
        _show(results)


def evaluate_file(path: Path, protocol: Protocol) -> Result:
    """Evaluate a file of features.

    Args:
        path: as :func:`~drsl_plugin.runs.features.read_features` reads it.
        protocol: how.

    Raises:
        DRSLError: the file cannot be read, or none of its queries has a correct match.
    """
    arrays = read_features(path)
    try:
        ranking = evaluate_features(*arrays[:6], metric=protocol.metric, single_shot=protocol.single_shot)
    except ValueError as error:
        raise DRSLError(f"{path}: {error}") from None
    return Result(protocol, len(arrays.query_pids), ranking)


def feature_files(run: Path, target: str | None = None) -> dict[str, Path]:
    """Return a run's files of features by target.

    Args:
        run: the run folder.
        target: the one to take; None for all.

    Raises:
        DRSLError: not a folder, no features in it, or none of this target.
    """
    if not run.is_dir():
        hint = f"; a file of features: drsl evaluate --features {run}" if run.is_file() else ""
        raise DRSLError(f"{run}: no such run folder{hint}")
    files = {path.stem.removeprefix("features-"): path for path in sorted(run.glob("features-*.npz"))}
    if not files:
        raise DRSLError(f"{run}: no features-TARGET.npz in it; a run writes them when it evaluates")
    if target is None:
        return files
    if target not in files:
        raise DRSLError(f"--target: {', '.join(files)} in {run}, not {target}{nearest(target, files)}")
    return {target: files[target]}


def run_protocol(run: Path) -> Protocol:
    """Return how a run evaluated, from its ``config.yaml``; cosine where there is none or it does not say.

    Torchreid's Euclidean distance of normalised features ranks as the cosine does.

    Raises:
        DRSLError: the configuration is no YAML.
    """
    path = run / "config.yaml"
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DRSLError(f"{path}: cannot be read: {error}") from None
    metric = _value(config, "test", "dist_metric") or _value(config, "TEST", "METRIC")
    if metric not in METRICS or _value(config, "test", "normalize_feature"):
        metric = "cosine"
    return Protocol(metric, bool(_value(config, "cuhk03", "use_metric_cuhk03")))


def _value(config: Any, node: str, key: str) -> Any:
    section = config.get(node) if isinstance(config, dict) else None
    return section.get(key) if isinstance(section, dict) else None


def _show(results: dict[str, Result]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("target", "metric", "queries", "mAP", "mINP", *(f"Rank-{k}" for k in RANKS))
    for name, (protocol, queries, ranking) in results.items():
        values = results[name].row().values()
        counted = f"{len(ranking.ap)} of {queries}"
        table.add_row(name, protocol.metric, counted, *(f"{100 * value:.1f}" for value in values))
    console = Console()
    console.print(table)
    if any(len(result.ranking.ap) < result.queries for result in results.values()):
        console.print("A query without a correct match in the gallery from another camera does not count.")
    if any(result.protocol.single_shot for result in results.values()):
        console.print("Rank-k: CUHK03's single-gallery-shot, expected over its random draws; mAP, mINP: whole gallery.")
