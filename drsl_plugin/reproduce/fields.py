"""Reading a file's nested mappings with errors that name the place, what stands there and what would do."""

from __future__ import annotations

from typing import Any

from drsl_plugin.errors import DRSLError, nearest

_REQUIRED = object()
_NAMES = {str: "text", int: "a whole number", list: "a list", dict: "keys and values"}


class Fields:
    """The keys of one mapping; each is taken once, and none may be left at the end.

    Args:
        mapping: what the file has there.
        where: the place, which begins each error.

    Raises:
        DRSLError: it is no mapping.

    Example:
        >>> fields = Fields({"name": "OSNet", "sedes": 3}, "table.yaml: rows[0]")
        >>> fields.take("name", str)
        'OSNet'
        >>> fields.take("seeds", int, default=1)
        1
        >>> fields.end()
        Traceback (most recent call last):
            ...
        drsl_plugin.errors.DRSLError: table.yaml: rows[0]: unknown key sedes; did you mean seeds?
    """

    def __init__(self, mapping: Any, where: str) -> None:
        """Keep the mapping."""
        if not isinstance(mapping, dict):
            raise DRSLError(f"{where}: expected keys and values, not {mapping!r}")
        self.where = where
        self._left = dict(mapping)
        self._known: list[str] = []

    def take(self, key: str, *kinds: type, default: Any = _REQUIRED) -> Any:
        """Return the value of a key.

        Args:
            key: the key.
            kinds: types that the value may have; true and false are no numbers.
            default: the value where the key is missing; by default it has to be there.

        Raises:
            DRSLError: the key is missing, or the value is of another type.
        """
        self._known.append(key)
        if key not in self._left:
            if default is _REQUIRED:
                raise DRSLError(f"{self.where}: {key} is missing")
            return default
        value = self._left.pop(key)
        if not isinstance(value, kinds) or isinstance(value, bool):
            wanted = " or ".join(_NAMES.get(kind, kind.__name__) for kind in kinds)
            raise DRSLError(f"{self.where}: {key}: expected {wanted}, not {value!r}")
        return value

    def sections(self, key: str) -> list[Fields]:
        """Return the mappings of a list, which may be missing.

        Raises:
            DRSLError: not a list of mappings.
        """
        values = self.take(key, list, default=[])
        return [Fields(value, f"{self.where}: {key}[{place}]") for place, value in enumerate(values)]

    def end(self) -> None:
        """Check that no key is left.

        Raises:
            DRSLError: names the first that is.
        """
        for key in self._left:
            raise DRSLError(f"{self.where}: unknown key {key}{nearest(str(key), self._known)}")
