"""Table files: which runs make a table, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from drsl_plugin.errors import DRSLError, nearest
from drsl_plugin.presets import COMMANDS, resolve_config
from drsl_plugin.reproduce.fields import Fields
from drsl_plugin.reproduce.grids import combinations, combined_name, matching
from drsl_plugin.reproduce.results import Column
from drsl_plugin.reproduce.statistics import METRICS, Published
from drsl_plugin.reproduce.wording import NOT_PUBLIC

# What FastReID calls data sets that Torchreid has, too; any other keeps its name.
_FASTREID_NAMES = {"market1501": "Market1501", "msmt17": "MSMT17", "cuhk03": "CUHK03"}


@dataclass(frozen=True)
class Row:
    """One way to train."""

    name: str
    toolbox: str
    preset: str
    """A preset of the toolbox, or a file; ``{data}`` stands for the data set."""
    overrides: Mapping[str, Any]
    """Keys of the toolbox's configuration; the table's own are among them."""
    data: tuple[str, ...]
    """The data sets to train it on."""
    baseline: str | None
    """The name of the row that it is compared with."""
    published: Mapping[tuple[str, str], Published]
    """By data set and metric."""
    folder: Path
    """Where a preset that is a file is looked for first."""

    def config(self, data: str) -> Path:
        """Find the configuration file for a data set.

        Raises:
            DRSLError: there is neither a file nor a preset of the toolbox with the name.
        """
        name = self.preset.replace("{data}", spelled(data, self.toolbox))
        beside = self.folder / name
        return beside if beside.is_file() else resolve_config(name, self.toolbox)


@dataclass(frozen=True)
class Table:
    """What a table file says."""

    title: str
    seeds: tuple[int, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    demo: Mapping[str, int] | None
    """Settings of the rendered set that the table runs on, or None."""


def spelled(data: str, toolbox: str) -> str:
    """Return a data set's name as a toolbox spells it.

    Example:
        >>> spelled("msmt17", "fastreid"), spelled("msmt17", "torchreid")
        ('MSMT17', 'msmt17')
    """
    return _FASTREID_NAMES.get(data, data) if toolbox == "fastreid" else data


def read_table(path: Path) -> Table:
    """Read a table file.

    Args:
        path: the file; presets that are files of one's own lie beside it.

    Returns:
        The table, its grids expanded to rows.

    Raises:
        DRSLError: no such file, no YAML, or something in it that cannot be: an unknown key, metric, preset, baseline
            or data set, two rows of one name, a value of another type.
    """
    top = Fields(_load(path), str(path))
    title = top.take("title", str, default=path.stem)
    seeds = _seeds(top)
    columns = _columns(top)
    shared = Fields(top.take("overrides", dict, default={}), f"{path}: overrides")
    overrides = {toolbox: shared.take(toolbox, dict, default={}) for toolbox in COMMANDS}
    shared.end()
    demo = top.take("demo", dict, default=None)
    rows = [row for fields in top.sections("rows") for row in _rows(fields, columns, overrides, path)]
    top.end()
    if not rows:
        raise DRSLError(f"{path}: rows: a table needs one")
    return Table(title, seeds, columns, _with_baselines(rows, path), demo)


def _load(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DRSLError(f"{path}: cannot be read: {' '.join(str(reason).split())}") from None


def _seeds(top: Fields) -> tuple[int, ...]:
    seeds = top.take("seeds", list, default=[1])
    if not seeds or len(set(seeds)) < len(seeds) or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise DRSLError(f"{top.where}: seeds: different whole numbers from 0 on, not {seeds}")
    return tuple(seeds)


def _columns(top: Fields) -> tuple[Column, ...]:
    columns: dict[tuple[str, str], Column] = {}
    for fields in top.sections("columns"):
        data, metric = fields.take("data", str), fields.take("metric", str)
        if metric not in METRICS:
            raise DRSLError(f"{fields.where}: metric: one of {', '.join(METRICS)}, not {metric}")
        if (data, metric) in columns:
            raise DRSLError(f"{fields.where}: {data} {metric} is a column already")
        columns[data, metric] = Column(data, metric, fields.take("title", str, default=None))
        fields.end()
    if not columns:
        raise DRSLError(f"{top.where}: columns: a table needs one, such as {{data: market1501, metric: mAP}}")
    return tuple(columns.values())


@dataclass(frozen=True)
class _GridRow:
    """A row, the name that the file gives it and the values of its grid."""

    row: Row
    name: str
    values: Mapping[str, Any]


def _rows(
    fields: Fields, columns: Sequence[Column], overrides: Mapping[str, Mapping[str, Any]], path: Path
) -> list[_GridRow]:
    """Read one entry of ``rows``: a row, or with a grid several."""
    name = fields.take("name", str)
    fields.where = f"{path}: row {name!r}"
    toolbox = fields.take("toolbox", str)
    if toolbox not in COMMANDS:
        raise DRSLError(f"{fields.where}: toolbox: {' or '.join(COMMANDS)}, not {toolbox}")
    preset = fields.take("preset", str)
    known = list(dict.fromkeys(column.data for column in columns))
    data = fields.take("data", list, default=known)
    for each in data:
        if each not in known:
            raise DRSLError(f"{fields.where}: data: of the columns' {', '.join(known)}, not {each}")
    own = {**overrides[toolbox], **fields.take("overrides", dict, default={})}
    grid = fields.take("grid", dict, default={})
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise DRSLError(f"{fields.where}: grid: {key}: a list of values, not {values!r}")
    baseline = fields.take("baseline", str, default=None)
    published = _published(fields, columns)
    fields.end()
    found = []
    for values in combinations(grid):
        full = combined_name(name, values) if values else name
        row = Row(full, toolbox, preset, {**own, **values}, tuple(data), baseline, published, path.parent)
        found.append(_GridRow(row, name, values))
    for each in data:
        _check_preset(found[0].row, each, fields.where)
    return found


def _check_preset(row: Row, data: str, where: str) -> None:
    try:
        row.config(data)
    except DRSLError as error:
        raise DRSLError(f"{where}: preset: {str(error).removeprefix('--config-file: ')}") from None


def _published(fields: Fields, columns: Sequence[Column]) -> dict[tuple[str, str], Published]:
    published = {}
    for each in fields.sections("published"):
        cell = each.take("data", str), each.take("metric", str)
        if cell not in [(column.data, column.metric) for column in columns]:
            raise DRSLError(f"{each.where}: {' '.join(cell)} is no column of the table")
        value = each.take("value", int, float, str)
        if isinstance(value, str) and value != NOT_PUBLIC:
            raise DRSLError(f"{each.where}: value: percent, or {NOT_PUBLIC}, not {value}")
        if not isinstance(value, str) and not 1 < value <= 100:  # a fraction is a slip
            raise DRSLError(f"{each.where}: value: percent, not {value}")
        published[cell] = Published(None if isinstance(value, str) else value / 100, each.take("source", str))
        each.end()
    return published


def _with_baselines(rows: Sequence[_GridRow], path: Path) -> tuple[Row, ...]:
    """Check the names, and name each row's baseline in full."""
    names = [each.row.name for each in rows]
    for name in names:
        if names.count(name) > 1:
            raise DRSLError(f"{path}: rows: two are called {name!r}")
    return tuple(_with_baseline(each, rows, path) for each in rows)


def _with_baseline(own: _GridRow, rows: Sequence[_GridRow], path: Path) -> Row:
    baseline = own.row.baseline
    if baseline is None:
        return own.row
    where = f"{path}: row {own.row.name!r}: baseline"
    named = [each for each in rows if baseline == each.row.name] or [each for each in rows if baseline == each.name]
    if not named:
        raise DRSLError(f"{where}: no row is called {baseline!r}{nearest(baseline, [each.name for each in rows])}")
    found = [named[place].row for place in matching(own.values, [each.values for each in named])]
    if len(found) != 1 or found[0].name == own.row.name:
        what = "the row itself" if own.row in found else f"{len(found)} rows of {baseline!r}"
        raise DRSLError(f"{where}: {what} would be it; name one other row")
    return Row(**{**vars(own.row), "baseline": found[0].name})
