"""Torchreid's evaluator, listened to and kept alive."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from drsl_plugin.toolbox.patching import replaced
from drsl_plugin.torchreid.host import torchreid


@contextlib.contextmanager
def listen_to_ranking(ranks: int) -> Iterator[dict[str, Any]]:
    """Note what Torchreid's evaluator is asked and answers; let it work on small galleries and on numpy 1.24 to 1.26.

    Causes, in Torchreid 0.2.5 (PyPI) and 1.4.0 (GitHub): the engine prints ``cmc[rank - 1]`` for ranks beyond a
    gallery smaller than them, where the curve is too short (it stays at its last value); ``eval_cuhk03`` uses
    ``np.bool``, which numpy had not from 1.24 to 1.26. To see them gone: ``test_small_gallery_needs_padding``,
    ``test_cuhk03_np_bool``.

    Args:
        ranks: the highest rank that is asked for.

    Yields:
        ``arguments``, of the last call, and its ``cmc``, once there was one.
    """
    original = torchreid.metrics.evaluate_rank
    noted: dict[str, Any] = {}

    def evaluate_rank(*arguments: Any, **kwargs: Any) -> tuple[Any, float]:
        cmc, mean_ap = original(*arguments, **kwargs)
        cmc = np.asarray(cmc, dtype=np.float64)
        cmc = np.pad(cmc, (0, max(0, ranks - len(cmc))), mode="edge")
        noted.update(arguments=arguments[:5], cmc=cmc)
        return cmc, mean_ap

    with contextlib.ExitStack() as stack:
        stack.enter_context(replaced(torchreid.metrics, "evaluate_rank", evaluate_rank))
        if not hasattr(np, "bool"):
            stack.enter_context(replaced(np, "bool", np.bool_))
        yield noted
