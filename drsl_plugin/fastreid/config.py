"""The configuration of a FastReID run: the DRSL node, and how files and options are merged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from drsl_plugin.errors import DRSLError, nearest
from drsl_plugin.fastreid.host import fastreid


def add_drsl_config(cfg: Any) -> None:
    """Add the node ``MODEL.LOSSES.DRSL`` and the key ``SEED`` to a FastReID configuration; what it has stays.

    Example:
        >>> from drsl_plugin.fastreid import add_drsl_config
        >>> from fastreid.config import get_cfg
        >>> cfg = get_cfg()
        >>> add_drsl_config(cfg)
        >>> cfg.MODEL.LOSSES.DRSL.TEMPERATURE
        0.05
    """
    node = fastreid.config.CfgNode()
    node.SCALE = 1.0  # weight of DRSL, 0 or above
    node.DISTANCE = "cosine"  # score that ranks: cosine or euclidean
    node.TEMPERATURE = 0.05  # width of the relaxed step, above 0
    node.TEMPERATURE_SCHEDULE = "constant"  # from TEMPERATURE to TEMPERATURE_END: constant, linear or cosine
    node.TEMPERATURE_END = 0.0  # temperature at the last step, above 0; 0 where the schedule is constant
    node.RELAXATION = "sigmoid"  # relaxed step: sigmoid or linear
    node.SORT = "angle"  # sorting term: angle, order or none
    node.SORT_WEIGHT = 1.0  # weight of the sorting term, 0 or above
    node.MEMORY_SIZE = 0  # embeddings of earlier batches that are references too, at least a batch; 0: none
    node.MEMORY_WARMUP = 0  # batches that are stored before the memory takes part, 0 or above
    node.SUB_BATCH = 0  # images in a process's memory at once, a divisor of its batch; 0: all
    if "DRSL" not in cfg.MODEL.LOSSES:
        cfg.MODEL.LOSSES.DRSL = node
    if "SEED" not in cfg:
        cfg.SEED = -1  # seed of everything random, 0 or above; below: another one each time


def get_cfg() -> Any:
    """Return FastReID's default configuration with the DRSL node in it."""
    cfg = fastreid.config.get_cfg()
    add_drsl_config(cfg)
    return cfg


def merge_file(cfg: Any, path: Path) -> list[str]:
    """Merge a YAML file and the files that its ``_BASE_`` names, by FastReID's own reader.

    Returns:
        What is wrong with it, a line each: unknown keys, values of another type.

    Raises:
        DRSLError: a file that cannot be read, or no YAML mapping.
    """
    _check_bases(path)
    try:
        tree = fastreid.config.CfgNode.load_yaml_with_base(str(path))
    except AssertionError as error:  # a mapping in the one file, a value in the other
        raise DRSLError(f"--config-file {path}: {' '.join(str(error).split())}") from error
    return _merge(cfg, dict(leaves(tree)), f"--config-file {path}: ")


def _check_bases(path: Path) -> None:
    """Check that a file, and each that it builds on, is a YAML mapping, and that they end somewhere.

    Raises:
        DRSLError: names the file and what is wrong with it.
    """
    seen: list[Path] = []
    file = path
    while True:
        where = f"--config-file {path}: " if file == path else f"--config-file {path}: _BASE_ {file}: "
        if file.resolve() in seen:
            raise DRSLError(f"{where}builds on itself")
        seen.append(file.resolve())
        try:
            tree = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise DRSLError(where + " ".join(str(error).split())) from error
        if not isinstance(tree, dict):
            raise DRSLError(f"{where}expected keys like MODEL.DEVICE, got {type(tree).__name__}")
        base = tree.get("_BASE_")
        if base is None:
            return
        if not isinstance(base, str):
            raise DRSLError(f"{where}_BASE_ {base!r}: expected the name of a file")
        if "://" in base:
            return
        file = file.parent / Path(base).expanduser()


def merge_options(cfg: Any, options: Sequence[str]) -> list[str]:
    """Merge ``KEY value`` pairs from the command line.

    Returns:
        What is wrong with them, a line each.
    """
    if options and options[0] == "--":
        options = options[1:]
    options = list(options)
    problems = []
    for word in [word for word in options[::2] if word.startswith("--")]:
        problems.append(f"{word}: goes in front of the `KEY value` pairs")
        options.remove(word)
    if len(options) % 2:
        known = dict(leaves(cfg))
        pairs = zip(options[::2], options[1::2], strict=False)
        alone = next((key for key, value in pairs if key not in known or value in known), options[-1])
        problems.append(f"options come in pairs, `KEY value`: {alone!r} stands alone")
        options.remove(alone)
    return problems + _merge(cfg, dict(zip(options[::2], options[1::2], strict=True)), "")


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key that can be set, dotted, and its value."""
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from leaves(value, dotted + ".")
        else:
            yield dotted, value


def _merge(cfg: Any, changes: Mapping[str, Any], where: str) -> list[str]:
    known = dict(leaves(cfg))
    return [problem for key, value in changes.items() if (problem := _set(cfg, known, key, value, where))]


def _set(cfg: Any, known: Mapping[str, Any], key: str, value: Any, where: str) -> str:
    """Set one key as yacs does, but for an int that will do for a float; returns what is wrong."""
    if key not in known:
        return f"{where}unknown key {key}{nearest(key, known)}"
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
        return f"{where}{key} takes a value of type {type(default).__name__}, like {default!r}; got {value!r}"
    return ""
