"""What a run's features of one target show."""

from __future__ import annotations

from typing import NamedTuple

from drsl_plugin.errors import DRSLError
from drsl_plugin.evaluate import Result
from drsl_plugin.evaluation import evaluate_features
from drsl_plugin.report.embedding import Map, embedding_map
from drsl_plugin.report.pairs import PairHistograms, pair_histograms
from drsl_plugin.report.ranked import RankedList, ranked_lists
from drsl_plugin.report.runs import Run
from drsl_plugin.runs.features import read_features


class Panel(NamedTuple):
    """One run on one target."""

    run: int
    target: str
    result: Result
    histograms: PairHistograms
    lists: dict[str, list[RankedList]]
    map: Map | str
    """The map, or why there is none."""
    has_paths: bool


def read_panel(number: int, run: Run, target: str) -> Panel:
    """Read a run's features and compute what is shown of them; nothing of their size is kept.

    Args:
        number: the run's number in the report.
        run: the run.
        target: one of its targets.

    Raises:
        DRSLError: the file cannot be read, or no query has a correct match.
    """
    path, protocol = run.features[target], run.protocol
    arrays = read_features(path)
    try:
        ranking = evaluate_features(*arrays[:6], metric=protocol.metric, single_shot=protocol.single_shot)
    except ValueError as error:
        raise DRSLError(f"{path}: {error}") from None
    return Panel(
        number,
        target,
        Result(protocol, len(arrays.query_pids), ranking),
        pair_histograms(arrays, protocol.metric),
        ranked_lists(arrays, ranking.ap, protocol.metric),
        embedding_map(arrays, protocol.metric),
        arrays.gallery_paths is not None,
    )
