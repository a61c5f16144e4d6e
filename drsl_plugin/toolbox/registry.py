"""Which toolboxes there are: a new one is a folder of this package and its name here."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any

from drsl_plugin.data.catalogue import find
from drsl_plugin.runs.config import EvaluationSettings
from drsl_plugin.toolbox.contract import Toolbox

TOOLBOXES = ("torchreid", "fastreid")


def toolboxes() -> list[Toolbox]:
    """Return all toolboxes, installed or not.

    Example:
        >>> [each.title for each in toolboxes()]
        ['Torchreid', 'FastReID']
    """
    return [toolbox(name) for name in TOOLBOXES]


@functools.cache
def toolbox(name: str) -> Toolbox:
    """Return a toolbox by its name, which is one of :data:`TOOLBOXES`.

    Example:
        >>> toolbox("fastreid").spell_data_set("msmt17")
        'MSMT17'
    """
    found: Toolbox = importlib.import_module(f"drsl_plugin.{name}.toolbox").TOOLBOX
    return found


def find_writer(config: Mapping[str, Any]) -> Toolbox | None:
    """Return the toolbox whose nested settings these are, or None.

    Example:
        >>> find_writer({"train": {"lr": 0.1}}) is toolbox("torchreid"), find_writer({})
        (True, None)
    """
    return next((each for each in toolboxes() if each.wrote(config)), None)


def find_evaluation_settings(config: Mapping[str, Any]) -> EvaluationSettings:
    """Return how the run with these nested settings evaluated; cosine where they do not say, or are nobody's.

    Args:
        config: of the run's ``config.yaml``, whichever toolbox wrote it.
    """
    writer = find_writer(config)
    return writer.evaluation_settings(config) if writer else EvaluationSettings()


def data_set_key(name: str) -> str:
    """Return what is equal for all spellings of one data set, by whichever toolbox.

    Example:
        >>> data_set_key("Market1501") == data_set_key("market1501")
        True
    """
    published = find(name)
    return published.name if published else name.lower()
