"""Table files: which runs make a table, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from drsl_plugin.errors import SettingError, nearest
from drsl_plugin.presets import resolve_config
from drsl_plugin.reproduce.grids import combinations, combined_name, matching
from drsl_plugin.reproduce.results import Column
from drsl_plugin.reproduce.schema import ColumnEntry, RowEntry, read_entries
from drsl_plugin.reproduce.statistics import Published
from drsl_plugin.toolbox import toolbox


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
            SettingError: there is neither a file nor a preset of the toolbox with the name.
        """
        name = self.preset.replace("{data}", toolbox(self.toolbox).spell_data_set(data))
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
    entries = read_entries(path, _load(path))
    columns = _read_columns(entries.columns, path)
    rows = [row for entry in entries.rows for row in _read_rows(entry, columns, entries.overrides, path)]
    if not rows:
        raise SettingError(f"{path}: rows", "", "a table needs one")
    title = path.stem if entries.title is None else entries.title
    return Table(title, tuple(entries.seeds), columns, _name_baselines(rows, path), entries.demo)


def _load(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingError(str(path), "", f"cannot be read: {' '.join(str(reason).split())}") from None


def _read_columns(entries: Sequence[ColumnEntry], path: Path) -> tuple[Column, ...]:
    columns: dict[tuple[str, str], Column] = {}
    for place, each in enumerate(entries):
        if (each.data, each.metric) in columns:
            needs = f"{each.data} {each.metric} is a column already"
            raise SettingError(f"{path}: columns[{place}]", "", needs)
        columns[each.data, each.metric] = Column(each.data, each.metric, each.title)
    if not columns:
        needs = "a table needs one, such as {data: market1501, metric: mAP}"
        raise SettingError(f"{path}: columns", "", needs)
    return tuple(columns.values())


@dataclass(frozen=True)
class _GridRow:
    """A row, the name that the file gives it and the values of its grid."""

    row: Row
    name: str
    values: Mapping[str, Any]


def _read_rows(
    entry: RowEntry, columns: Sequence[Column], overrides: Mapping[str, Mapping[str, Any]], path: Path
) -> list[_GridRow]:
    """Turn one entry of ``rows`` into a row, or with a grid into several."""
    where = f"{path}: row {entry.name!r}"
    known = list(dict.fromkeys(column.data for column in columns))
    data = known if entry.data is None else entry.data
    for each in data:
        if each not in known:
            raise SettingError(f"{where}: data", "", f"of the columns' {', '.join(known)}, not {each}")
    own = {**overrides.get(entry.toolbox, {}), **entry.overrides}
    published = _read_published(entry, columns, where)
    found = []
    for values in combinations(entry.grid):
        name = combined_name(entry.name, values) if values else entry.name
        settings = {**own, **values}
        row = Row(name, entry.toolbox, entry.preset, settings, tuple(data), entry.baseline, published, path.parent)
        found.append(_GridRow(row, entry.name, values))
    for each in data:
        try:
            found[0].row.config(each)
        except SettingError as error:
            raise error.named(f"{where}: preset") from None
    return found


def _read_published(entry: RowEntry, columns: Sequence[Column], where: str) -> dict[tuple[str, str], Published]:
    cells = [(column.data, column.metric) for column in columns]
    for place, each in enumerate(entry.published):
        if (each.data, each.metric) not in cells:
            needs = f"{each.data} {each.metric} is no column of the table"
            raise SettingError(f"{where}: published[{place}]", "", needs)
    return {(each.data, each.metric): Published(each.value, each.source) for each in entry.published}


def _name_baselines(rows: Sequence[_GridRow], path: Path) -> tuple[Row, ...]:
    """Check the names, and name each row's baseline in full."""
    names = [each.row.name for each in rows]
    for name in names:
        if names.count(name) > 1:
            raise SettingError(f"{path}: rows", "", f"two are called {name!r}")
    return tuple(_name_baseline(each, rows, path) for each in rows)


def _name_baseline(own: _GridRow, rows: Sequence[_GridRow], path: Path) -> Row:
    baseline = own.row.baseline
    if baseline is None:
        return own.row
    where = f"{path}: row {own.row.name!r}: baseline"
    named = [each for each in rows if baseline == each.row.name] or [each for each in rows if baseline == each.name]
    if not named:
        hint = nearest(baseline, [each.name for each in rows])
        raise SettingError(where, "", f"no row is called {baseline!r}{hint}")
    found = [named[place].row for place in matching(own.values, [each.values for each in named])]
    if len(found) != 1 or found[0].name == own.row.name:
        what = "the row itself" if own.row in found else f"{len(found)} rows of {baseline!r}"
        raise SettingError(where, "", f"{what} would be it; name one other row")
    return replace(own.row, baseline=found[0].name)
