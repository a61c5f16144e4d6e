"""The numbers that a page of results states, from the `runs.csv` of `drsl reproduce`: means, deviations, differences.

Prints Markdown, in percent. For each file, data set and metric: each row's mean, its sample standard deviation (divisor
n - 1), the number n of seeds, and the values seed by seed. With `--baseline`, each other row less that one, paired by
seed. With `--pairs A B`, all rows that A names less those that B names, pooled: in either pattern `*` stands for any
text, and two rows are a pair where it stands for the same. Of differences: their mean, its standard error (their
standard deviation over the root of n), how many are above 0, and the mean of each seed.

The standard error takes the differences as independent. Those of one seed, or of rows against one baseline, are not
quite: the means of the seeds show how far the seeds alone move a pooled difference.

    python benchmarks/summarise.py drsl-tables/TABLE/runs.csv [--baseline ROW] [--pairs PATTERN PATTERN]

    python benchmarks/summarise.py runs.csv --pairs "* angle, temperature *, sort_weight 1.0" "* none, temperature *"
"""

from __future__ import annotations

import argparse
import csv
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import one_line

from drsl_plugin.errors import OneLineParser, SettingError, nearest
from drsl_plugin.reproduce.statistics import RANKING_METRICS, mean_and_sd

METRICS = ("mAP", "rank1")
Values = dict[int, float]
"""Of one row in one metric, or of a difference: by seed, fractions of 1."""
Rows = dict[str, dict[int, dict[str, float]]]
"""Of one file and data set: by row, seed and metric."""


class Summary(NamedTuple):
    mean: float | None
    sd: float | None
    """Sample standard deviation; None for fewer than two values."""
    n: int
    above: int
    """How many of the values are above 0."""

    @property
    def standard_error(self) -> float | None:
        return None if self.sd is None else self.sd / math.sqrt(self.n)


def summarise(values: Iterable[float]) -> Summary:
    values = list(values)
    return Summary(*mean_and_sd(values), len(values), sum(value > 0 for value in values))


def subtract(values: Values, baseline: Values) -> Values:
    """The differences at the seeds that both have."""
    return {seed: value - baseline[seed] for seed, value in values.items() if seed in baseline}


def find_pairs(names: Iterable[str], first: str, second: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Rows of two patterns whose stars stand for the same text, and those that one of the two names in vain."""
    families = []
    for pattern in (first, second):
        expression = re.compile("(.*)".join(map(re.escape, pattern.split("*"))))
        found = {name: expression.fullmatch(name) for name in names}
        families.append({match.groups(): name for name, match in found.items() if match})
    pairs = [(name, families[1][key]) for key, name in families[0].items() if key in families[1]]
    alone = [name for one, other in (families, families[::-1]) for key, name in one.items() if key not in other]
    return pairs, alone


def read_runs(path: Path) -> dict[str, Rows]:
    """Read a file of runs: by data set, the rows in their order."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns, lines = reader.fieldnames or (), [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(str(path), "", f"cannot be read: {error}") from None
    missing = {"row", "data", "seed"} - set(columns)
    if missing:
        raise SettingError(str(path), "", f"no column {', '.join(sorted(missing))}: no runs.csv of drsl reproduce")
    if not lines:
        raise SettingError(str(path), "", "holds no run")
    found: dict[str, Rows] = {}
    for number, line in lines:
        try:
            seed, metrics = int(line["seed"]), {name: float(line[name]) for name in RANKING_METRICS if line.get(name)}
            finite = all(map(math.isfinite, metrics.values()))
        except (TypeError, ValueError):
            finite = False
        if not finite:
            raise SettingError(f"{path}, line {number}", "", "a seed or a metric that is no number")
        seeds = found.setdefault(line["data"], {}).setdefault(line["row"], {})
        if seed in seeds:
            needs = f"row {line['row']!r} has a run on {line['data']} with seed {seed} already"
            raise SettingError(f"{path}, line {number}", "", needs)
        seeds[seed] = metrics
    return found


def values_of(rows: Rows, row: str, metric: str) -> Values:
    return {seed: metrics[metric] for seed, metrics in rows[row].items() if metric in metrics}


# Markdown


def percent(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "—"
    text = f"{100 * value:{'+' if signed else ''}.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def write_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    escaped = [[re.sub(r"([\\|*<`])", r"\\\1", cell) for cell in line] for line in (head, *lines)]
    written = ["| " + " | ".join(line) + " |" for line in escaped]
    return [written[0], "|---" * len(head) + "|", *written[1:], ""]


def values_table(rows: Rows, metric: str) -> list[str]:
    seeds = sorted({seed for runs in rows.values() for seed in runs})
    lines = []
    for row in rows:
        values = values_of(rows, row, metric)
        summary = summarise(values.values())
        cells = [percent(values.get(seed)) for seed in seeds]
        lines.append([row, percent(summary.mean), percent(summary.sd), str(summary.n), *cells])
    return write_table(["row", "mean", "sd", "n", *(f"seed {seed}" for seed in seeds)], lines)


def difference_line(differences: Sequence[Values], seeds: Sequence[int]) -> list[str]:
    """Mean, standard error, how many are above 0, and the mean of each seed."""
    summary = summarise(value for each in differences for value in each.values())
    by_seed = [summarise(each[seed] for each in differences if seed in each).mean for seed in seeds]
    above = f"{summary.above} of {summary.n}"
    return [
        percent(summary.mean, signed=True),
        percent(summary.standard_error),
        above,
        *(percent(mean, signed=True) for mean in by_seed),
    ]


def differences_table(title: str, lines: Sequence[tuple[str, Sequence[Values]]]) -> list[str]:
    """A line for each name and its differences: of one pair of rows, or of several."""
    seeds = sorted({seed for _, differences in lines for each in differences for seed in each})
    head = [title, "mean difference", "standard error", "above 0", *(f"seed {seed}" for seed in seeds)]
    return write_table(head, ([name, *difference_line(differences, seeds)] for name, differences in lines))


def section(title: str, rows: Rows, metric: str, baseline: str | None, patterns: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"## {title}, {metric}", "", *values_table(rows, metric)]
    values = {row: values_of(rows, row, metric) for row in rows}
    if baseline in rows:
        others = [(row, [subtract(values[row], values[baseline])]) for row in rows if row != baseline]
        lines += differences_table(f"less {baseline}", others)
    for first, second in patterns:
        pairs, alone = find_pairs(rows, first, second)
        if pairs:
            differences = [subtract(values[one], values[other]) for one, other in pairs]
            lines += differences_table(
                f"pooled, pairs of rows: {len(pairs)}", [(f"{first} less {second}", differences)]
            )
            lines += [f"Without a counterpart: {', '.join(alone)}.", ""] if alone else []
    return lines


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="runs.csv of drsl reproduce")
    parser.add_argument("--baseline", metavar="ROW", help="the row that the others are compared with")
    parser.add_argument("--pairs", nargs=2, action="append", default=[], metavar="PATTERN", help="may be given again")
    parser.add_argument("--metrics", nargs="+", choices=RANKING_METRICS, default=METRICS)
    args = parser.parse_args(arguments)
    for first, second in args.pairs:
        if first.count("*") != second.count("*"):
            raise SettingError("--pairs", f"{first!r} {second!r}", "must have as many * in the one as in the other")
    return args


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    tables = {(path, data): rows for path in args.files for data, rows in read_runs(path).items()}
    names = list(dict.fromkeys(name for rows in tables.values() for name in rows))
    if args.baseline is not None and args.baseline not in names:
        raise SettingError("--baseline", repr(args.baseline), f"no row of this name{nearest(args.baseline, names)}")
    for first, second in args.pairs:
        if not any(find_pairs(rows, first, second)[0] for rows in tables.values()):
            raise SettingError("--pairs", f"{first!r} {second!r}", "no two rows of these names, alike where * stands")
    lines = []
    for (path, data), rows in tables.items():
        for metric in args.metrics:
            lines += section(f"{path.as_posix()}, {data}", rows, metric, args.baseline, args.pairs)
    print("\n".join(lines).rstrip())


if __name__ == "__main__":
    one_line.run(main)
