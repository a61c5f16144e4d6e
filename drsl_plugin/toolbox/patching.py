"""Attributes of other packages, replaced for a while and put back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import TypeAlias

Owner: TypeAlias = "ModuleType | type | object"
_ABSENT = object()


@contextlib.contextmanager
def replaced(owner: Owner, name: str, value: object) -> Iterator[None]:
    """Replace an attribute within the block; afterwards it is what it was, or absent if it was.

    What a class inherits is replaced in that class alone, and a ``staticmethod`` comes back as one.

    Args:
        owner: the module, class or object.
        name: of the attribute.
        value: in its place.

    Example:
        >>> import math
        >>> with replaced(math, "pi", 3):
        ...     math.pi
        3
        >>> math.pi > 3
        True
    """
    own = getattr(owner, "__dict__", None)
    before = getattr(owner, name, _ABSENT) if own is None else own.get(name, _ABSENT)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is _ABSENT:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


@contextlib.contextmanager
def replaced_all(*replacements: tuple[Owner, str, object]) -> Iterator[None]:
    """Replace several attributes within the block, each as :func:`replaced` does.

    Args:
        *replacements: owner, name and value of each.
    """
    with contextlib.ExitStack() as stack:
        for owner, name, value in replacements:
            stack.enter_context(replaced(owner, name, value))
        yield
