"""A table of results in Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from drsl_plugin.reproduce.statistics import Cell, Difference, Published
from drsl_plugin.reproduce.tables import (
    CSV_FIELDS,
    RUN_FIELDS,
    Column,
    ResultRow,
    ResultTable,
    RunResult,
    runs_to_csv,
    to_csv,
    to_latex,
    to_markdown,
)
from drsl_plugin.reproduce.wording import Notes

MAP, RANK1 = Column("market1501", "mAP"), Column("msmt17", "rank1")
ZOO = Published(0.826, "Torchreid's docs/MODEL_ZOO.md")
SECRET = Published(None, "Xu et al., TOMM 2022")
NASTY = "a|b & 50% _x_ #1 $y$ {z} ~ ^ \\ [c] <d> * --root `e`"


@pytest.fixture
def table() -> ResultTable:
    first = ResultRow("softmax", [Cell(0.7, 0.0123, 3, 3, published=ZOO), Cell(0.4, None, 1, 3, problem="not run")])
    second = ResultRow(
        "DRSL",
        [
            Cell(0.7411, 0.004, 3, 3, Difference(0.0411, 0.0301, 0.0521), SECRET),
            Cell(None, None, 0, 3, published=SECRET, problem="failed: no | disk\nleft"),
        ],
        "softmax",
    )
    third = ResultRow("AGW", [Cell(0.6999, 0.0, 3, 3, Difference(-0.0001, -0.02, 0.0104), ZOO), None], "softmax")
    return ResultTable("Losses | models", [MAP, RANK1], [first, second, third], ["CUHK03 has labelled boxes"])


def markdown_cells(line: str) -> list[str]:
    """Split a line of a table as GitHub does: at bars that no backslash escapes."""
    assert line.startswith("| ")
    assert line.endswith(" |")
    return [re.sub(r"\\(.)", r"\1", cell.strip()) for cell in re.findall(r"((?:\\.|[^\\|])*)\|", line[1:])]


def markdown_rows(text: str) -> list[list[str]]:
    return [markdown_cells(line) for line in text.splitlines() if line.startswith("| ")]


# Markdown


def test_markdown_says_it_all(table: ResultTable) -> None:
    assert to_markdown(table) == (
        """\
## Losses \\| models

|  | baseline | Market-1501 mAP | MSMT17 Rank-1 |
|---|---|---|---|
| softmax |  | 70.0 ± 1.2 (82.6 [1]) | 40.0 (a) |
| DRSL | softmax | 74.1 ± 0.4, +4.1 [3.0, 5.2] (not public [2]) | — (b) (not public [2]) |
| AGW | softmax | 70.0 ± 0.0, 0.0 [−2.0, 1.0] (82.6 [1]) |  |

Percent: mean ± standard deviation over 3 seeds; with a sign, the difference to the row's baseline and the 95 % \
interval of a paired bootstrap over queries (other queries, not other seeds); in parentheses, the published value.

- CUHK03 has labelled boxes
- (a) 1 of 3 seeds: not run
- (b) 0 of 3 seeds: failed: no \\| disk left
- [1] Torchreid's docs/MODEL_ZOO.md
- [2] Xu et al., TOMM 2022
"""
    )


def test_a_table_without_baselines_or_notes_has_none(table: ResultTable) -> None:
    text = to_markdown(ResultTable("One", [MAP], [ResultRow("softmax", [Cell(0.5, None, 1, 1)])]))
    assert text == "## One\n\n|  | Market-1501 mAP |\n|---|---|\n| softmax | 50.0 |\n\nPercent, of one seed.\n"


def test_seeds_that_are_missing_are_counted_where_nobody_says_why() -> None:
    text = to_markdown(ResultTable("One", [MAP], [ResultRow("softmax", [Cell(0.5, 0.1, 2, 3)])]))
    assert "| softmax | 50.0 ± 10.0 (a) |" in text
    assert "- (a) 2 of 3 seeds\n" in text


def test_each_line_of_markdown_has_the_same_cells_whatever_the_names(table: ResultTable) -> None:
    rows = [row._replace(name=f"{NASTY}{row.name}\nnext", baseline=NASTY) for row in table.rows]
    lines = markdown_rows(to_markdown(ResultTable(NASTY, [MAP, Column("x|y", "mINP")], rows)))
    assert [len(line) for line in lines] == [4] * 4
    assert lines[0] == ["", "baseline", "Market-1501 mAP", "x|y mINP"]
    assert lines[1][:2] == [f"{NASTY}softmax next", NASTY]


# CSV


def test_csv_read_back_is_the_numbers(table: ResultTable) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert tuple(lines[0]) == CSV_FIELDS
    cells = list(table.cells())
    assert len(lines) == len(cells) == 5
    for line, (row, column, cell) in zip(lines, cells, strict=True):
        assert (line["row"], line["baseline"] or None) == (row.name, row.baseline)
        assert (line["data"], line["metric"]) == column[:2]
        assert (int(line["seeds"]), int(line["wanted"])) == (cell.seeds, cell.wanted)
        assert (line["problem"] or None) == cell.problem
        numbers = dict(zip(("difference", "low", "high"), cell.difference or (None,) * 3, strict=True))
        numbers |= {"mean": cell.mean, "sd": cell.sd}
        for name, number in numbers.items():
            assert (float(line[name]) if line[name] else None) == number, name
    assert [line["published"] for line in lines] == ["0.826", "", "not public", "not public", "0.826"]
    assert lines[2]["source"] == SECRET.source


def test_csv_keeps_names_as_they_are(table: ResultTable) -> None:
    name = NASTY + ', "quoted"\nand more'
    (line,) = csv.DictReader(io.StringIO(to_csv(ResultTable("One", [MAP], [ResultRow(name, [Cell(0.5, None, 1, 1)])]))))
    assert line["row"] == name


def test_csv_of_runs_read_back_is_what_each_gave() -> None:
    metrics = ("mAP", "mINP", "rank1", "rank5", "rank10", "rank20")
    runs = [
        RunResult(
            NASTY + ', "quoted"\nand more',
            "torchreid",
            "market1501",
            seed,
            {m: (seed + k) / 7 for k, m in enumerate(metrics)},
        )
        for seed in (0, 3)
    ]
    lines = list(csv.DictReader(io.StringIO(runs_to_csv(ResultTable("One", [], [], runs=runs)))))
    assert tuple(lines[0]) == RUN_FIELDS == ("row", "toolbox", "data", "seed", *metrics)
    assert [(line["row"], line["toolbox"], line["data"], int(line["seed"])) for line in lines] == [r[:4] for r in runs]
    assert [{m: float(line[m]) for m in metrics} for line in lines] == [run.metrics for run in runs]


# LaTeX


def latex_rows(text: str) -> list[list[str]]:
    """Return the cells of each line between the rules, as LaTeX would split them."""
    body = text.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    lines = [line.strip() for line in body.splitlines() if line.strip() and line.strip() != r"\midrule"]
    for line in lines:
        assert line.endswith(r" \\")
    return [[cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))] for line in lines]


def latex_problems(text: str) -> list[str]:
    """List what LaTeX would stumble over: braces and environments that do not match, signs that are not escaped."""
    problems = []
    bare = re.sub(r"\\[&%$#_{}\\]", "", "\n".join(text.splitlines()[1:]))  # the first line is a comment
    depth = 0
    for sign in bare:
        depth += (sign == "{") - (sign == "}")
        if depth < 0:
            problems.append("} without {")
    if depth:
        problems.append("{ without }")
    opened = re.findall(r"\\begin\{(\w+)\}", bare)
    if sorted(opened) != sorted(re.findall(r"\\end\{(\w+)\}", bare)):
        problems.append("environments")
    problems += re.findall(r"[%#_~^|<>]", bare)
    if bare.replace(r"$\pm$", "").replace("$-$", "").count("$"):
        problems.append("$")
    commands = {"begin", "end", "centering", "caption", "toprule", "midrule", "bottomrule", "par", "smallskip"}
    commands |= {"parbox", "linewidth", "footnotesize", "quad", "pm", "dots", "times"}
    commands |= {f"text{name}" for name in ("backslash", "asciitilde", "asciicircum", "less", "greater", "bar")}
    problems += sorted(set(re.findall(r"\\([a-zA-Z]+)", bare)) - commands)
    problems += re.findall(r"\\\\\s*[\[*]|rule\s*[\[(]", text)  # read as an argument
    return problems


def test_latex_says_it_all(table: ResultTable) -> None:
    text = to_latex(table)
    assert latex_problems(text) == []
    assert r"\begin{tabular}{lrr}" in text
    assert latex_rows(text) == [
        ["", "Market-1501 mAP", "MSMT17 Rank-1"],
        ["softmax", r"70.0 $\pm$ 1.2 (82.6 {[}1])", "40.0 (a)"],
        ["DRSL", r"74.1 $\pm$ 0.4 (not public {[}2])", "--- (b) (not public {[}2])"],
        [r"\quad against softmax", "+4.1 {[}3.0, 5.2]", ""],
        ["AGW", r"70.0 $\pm$ 0.0 (82.6 {[}1])", ""],
        [r"\quad against softmax", "0.0 {[}$-$2.0, 1.0]", ""],
    ]
    for remark in ("95 \\% interval", "(a) 1 of 3 seeds: not run", "{[}2] Xu et al., TOMM 2022", "labelled boxes"):
        assert remark in text


def test_latex_takes_any_name(table: ResultTable) -> None:
    rows = [row._replace(name="[" + NASTY, baseline="*" + NASTY) for row in table.rows]
    text = to_latex(ResultTable(NASTY, [MAP, Column(NASTY, NASTY)], rows, [NASTY]))
    assert latex_problems(text) == []
    assert {len(row) for row in latex_rows(text)} == {3}
    assert (
        r"a\textbar{}b \& 50\% \_x\_ \#1 \$y\$ \{z\} \textasciitilde{} \textasciicircum{} \textbackslash{} {[}c]"
        in text
    )
    assert r"\textless{}d\textgreater{} {*} -{}-root" in text


@pytest.mark.parametrize("broken", ["a & b \\\\ [c", "50 % #", "{a", "\\foo", "a_b", "$x"])
def test_the_check_of_latex_finds_what_is_broken(table: ResultTable, broken: str) -> None:
    assert latex_problems(to_latex(table).replace("DRSL", broken)) != []


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(table: ResultTable, tmp_path: Path) -> None:
    rows = [row._replace(name="[" + NASTY) for row in table.rows]
    text = to_latex(ResultTable(NASTY, table.columns, rows, [NASTY]))
    head, tail = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n", "\\end{document}\n"
    (tmp_path / "table.tex").write_text(head + text + tail, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


# All of them


def test_notes_run_out_of_no_letters() -> None:
    notes = Notes()
    letters = [notes.problem(Cell(None, None, 0, 3, problem=f"failed: {number}")) for number in range(704)]
    assert letters[:2] == ["a", "b"]
    assert letters[25:28] == ["z", "aa", "ab"]
    assert letters[701:] == ["zz", "aaa", "aab"]
    assert notes.problem(Cell(0.5, 0.1, 3, 3)) is None
    assert notes.lines()[26] == "(aa) 0 of 3 seeds: failed: 26"


def test_a_row_that_lacks_a_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="row 'DRSL': 1 cells, must be 2"):
        ResultTable("One", [MAP, RANK1], [ResultRow("DRSL", [None])])
