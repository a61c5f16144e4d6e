"""A run's ``config.yaml``, whichever toolbox wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from drsl_plugin.errors import SettingError

CONFIG_FILE = "config.yaml"


class EvaluationSettings(NamedTuple):
    """How features are evaluated."""

    metric: str = "cosine"
    """``"cosine"`` or ``"euclidean"``."""
    single_shot: bool = False
    """CMC of CUHK03's single-gallery-shot."""


def read_config(run: Path) -> dict[str, Any]:
    """Return the nested settings of a run; none where it has no configuration, or one that holds no settings.

    Args:
        run: the run folder.

    Raises:
        SettingError: the file is no YAML.
    """
    path = run / CONFIG_FILE
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(str(path), "", f"cannot be read: {error}") from None
    return tree if isinstance(tree, dict) else {}


def find_value(config: Mapping[str, Any], key: str) -> object:
    """Return the value of a dotted key in nested settings, or None where there is none.

    Example:
        >>> find_value({"train": {"lr": 0.1}}, "train.lr"), find_value({"train": 3}, "train.lr")
        (0.1, None)
    """
    node: object = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node
