"""Writes a table of results as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re

from drsl_plugin.reproduce.latex import to_latex
from drsl_plugin.reproduce.results import Column, ResultRow, ResultTable, RunResult
from drsl_plugin.reproduce.statistics import RANKING_METRICS, Cell
from drsl_plugin.reproduce.wording import (
    NOT_PUBLIC,
    Notes,
    difference_text,
    legend,
    mean_text,
    one_line,
    published_text,
)

__all__ = [
    "CSV_FIELDS",
    "RUN_FIELDS",
    "Column",
    "ResultRow",
    "ResultTable",
    "RunResult",
    "runs_to_csv",
    "to_csv",
    "to_latex",
    "to_markdown",
]

CSV_FIELDS = (
    "row",
    "baseline",
    "data",
    "metric",
    "mean",
    "sd",
    "seeds",
    "wanted",
    "difference",
    "low",
    "high",
    "published",
    "source",
    "problem",
)
RUN_FIELDS = ("row", "toolbox", "data", "seed", *RANKING_METRICS)


def to_markdown(table: ResultTable) -> str:
    """Write a table as Markdown (of GitHub's kind): a title, the table, how to read it, and its notes.

    Args:
        table: the results.

    Returns:
        The text; its cells read ``56.9 ± 0.4, +4.1 [3.0, 5.2] (57.0 [1])``, ``—`` where there is no number.

    Example:
        >>> cell = Cell(0.5694, 0.004, 3, 3)
        >>> print(to_markdown(ResultTable("Losses", [Column("market1501", "mAP")], [ResultRow("DRSL", [cell])])))
        ## Losses
        <BLANKLINE>
        |  | Market-1501 mAP |
        |---|---|
        | DRSL | 56.9 ± 0.4 |
        <BLANKLINE>
        Percent: mean ± standard deviation over 3 seeds.
        <BLANKLINE>
    """
    notes = Notes()
    baselines = table.has_baselines
    head = ["", *(["baseline"] if baselines else []), *(column.title for column in table.columns)]
    lines = [f"## {_escape(table.title)}", "", _write_line(head), "|" + "---|" * len(head)]
    for row in table.rows:
        cells = [_write_cell(cell, notes) for cell in row.cells]
        lines.append(_write_line([row.name, *([row.baseline or ""] if baselines else []), *cells]))
    lines += ["", legend(table)]
    remarks = [*map(one_line, table.footnotes), *notes.lines()]
    lines += ["", *(f"- {_escape(remark)}" for remark in remarks)] if remarks else []
    return "\n".join(lines) + "\n"


def to_csv(table: ResultTable) -> str:
    """Write a table as CSV: a line for each row and column, numbers as fractions of 1 to their last digit.

    Args:
        table: the results.

    Returns:
        The text, with ``CSV_FIELDS`` as its first line. What there is not stays empty; ``published`` is a number or
        "not public".

    Example:
        >>> cell = Cell(0.5, None, 1, 3, problem="not run")
        >>> print(to_csv(ResultTable("Losses", [Column("market1501", "mAP")], [ResultRow("DRSL", [cell])])), end="")
        row,baseline,data,metric,mean,sd,seeds,wanted,difference,low,high,published,source,problem
        DRSL,,market1501,mAP,0.5,,1,3,,,,,,not run
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for row, column, cell in table.cells():
        difference = cell.difference or (None, None, None)
        value, source = cell.published or (None, None)
        published = NOT_PUBLIC if cell.published and value is None else value
        what, run = (row.name, row.baseline, column.data, column.metric), (cell.mean, cell.sd, cell.seeds, cell.wanted)
        writer.writerow([*what, *run, *difference, published, source, cell.problem])
    return text.getvalue()


def runs_to_csv(table: ResultTable) -> str:
    """Write the runs of a table as CSV: a line for each run of each row, metrics as fractions of 1 to their last digit.

    Args:
        table: the results.

    Returns:
        The text, with ``RUN_FIELDS`` as its first line; a run that is not finished has no line.

    Example:
        >>> run = RunResult("DRSL", "torchreid", "market1501", 1, dict.fromkeys(RANKING_METRICS, 0.5))
        >>> print(runs_to_csv(ResultTable("Losses", [], [], runs=[run])), end="")
        row,toolbox,data,seed,mAP,mINP,rank1,rank5,rank10,rank20
        DRSL,torchreid,market1501,1,0.5,0.5,0.5,0.5,0.5,0.5
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(RUN_FIELDS)
    for run in table.runs:
        metrics = [run.metrics[metric] for metric in RANKING_METRICS]
        writer.writerow([run.row, run.toolbox, run.data, run.seed, *metrics])
    return text.getvalue()


def _write_cell(cell: Cell | None, notes: Notes) -> str:
    if cell is None:
        return ""
    numbers = ", ".join(filter(None, (mean_text(cell, notes), difference_text(cell))))
    return f"{numbers} {published_text(cell, notes)}".rstrip()


def _write_line(cells: list[str]) -> str:
    return "| " + " | ".join(map(_escape, cells)) + " |"


def _escape(text: str) -> str:
    return re.sub(r"([\\|*<`])", r"\\\1", one_line(text))
