"""FastReID's evaluator, which here needs no compiler and leaves the features in the run folder."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from drsl_plugin.evaluation import evaluate_ranking
from drsl_plugin.fastreid.cython_part import build_obstacles
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.targets import check_matches
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.toolbox.patching import replaced
from drsl_plugin.toolbox.types import ConfigNode

Array: TypeAlias = "np.ndarray[Any, Any]"

logger = logging.getLogger("fastreid.drsl")


class FeatureEvaluator(fastreid.evaluation.ReidEvaluator):
    """FastReID's ``ReidEvaluator``; writes ``features-<target>.npz`` as well, of the features before re-ranking.

    Args:
        cfg: as in FastReID, like the next two.
        num_query: how many of the images are queries; they come first.
        output_dir: unused by FastReID.
        target: the data set's name; without one no features are written.
    """

    _predictions: list[dict[str, Any]]

    def __init__(self, cfg: ConfigNode, num_query: int, output_dir: str | None = None, target: str = "") -> None:
        """Keep the target."""
        super().__init__(cfg, num_query, output_dir)
        self._target = target

    def process(self, inputs: dict[str, Any], outputs: torch.Tensor) -> None:
        """Keep the features of a batch, and the paths of its images."""
        super().process(inputs, outputs)
        self._predictions[-1]["paths"] = list(inputs.get("img_paths", []))

    def evaluate(self) -> dict[str, float]:
        """Rank and average as FastReID does.

        Returns:
            Rank-1, Rank-5, Rank-10, mAP and mINP in percent; nothing but on the first process.

        Raises:
            SettingError: no query has a match in the gallery.
        """
        comm = fastreid.utils.comm
        comm.synchronize()
        self._predictions = list(itertools.chain(*comm.gather(self._predictions)))  # empty but on the first process
        if not comm.is_main_process():
            return dict(super().evaluate())
        arrays = self._collect_arrays()
        if self._target and self.cfg.OUTPUT_DIR:
            RunFolder(self.cfg.OUTPUT_DIR).save_features(self._target, arrays)
        check_matches(self._target, *(_pair_up(arrays, part) for part in ("query", "gallery")))
        with _rank_any_gallery(arrays):
            results: dict[str, float] = super().evaluate()
        return results

    def _collect_arrays(self) -> dict[str, Any]:
        """Return what a run keeps of its evaluation: features, identities, cameras and paths."""
        columns = {
            "features": torch.cat([each["feats"] for each in self._predictions]).numpy(),
            "pids": torch.cat([each["pids"] for each in self._predictions]).numpy(),
            "camids": torch.cat([each["camids"] for each in self._predictions]).numpy(),
            "paths": np.array([path for each in self._predictions for path in each["paths"]]),
        }
        queries = self._num_query
        return {
            f"{part}_{name}": values[:queries] if part == "query" else values[queries:]
            for part in ("query", "gallery")
            for name, values in columns.items()
        }

    def _compile_dependencies(self) -> None:
        """Build FastReID's Cython evaluation where that can work, and evaluate in Python where it cannot (F4).

        Cause: ``fastreid.evaluation.rank_cylib.compile_helper`` ends the process with ``sys.exit(1)`` where ``make``
        fails; all distributions. To see it gone: ``test_stock_evaluator_exits_without_compiler``.
        """
        try:
            if _can_compile():
                super()._compile_dependencies()
                return
        except (SystemExit, OSError):
            logger.warning("Evaluation runs in Python: FastReID's Cython code could not be built")
        fastreid.utils.comm.synchronize()  # the other processes wait in theirs


@functools.lru_cache
def _can_compile() -> bool:
    obstacles = build_obstacles(Path(fastreid.__file__).parent)
    if obstacles:
        logger.info(f"Evaluation runs in Python: FastReID's Cython part cannot be built here ({', '.join(obstacles)})")
    return not obstacles


def _pair_up(arrays: dict[str, Any], part: str) -> Iterator[tuple[int, int]]:
    """Pair identities with cameras."""
    return zip(arrays[f"{part}_pids"].tolist(), arrays[f"{part}_camids"].tolist(), strict=True)


@contextlib.contextmanager
def _rank_any_gallery(arrays: dict[str, Any]) -> Iterator[None]:
    """Rank small galleries too.

    Cause: ``fastreid.evaluation.rank.eval_market1501`` stacks curves that are as long as what is left of the gallery
    without a query's own camera, up to 50, and reads the tenth value; all distributions. To see it gone:
    ``test_stock_ranking_needs_a_large_gallery``.
    """
    own = Counter(_pair_up(arrays, "gallery"))
    left = own.total() - max((own[query] for query in _pair_up(arrays, "query")), default=0)
    rank = importlib.import_module("fastreid.evaluation.rank")

    def evaluate_rank(
        distances: Array,
        query_pids: Array,
        gallery_pids: Array,
        query_camids: Array,
        gallery_camids: Array,
        **_: object,
    ) -> tuple[Array, Array, list[float]]:
        ranking = evaluate_ranking(distances, query_pids, gallery_pids, query_camids, gallery_camids)
        return ranking.cmc, ranking.ap, [ranking.mINP]

    with replaced(rank, "evaluate_rank", evaluate_rank) if left < 50 else contextlib.nullcontext():
        yield
