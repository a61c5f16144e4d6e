"""YAML files merged into one, values as they are spelled and the comments beside them kept."""

from __future__ import annotations

import io
from collections.abc import Iterable

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import CommentMark
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.tokens import CommentToken

_LONGEST = 1 << 16  # characters of a line, beyond which it would be broken


class _AsSpelled(VersionedResolver):
    """Takes every plain scalar for text, which is written as it was read: ``True``, ``off`` and ``0.0000007`` stay."""

    @property
    def versioned_resolver(self) -> dict[str | None, list[tuple[object, object]]]:
        return {}


def merge_texts(texts: Iterable[str], without: str) -> str:
    """Merge the mappings of YAML files: mappings in them merge, anything else is the last file's that has it.

    A comment beside a value goes with it; one that has a line of its own is left out.

    Args:
        texts: of the files; each goes over those before it.
        without: a key to leave out.

    Returns:
        YAML, with an empty line between the outermost settings.

    Example:
        >>> print(merge_texts(["A: {B: yes, C: 1}  # a", "A:\\n  C: 2  # two\\nD: x"], without="E"), end="")
        A:  # a
          B: yes
          C: 2  # two
        <BLANKLINE>
        D: x
    """
    yaml = YAML()
    yaml.Resolver = _AsSpelled
    yaml.preserve_quotes = True
    yaml.width = _LONGEST
    yaml.indent(mapping=2, sequence=4, offset=2)
    merged = CommentedMap()
    for text in texts:
        lines = map(str.rstrip, text.splitlines())
        _merge(merged, yaml.load("\n".join(line for line in lines if not line.lstrip().startswith("#"))))
    merged.pop(without, None)
    return "\n".join(_write(yaml, merged, key) for key in merged)


def _merge(base: CommentedMap, leaf: CommentedMap) -> None:
    """Put the settings of a mapping over those of another."""
    for key, value in leaf.items():
        comment = _find_comment(leaf, key)
        if isinstance(value, CommentedMap):
            below = base.get(key)
            if isinstance(below, CommentedMap):
                comment = comment or _find_comment(base, key)
            else:
                below = CommentedMap()
            _merge(below, value)
            value = below
        base[key] = value
        base.ca.items.pop(key, None)
        if comment:
            # Two spaces before it: the first is here, and the writer adds one to a comment of column 0.
            base.ca.items[key] = [None, None, CommentToken(f" {comment}\n", CommentMark(0)), None]


def _find_comment(mapping: CommentedMap, key: str) -> str:
    """Return the comment beside a value, or an empty text."""
    tokens = mapping.ca.items.get(key)
    return tokens[2].value.strip() if tokens and tokens[2] else ""


def _write(yaml: YAML, mapping: CommentedMap, key: str) -> str:
    """Write one setting of a mapping and all below it."""
    alone = CommentedMap({key: mapping[key]})
    if key in mapping.ca.items:
        alone.ca.items[key] = mapping.ca.items[key]
    stream = io.StringIO()
    yaml.dump(alone, stream)
    return stream.getvalue()
