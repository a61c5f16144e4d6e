"""FastReID's evaluator, which here needs no compiler and leaves the features in the run folder."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drsl_plugin.errors import DRSLError
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.run_folder import RunFolder

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

    def __init__(self, cfg: Any, num_query: int, output_dir: str | None = None, target: str = "") -> None:
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
            DRSLError: a gallery of less than ten images, or no query with a match in it.
        """
        comm = fastreid.utils.comm
        comm.synchronize()
        self._predictions = list(itertools.chain(*comm.gather(self._predictions)))  # empty but on the first process
        if comm.is_main_process():
            arrays = self._arrays()
            _check_ranking(self._target, arrays)
            if self._target and self.cfg.OUTPUT_DIR:
                RunFolder(self.cfg.OUTPUT_DIR).save_features(self._target, arrays)
        results: dict[str, float] = super().evaluate()
        return results

    def _arrays(self) -> dict[str, Any]:
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
    folder = Path(fastreid.evaluation.__file__).parent / "rank_cylib"
    if any(folder.glob("rank_cy.*.so")) or any(folder.glob("rank_cy.*.pyd")):
        return True
    tools = shutil.which("make") and (shutil.which("cc") or shutil.which("gcc"))
    if tools and importlib.util.find_spec("Cython") and os.access(folder, os.W_OK):
        return True
    logger.info("Evaluation runs in Python: FastReID's Cython code is not built, and cannot be built here")
    return False


def _check_ranking(target: str, arrays: dict[str, Any]) -> None:
    """Say in one line what FastReID's ranking would fail of."""
    gallery = len(arrays["gallery_pids"])
    if gallery < 10:
        raise DRSLError(f"DATASETS.TESTS {target}: FastReID's Rank-10 needs a gallery of 10 images, this has {gallery}")
    cameras: dict[int, set[int]] = {}
    for pid, camid in zip(arrays["gallery_pids"], arrays["gallery_camids"], strict=True):
        cameras.setdefault(int(pid), set()).add(int(camid))
    pairs = zip(arrays["query_pids"], arrays["query_camids"], strict=True)
    if not any(cameras.get(int(pid), set()) - {int(camid)} for pid, camid in pairs):
        raise DRSLError(f"DATASETS.TESTS {target}: no query has a match in the gallery from another camera")
