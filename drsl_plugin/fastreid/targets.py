"""The targets of a run: found out before a training whether they can be evaluated after it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from drsl_plugin.errors import SettingError
from drsl_plugin.evaluation import explain_no_match
from drsl_plugin.fastreid.datasets import root, unread_data
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.reading import CheckedSets, logger
from drsl_plugin.toolbox.types import ConfigNode


def check_targets(cfg: ConfigNode) -> None:
    """Read the targets and check that there is something to find in each; the main process does it for all.

    Raises:
        SettingError: a target cannot be read, or none of its queries has a match.
    """
    if not fastreid.utils.comm.is_main_process():
        return
    for line in unread_data(cfg.DATASETS.TESTS, "TESTS"):
        logger.warning(line)
    sets = CheckedSets(cfg, "TESTS", logger.warning)
    for name in cfg.DATASETS.TESTS:
        data = sets.get(name)(root=str(root()))
        check_matches(name, *(map(_label, part) for part in (data.query, data.gallery)))


def check_loader(target: str, loader: Any, queries: int) -> None:
    """Check a loader's images, where it has FastReID's list of them, before features are extracted.

    Args:
        target: the data set's name.
        loader: of queries and gallery, in this order.
        queries: how many they are.

    Raises:
        SettingError: no query has a match.
    """
    images = getattr(getattr(loader, "dataset", None), "img_items", None)
    if images is not None:
        check_matches(target, map(_label, images[:queries]), map(_label, images[queries:]))


def check_matches(target: str, queries: Iterable[tuple[Any, Any]], gallery: Iterable[tuple[Any, Any]]) -> None:
    """Say in one line what FastReID would only assert, once all is trained.

    Args:
        target: the data set's name.
        queries: identity and camera of each.
        gallery: likewise.

    Raises:
        SettingError: no query has a match.
    """
    why = explain_no_match(queries, gallery)
    if why:
        raise SettingError("DATASETS.TESTS", target, why)


def _label(sample: tuple[Any, ...]) -> tuple[Any, Any]:
    return sample[1], sample[2]
