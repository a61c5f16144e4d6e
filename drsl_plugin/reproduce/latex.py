"""Writes a table of results as LaTeX."""

from __future__ import annotations

import re

from drsl_plugin.reproduce.results import ResultRow, ResultTable
from drsl_plugin.reproduce.statistics import Cell
from drsl_plugin.reproduce.wording import Notes, difference_text, legend, mean_text, one_line, published_text

# A bracket or star after `\\` or `\midrule` would be read as its argument; two hyphens become a dash; < > | are other
# characters in LaTeX's default fonts; the rest are signs that not every font has.
_ESCAPES = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",
    "*": "{*}",
    "-": "-{}",  # only before another
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "—": "---",
    "–": "--",
    "…": r"\dots{}",
}
_SPECIAL = re.compile("|".join("-(?=-)" if sign == "-" else re.escape(sign) for sign in _ESCAPES))


def to_latex(table: ResultTable) -> str:
    r"""Write a table as LaTeX, for ``\input`` in a document that has ``\usepackage{booktabs}``.

    Args:
        table: the results. Letters and signs that are neither ASCII nor in the fonts of the document stay as they are.

    Returns:
        A ``table`` environment. A row with a baseline has a second line, with the baseline and the differences to it.

    Example:
        >>> from drsl_plugin.reproduce.results import Column
        >>> cell = Cell(0.5694, 0.004, 3, 3)
        >>> print(to_latex(ResultTable("Losses", [Column("market1501", "mAP")], [ResultRow("DRSL & CE", [cell])])))
        % needs \usepackage{booktabs}
        \begin{table}
          \centering
          \caption{Losses}
          \begin{tabular}{lr}
            \toprule
             & Market-1501 mAP \\
            \midrule
            DRSL \& CE & 56.9 $\pm$ 0.4 \\
            \bottomrule
          \end{tabular}
          \par\smallskip
          \parbox{\linewidth}{\footnotesize
            Percent: mean $\pm$ standard deviation over 3 seeds.
          }
        \end{table}
        <BLANKLINE>
    """
    notes = Notes()
    body = [line for row in table.rows for line in _write_row(row, notes)]
    remarks = [legend(table), *table.footnotes, *notes.lines()]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escape(table.title)}}}",
        rf"  \begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"    \toprule",
        f"    {_write_line(['', *(column.title for column in table.columns)])}",
        r"    \midrule",
        *(f"    {line}" for line in body),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"  \par\smallskip",
        r"  \parbox{\linewidth}{\footnotesize",
        " \\par\n".join(f"    {escape(remark)}" for remark in remarks),
        "  }",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    r"""Escape what LaTeX would read as something else, in one line.

    Example:
        >>> print(escape("50 % of a_b & c"))
        50 \% of a\_b \& c
    """
    return _SPECIAL.sub(lambda found: _ESCAPES[found[0]], one_line(text))


def _write_row(row: ResultRow, notes: Notes) -> list[str]:
    lines = [_write_line([row.name, *(_write_first(cell, notes) for cell in row.cells)])]
    if row.baseline:
        lines.append(r"\quad " + _write_line([f"against {row.baseline}", *map(_write_second, row.cells)]))
    return lines


def _write_line(cells: list[str]) -> str:
    return " & ".join(map(escape, cells)) + r" \\"


def _write_first(cell: Cell | None, notes: Notes) -> str:
    return "" if cell is None else f"{mean_text(cell, notes)} {published_text(cell, notes)}".rstrip()


def _write_second(cell: Cell | None) -> str:
    return "" if cell is None else difference_text(cell)
