"""CMC, mAP and mINP from the features that a run left, or from any like them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from drsl_plugin.errors import SettingError
from drsl_plugin.evaluation import Ranking, evaluate_features
from drsl_plugin.runs.config import EvaluationSettings
from drsl_plugin.runs.features import FeatureFile, read_features

SHOWN_RANKS = (1, 5, 10)


class TargetResult(NamedTuple):
    """What the evaluation of one target gave."""

    settings: EvaluationSettings
    queries: int
    ranking: Ranking

    def row(self) -> dict[str, float]:
        """Return mAP, mINP and Rank-k under the names of ``metrics.jsonl``, fractions of 1."""
        ranking = self.ranking
        return {
            "mAP": ranking.mAP,
            "mINP": ranking.mINP,
            **{f"rank{k}": float(ranking.cmc[k - 1]) for k in SHOWN_RANKS},
        }


def evaluate_file(path: Path, settings: EvaluationSettings) -> TargetResult:
    """Evaluate a file of features.

    Args:
        path: as :func:`~drsl_plugin.runs.features.read_features` reads it.
        settings: how.

    Raises:
        SettingError: the file cannot be read, or none of its queries has a correct match.
    """
    return evaluate_arrays(read_features(path), settings, path)


def evaluate_arrays(arrays: FeatureFile, settings: EvaluationSettings, path: Path) -> TargetResult:
    """Evaluate the arrays of a file.

    Args:
        arrays: what is in it.
        settings: how.
        path: the file, for errors.

    Raises:
        SettingError: none of the queries has a correct match.
    """
    try:
        ranking = evaluate_features(*arrays[:6], metric=settings.metric, single_shot=settings.single_shot)
    except ValueError as error:
        raise SettingError(str(path), "", str(error)) from None
    return TargetResult(settings, len(arrays.query_pids), ranking)
