"""What a run's features of one target show."""

from __future__ import annotations

from typing import NamedTuple

from drsl_plugin.report.embedding import Map, embedding_map
from drsl_plugin.report.pairs import PairHistograms, pair_histograms
from drsl_plugin.report.ranked import RankedList, ranked_lists
from drsl_plugin.report.runs import ReportedRun
from drsl_plugin.runs.evaluating import TargetResult, evaluate_arrays
from drsl_plugin.runs.features import read_features


class Panel(NamedTuple):
    """One run on one target."""

    run: int
    target: str
    result: TargetResult
    histograms: PairHistograms
    lists: dict[str, list[RankedList]]
    map: Map | str
    """The map, or why there is none."""
    has_paths: bool


def read_panel(number: int, run: ReportedRun, target: str) -> Panel:
    """Read a run's features and compute what is shown of them; nothing of their size is kept.

    Args:
        number: the run's number in the report.
        run: the run.
        target: one of its targets.

    Raises:
        DRSLError: the file cannot be read, or no query has a correct match.
    """
    arrays, metric = read_features(run.features[target]), run.evaluation.metric
    result = evaluate_arrays(arrays, run.evaluation, run.features[target])
    return Panel(
        number,
        target,
        result,
        pair_histograms(arrays, metric),
        ranked_lists(arrays, result.ranking.ap, metric),
        embedding_map(arrays, metric),
        arrays.gallery_paths is not None,
    )
