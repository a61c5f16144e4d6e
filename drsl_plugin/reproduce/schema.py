"""What a table file may hold: its keys, their types and values, and what is wrong with them, in one line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from drsl_plugin.errors import ConfigError, SettingError, nearest
from drsl_plugin.reproduce.statistics import RANKING_METRICS
from drsl_plugin.reproduce.wording import NOT_PUBLIC
from drsl_plugin.toolbox import TOOLBOXES

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def _unfit(needs: str) -> PydanticCustomError:
    """Return the error of a value that will not do; its text stands after the place."""
    return PydanticCustomError("unfit", "{needs}", {"needs": needs})


def _check_toolbox(name: str) -> str:
    if name not in TOOLBOXES:
        raise _unfit(f"{' or '.join(sorted(TOOLBOXES))}, not {name}")
    return name


def _check_metric(name: str) -> str:
    if name not in RANKING_METRICS:
        raise _unfit(f"one of {', '.join(RANKING_METRICS)}, not {name}")
    return name


def _check_toolboxes(overrides: dict[str, Any]) -> dict[str, Any]:
    for name in overrides:
        if name not in TOOLBOXES:
            raise _unfit(f"unknown key {name}{nearest(name, TOOLBOXES)}")
    return overrides


def _check_values(values: object) -> object:
    if not isinstance(values, list) or not values:
        raise _unfit(f"a list of values, not {values!r}")
    return values


def _check_seeds(seeds: object) -> object:
    whole = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not isinstance(seeds, list) or not whole or not seeds or len(set(seeds)) < len(seeds):
        raise _unfit(f"different whole numbers from 0 on, not {seeds}")
    return seeds


def _read_percent(value: object) -> float | None:
    """Return a published value as a fraction of 1, None where its authors keep it to themselves."""
    if value == NOT_PUBLIC:
        return None
    if isinstance(value, str):
        raise _unfit(f"percent, or {NOT_PUBLIC}, not {value}")
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 1 < value <= 100:  # a fraction is a slip
        raise _unfit(f"percent, not {value}")
    return value / 100


class _Entry(BaseModel):
    """Keys and values of which none is unknown, and none is turned into another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ColumnEntry(_Entry):
    """A data set and a metric."""

    data: str
    metric: Annotated[str, AfterValidator(_check_metric)]
    title: str | None = None


class PublishedEntry(_Entry):
    """What others publish for a row in a column."""

    data: str
    metric: str
    value: Annotated[float | None, BeforeValidator(_read_percent)]
    source: str


class RowEntry(_Entry):
    """A row, or with a grid several."""

    name: str
    toolbox: Annotated[str, AfterValidator(_check_toolbox)]
    preset: str
    data: list[str] | None = None
    overrides: dict[str, Any] = {}
    grid: dict[str, Annotated[list[Any], BeforeValidator(_check_values)]] = {}
    baseline: str | None = None
    published: list[PublishedEntry] = []


class TableEntry(_Entry):
    """A table file."""

    title: str | None = None
    seeds: Annotated[list[int], BeforeValidator(_check_seeds)] = [1]
    overrides: Annotated[dict[str, dict[str, Any]], AfterValidator(_check_toolboxes)] = {}
    columns: list[ColumnEntry] = []
    demo: dict[str, Any] | None = None
    rows: list[RowEntry] = []


_ENTRIES: Mapping[str, type[_Entry]] = {"columns": ColumnEntry, "rows": RowEntry, "published": PublishedEntry}
_TYPES = {"string_type": "text", "list_type": "a list", "dict_type": "keys and values", "model_type": "keys and values"}


def read_entries(path: Path, tree: object) -> TableEntry:
    """Check what a table file holds.

    Args:
        path: the file, which begins each error.
        tree: what it holds.

    Raises:
        ConfigError: names each place, what stands there and what would do.
    """
    try:
        return TableEntry.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_name_problems(path, tree, error.errors(include_url=False))) from None


def _name_problems(path: Path, tree: object, found: Sequence[ErrorDetails]) -> Iterator[SettingError]:
    for error in found:
        place, kind = error["loc"], error["type"]
        if kind == "missing":
            yield SettingError(_name_place(path, tree, place[:-1]), "", f"{place[-1]} is missing")
        elif kind == "extra_forbidden":
            entry = _ENTRIES.get(next((str(part) for part in place[-2::-1] if isinstance(part, str)), ""), TableEntry)
            needs = f"unknown key {place[-1]}{nearest(str(place[-1]), entry.model_fields)}"
            yield SettingError(_name_place(path, tree, place[:-1]), "", needs)
        else:
            needs = f"expected {_TYPES[kind]}, not {error['input']!r}" if kind in _TYPES else error["msg"]
            yield SettingError(_name_place(path, tree, place), "", needs)


def _name_place(path: Path, tree: object, place: Sequence[int | str]) -> str:
    """Name a place in a file; a row by its name, if it has one."""
    parts = [str(path)]
    for part in place:
        if isinstance(part, str):
            parts.append(part)
            continue
        parts[-1] += f"[{part}]"
        rows = tree["rows"] if isinstance(tree, dict) and parts[1:] == [f"rows[{part}]"] else {}
        row = rows[part] if rows else None
        if isinstance(row, dict) and isinstance(row.get("name"), str):
            parts[-1] = f"row {row['name']!r}"
    return ": ".join(parts)
