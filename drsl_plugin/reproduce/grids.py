"""Grids of a table's row: one row for each combination of values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def combinations(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Yield each combination of a grid's values, the last key's varying fastest; one empty one of no grid.

    Example:
        >>> list(combinations({"train.lr": [1, 2], "loss.drsl.sort": ["none"]}))
        [{'train.lr': 1, 'loss.drsl.sort': 'none'}, {'train.lr': 2, 'loss.drsl.sort': 'none'}]
    """
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def combined_name(name: str, values: Mapping[str, Any]) -> str:
    """Name the row of one combination.

    Example:
        >>> combined_name("DRSL", {"MODEL.LOSSES.DRSL.TEMPERATURE": 0.05, "loss.drsl.sort_weight": 1.0})
        'DRSL, temperature 0.05, sort_weight 1.0'
    """
    return ", ".join([name, *(f"{key.rpartition('.')[2].lower()} {value}" for key, value in values.items())])


def matching(values: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the places of the combinations that agree with ``values`` in each key that both have.

    Example:
        >>> matching({"a": 1, "b": 2}, [{"a": 0}, {"a": 1}])
        [1]
    """
    return [
        place for place, other in enumerate(others) if all(other[key] == values[key] for key in other if key in values)
    ]
