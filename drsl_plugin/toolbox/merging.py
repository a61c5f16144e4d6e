"""What merging a file or the command line's pairs into a toolbox's configuration takes, whichever toolbox it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from drsl_plugin.errors import SettingError
from drsl_plugin.toolbox.types import ConfigNode


class KeyTypeError(SettingError):
    """A value of another type than its key's: ``setting takes a value of type float, like 0.1; got 'fast'``.

    Args:
        setting: the key.
        got: the value.
        default: a value of the key's type.
        where: the file that has it; nothing for the command line.
    """

    def __init__(self, setting: str, got: object, default: object, where: str = "") -> None:
        """Keep the parts."""
        super().__init__(setting, got, f"takes a value of type {type(default).__name__}, like {default!r}")
        self.where = where
        self.args = (setting, got, default, where)

    def __str__(self) -> str:
        """Return the line."""
        line = f"{self.setting} {self.needs}; got {self.got!r}"
        return f"{self.where}: {line}" if self.where else line


class UnpairedError(SettingError):
    """A word of the command line that is no pair's: ``options come in pairs, `key value`: 'word' stands alone``.

    Args:
        setting: the word.
        form: what a pair looks like.
    """

    def __init__(self, setting: str, form: str) -> None:
        """Keep the parts."""
        super().__init__(setting, "", f"options come in pairs, `{form}`")
        self.args = (setting, form)

    def __str__(self) -> str:
        """Return the line."""
        return f"{self.needs}: {self.setting!r} stands alone"


def leaves(tree: Mapping[str, Any] | ConfigNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key that can be set, dotted, and its value.

    Example:
        >>> list(leaves({"MODEL": {"DEVICE": "cpu"}, "SEED": 1}))
        [('MODEL.DEVICE', 'cpu'), ('SEED', 1)]
    """
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from leaves(value, dotted + ".")
        else:
            yield dotted, value


def find_unpaired(options: Sequence[str], known: Mapping[str, Any]) -> str | None:
    """Return the word that stands alone where keys and values come to an odd number, else None.

    Args:
        options: the words.
        known: all keys and their values: a key in a value's place tells that the one before it has none.

    Example:
        >>> find_unpaired(["train.lr", "test.rerank", "True"], {"train.lr": 0.1, "test.rerank": False})
        'train.lr'
    """
    if len(options) % 2 == 0:
        return None
    pairs = zip(options[::2], options[1::2], strict=False)
    return next((key for key, value in pairs if key not in known or value in known), options[-1])


def pair_up(options: Sequence[str], known: Mapping[str, Any], form: str) -> tuple[dict[str, str], list[SettingError]]:
    """Return keys with their values, and an error for the word that stands alone, if one does.

    Args:
        options: the words.
        known: all keys and their values.
        form: what a pair looks like.

    Example:
        >>> known = {"train.lr": 0.1, "test.rerank": False}
        >>> pairs, errors = pair_up(["train.lr", "test.rerank", "True"], known, "key value")
        >>> pairs, str(errors[0])
        ({'test.rerank': 'True'}, "options come in pairs, `key value`: 'train.lr' stands alone")
    """
    words, errors = list(options), list[SettingError]()
    alone = find_unpaired(words, known)
    if alone is not None:
        errors.append(UnpairedError(alone, form))
        words.remove(alone)
    return dict(zip(words[::2], words[1::2], strict=True)), errors
