"""Torchreid's evaluator, listened to and kept alive."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from drsl_plugin.toolbox.patching import replaced
from drsl_plugin.torchreid.host import torchreid

Array: TypeAlias = "np.ndarray[Any, Any]"
Tell: TypeAlias = "Callable[[tuple[Array, ...], Array, float], None]"
"""What is told of a ranking: distances, identities and cameras as Torchreid has them; the curve; the mAP."""
MAX_RANK = 50
"""The ranks of a curve where Torchreid is asked for no other number."""


@contextlib.contextmanager
def rank_any_gallery() -> Iterator[None]:
    """Let Torchreid's evaluator rank small galleries, and work on numpy 1.24 to 1.26.

    Causes, in Torchreid 0.2.5 (PyPI) and 1.4.0 (GitHub): ``eval_market1501`` and ``eval_cuhk03`` stack curves that are
    as long as what is left of the gallery without a query's own camera, up to 50, a ValueError where these are unequal
    (its Cython twin fills them with an earlier query's values); the engine prints ``cmc[rank - 1]`` for ranks beyond
    the gallery; ``eval_cuhk03`` uses ``np.bool``, which numpy had not from 1.24 to 1.26. To see them gone:
    ``test_stock_ranking_needs_a_large_gallery``, ``test_small_gallery_needs_padding``, ``test_cuhk03_np_bool``.
    """
    ranked = functools.partial(_rank, torchreid.metrics.evaluate_rank)
    with contextlib.ExitStack() as stack:
        stack.enter_context(replaced(torchreid.metrics, "evaluate_rank", ranked))
        if not hasattr(np, "bool"):
            stack.enter_context(replaced(np, "bool", np.bool_))
        yield


@contextlib.contextmanager
def listen_to_ranking(ranks: int, tell: Tell) -> Iterator[None]:
    """Tell what Torchreid's evaluator is asked and answers, as soon as it does; let it rank any gallery.

    Args:
        ranks: the highest rank that is asked for; a curve is as long at least.
        tell: called after each ranking.
    """
    with rank_any_gallery():
        original = torchreid.metrics.evaluate_rank

        def evaluate_rank(*arguments: Any, **kwargs: Any) -> tuple[Array, float]:
            if len(arguments) <= 5:
                kwargs.setdefault("max_rank", max(MAX_RANK, ranks))
            cmc, mean_ap = original(*arguments, **kwargs)
            cmc = np.asarray(cmc, dtype=np.float64)
            tell(arguments[:5], cmc, float(mean_ap))
            return cmc, mean_ap

        with replaced(torchreid.metrics, "evaluate_rank", evaluate_rank):
            yield


def _rank(
    original: Callable[..., tuple[Array, float]],
    distmat: Array,
    q_pids: Array,
    g_pids: Array,
    q_camids: Array,
    g_camids: Array,
    max_rank: int = MAX_RANK,
    use_metric_cuhk03: bool = False,
    **kwargs: Any,
) -> tuple[Array, float]:
    """Rank as Torchreid does, small galleries for one query at a time; a curve stays at its end up to ``max_rank``.

    The arguments are Torchreid's, under its names.
    """
    kwargs["use_metric_cuhk03"] = use_metric_cuhk03
    found = np.array([((g_pids == p) & (g_camids != c)).any() for p, c in zip(q_pids, q_camids, strict=True)])
    if _shortest_curve(q_pids, g_pids, q_camids, g_camids, use_metric_cuhk03) >= max_rank or not found.any():
        return original(distmat, q_pids, g_pids, q_camids, g_camids, max_rank=max_rank, **kwargs)
    kwargs |= {"max_rank": min(max_rank, len(g_pids)), "use_cython": False}
    curves, average_precisions = [], []
    for at in np.flatnonzero(found):
        one = slice(at, at + 1)
        cmc, average_precision = original(distmat[one], q_pids[one], g_pids, q_camids[one], g_camids, **kwargs)
        curves.append(np.pad(cmc, (0, max_rank - len(cmc)), mode="edge"))
        average_precisions.append(average_precision)
    return np.mean(curves, axis=0), float(np.mean(average_precisions))


def _shortest_curve(q_pids: Array, g_pids: Array, q_camids: Array, g_camids: Array, single_shot: bool) -> int:
    """Count what is left of the gallery without the camera of the query that loses most: images, or identities."""
    if single_shot:
        return len(np.unique(g_pids)) - 1
    own = Counter(zip(g_pids.tolist(), g_camids.tolist(), strict=True))
    queries = set(zip(q_pids.tolist(), q_camids.tolist(), strict=True))
    return len(g_pids) - max((own[query] for query in queries), default=0)
