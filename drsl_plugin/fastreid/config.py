"""The configuration of a FastReID run: the DRSL node, and how files and options are merged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from drsl_plugin.errors import SettingError, UnknownKeyError
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.keys import DRSL_KEYS
from drsl_plugin.fastreid.loss_names import DRSL_NAME
from drsl_plugin.losses import DRSLoss
from drsl_plugin.losses.settings import TrainingSettings
from drsl_plugin.toolbox.merging import KeyTypeError, leaves, pair_up
from drsl_plugin.toolbox.types import ConfigNode


def add_drsl_config(cfg: ConfigNode) -> None:
    """Add the node ``MODEL.LOSSES.DRSL``, ``SEED`` and ``DATASETS.SKIP_UNREADABLE`` to a configuration; the rest stays.

    The node's keys are the settings of the loss and of a training with it: ``drsl fastreid --help`` tells them all.

    Example:
        >>> from drsl_plugin.fastreid import add_drsl_config
        >>> from fastreid.config import get_cfg
        >>> cfg = get_cfg()
        >>> add_drsl_config(cfg)
        >>> cfg.MODEL.LOSSES.DRSL.TEMPERATURE
        0.05
    """
    if "DRSL" not in cfg.MODEL.LOSSES:
        cfg.MODEL.LOSSES.DRSL = fastreid.config.CfgNode()
    node = cfg.MODEL.LOSSES.DRSL
    for key, default in DRSL_KEYS.defaults().items():
        if key not in node:
            node[key] = default
    if "SEED" not in cfg:
        cfg.SEED = -1
    cfg.DATASETS.setdefault("SKIP_UNREADABLE", False)


def find_node(cfg: ConfigNode) -> Mapping[str, Any] | None:
    """Return the node of DRSL, or None where ``MODEL.LOSSES.NAME`` does not hold it.

    Raises:
        SettingError: the configuration has no node.
    """
    if DRSL_NAME not in cfg.MODEL.LOSSES.NAME:
        return None
    if "DRSL" not in cfg.MODEL.LOSSES:
        needs = "not in the configuration; drsl_plugin.fastreid.add_drsl_config(cfg) adds it"
        raise SettingError("MODEL.LOSSES.DRSL", "", needs)
    node: Mapping[str, Any] = cfg.MODEL.LOSSES.DRSL
    return node


def training_settings(cfg: ConfigNode) -> TrainingSettings | None:
    """Return the settings of a training with DRSL, or None where ``MODEL.LOSSES.NAME`` does not hold it.

    Raises:
        SettingError: the configuration has no node for them, or a value in it is wrong.
    """
    node = find_node(cfg)
    return None if node is None else DRSL_KEYS.of_training(node)


def build_criterion(cfg: ConfigNode) -> DRSLoss | None:
    """Build the loss, or nothing where ``MODEL.LOSSES.NAME`` does not hold it.

    Raises:
        SettingError: the configuration has no node for it, or a value in it is wrong.
    """
    node = find_node(cfg)
    return None if node is None else DRSLoss.from_settings(DRSL_KEYS.of_loss(node))


def get_cfg() -> ConfigNode:
    """Return FastReID's default configuration with the DRSL node in it."""
    cfg: ConfigNode = fastreid.config.get_cfg()
    add_drsl_config(cfg)
    return cfg


def merge_file(cfg: ConfigNode, path: Path) -> list[SettingError]:
    """Merge a YAML file and the files that its ``_BASE_`` names, by FastReID's own reader.

    Returns:
        What is wrong with it: unknown keys, values of another type.

    Raises:
        SettingError: a file that cannot be read, or no YAML mapping.
    """
    _check_bases(path)
    try:
        tree = fastreid.config.CfgNode.load_yaml_with_base(str(path))
    except AssertionError as error:  # a mapping in the one file, a value in the other
        raise SettingError("--config-file", path, " ".join(str(error).split())) from error
    return _merge(cfg, dict(leaves(tree)), f"--config-file {path}")


def _check_bases(path: Path) -> None:
    """Check that a file, and each that it builds on, is a YAML mapping, and that they end somewhere.

    Raises:
        SettingError: names the file and what is wrong with it.
    """
    seen: list[Path] = []
    file = path
    while True:
        where = str(path) if file == path else f"{path}: _BASE_ {file}"
        if file.resolve() in seen:
            raise SettingError("--config-file", where, "builds on itself")
        seen.append(file.resolve())
        try:
            tree = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SettingError("--config-file", where, " ".join(str(error).split())) from error
        if not isinstance(tree, dict):
            needs = f"expected keys like MODEL.DEVICE, got {type(tree).__name__}"
            raise SettingError("--config-file", where, needs)
        base = tree.get("_BASE_")
        if base is None:
            return
        if not isinstance(base, str):
            raise SettingError("--config-file", f"{where}: _BASE_ {base!r}", "expected the name of a file")
        if "://" in base:
            return
        file = file.parent / Path(base).expanduser()


def merge_options(cfg: ConfigNode, options: Sequence[str]) -> list[SettingError]:
    """Merge ``KEY value`` pairs from the command line.

    Returns:
        What is wrong with them.
    """
    words = list(options[1:] if options and options[0] == "--" else options)
    errors = []
    for word in [word for word in words[::2] if word.startswith("--")]:
        errors.append(SettingError(word, "", "goes in front of the `KEY value` pairs"))
        words.remove(word)
    changes, unpaired = pair_up(words, dict(leaves(cfg)), "KEY value")
    return errors + unpaired + _merge(cfg, changes, "")


def _merge(cfg: ConfigNode, changes: Mapping[str, Any], where: str) -> list[SettingError]:
    known = dict(leaves(cfg))
    return [error for key, value in changes.items() for error in _set(cfg, known, key, value, where)]


def _set(cfg: ConfigNode, known: Mapping[str, Any], key: str, value: Any, where: str) -> Iterator[SettingError]:
    """Set one key as yacs does, but for an int that will do for a float; yields what is wrong."""
    if key not in known:
        yield UnknownKeyError(key, known, where)
        return
    default = known[key]
    try:
        try:
            cfg.merge_from_list([key, value])
        except ValueError:
            cfg.merge_from_list([key, float(value) if isinstance(default, float) else value])
        if dict(leaves(cfg)).get(key) is None:  # which yacs takes for any type
            cfg.merge_from_list([key, default])
            raise ValueError
    except (ValueError, TypeError, AssertionError):
        yield KeyTypeError(key, value, default, where)
