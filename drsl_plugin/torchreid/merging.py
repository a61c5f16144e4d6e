"""How files and options are merged into the configuration of a Torchreid run, with all that is wrong with them."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from yacs.config import CfgNode

from drsl_plugin.errors import SettingError, UnknownKeyError
from drsl_plugin.toolbox.merging import KeyTypeError, leaves, pair_up
from drsl_plugin.torchreid.config import settings


def merge_file(cfg: CfgNode, path: Path) -> list[SettingError]:
    """Merge a YAML file of nested keys.

    Returns:
        What is wrong with it: unknown keys, values of another type.

    Raises:
        SettingError: a file that cannot be read, or no YAML mapping.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingError("--config-file", path, " ".join(str(error).split())) from error
    if not isinstance(tree, dict):
        raise SettingError("--config-file", path, f"expected keys like model.name, got {type(tree).__name__}")
    return merge_settings(cfg, dict(leaves(tree)), f"--config-file {path}")


def merge_options(cfg: CfgNode, options: Sequence[str]) -> list[SettingError]:
    """Merge ``key value`` pairs from the command line.

    Returns:
        What is wrong with them: a word that stands alone, unknown keys, values of another type.
    """
    pairs = [list(options[at : at + 2]) for at in range(0, len(options), 2)]
    problems = [SettingError(key, "", "goes in front of the `key value` pairs") for key, *_ in pairs if key[:1] == "-"]
    options = [word for pair in pairs if pair[0][:1] != "-" for word in pair]
    changes, unpaired = pair_up(options, settings(cfg), "key value")
    return problems + unpaired + merge_settings(cfg, changes)


def merge_settings(cfg: CfgNode, changes: Mapping[str, object], where: str = "") -> list[SettingError]:
    """Merge dotted keys.

    Args:
        cfg: the configuration.
        changes: values by their keys; text is read as a Python literal where the key is not of text.
        where: the file that has them, for errors; nothing for the command line.

    Returns:
        What is wrong with them: unknown keys, values of another type.
    """
    found = (_set(cfg, key, value, where) for key, value in changes.items())
    return [problem for problem in found if problem is not None]


def _set(cfg: CfgNode, key: str, value: object, where: str) -> SettingError | None:
    known = settings(cfg)
    if key not in known:
        return UnknownKeyError(key, known, where)
    try:
        coerced = _coerce(known[key], value)
    except TypeError:
        return KeyTypeError(key, value, known[key], where)
    *path, leaf = key.split(".")
    node = cfg
    for name in path:
        node = node[name]
    node[leaf] = coerced
    return None


def _coerce(default: object, value: object) -> object:
    """Bring a value to its key's type: text is read as a Python literal first, an int will do for a float.

    A list's elements are brought to the type of the default's; one element will do for a list. Only lists of text can
    be empty.

    Raises:
        TypeError: it is of another type.
    """
    if isinstance(default, str):
        return value if isinstance(value, str) else str(value)
    if isinstance(value, str):
        value = _read_literal(value)
    if isinstance(default, list):
        values = value if isinstance(value, (list, tuple)) else [value]
        element = default[0] if default else ""
        if not values and not isinstance(element, str):
            raise TypeError
        return [_coerce(element, each) for each in values]
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        raise TypeError
    return value


def _read_literal(text: str) -> object:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
