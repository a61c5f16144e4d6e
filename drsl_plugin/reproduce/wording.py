"""The words of a table of results, whatever it is written as: its cells, how to read them, and their notes."""

from __future__ import annotations

from dataclasses import dataclass, field
from string import ascii_lowercase

from drsl_plugin.reproduce.results import ResultTable
from drsl_plugin.reproduce.statistics import LEVEL, Cell

NOT_PUBLIC = "not public"


@dataclass
class Notes:
    """The notes below a table, gathered while its cells are written; equal ones are one."""

    sources: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def source(self, text: str) -> str:
        """Note where a published number is from, and return its number."""
        return str(_find_or_add(self.sources, text) + 1)

    def problem(self, cell: Cell) -> str | None:
        """Note what a cell is short of, and return the note's letter; None where all its runs are in."""
        if cell.seeds >= cell.wanted and cell.problem is None:
            return None
        count = f"{cell.seeds} of {cell.wanted} seeds"
        return _count_in_letters(
            _find_or_add(self.problems, count if cell.problem is None else f"{count}: {cell.problem}")
        )

    def lines(self) -> list[str]:
        """Return the notes, each with its mark."""
        marked = [f"({_count_in_letters(place)}) {text}" for place, text in enumerate(self.problems)]
        return marked + [f"[{number}] {text}" for number, text in enumerate(self.sources, start=1)]


def legend(table: ResultTable) -> str:
    """Say in one line how to read the cells of a table; of what it has none of, nothing is said."""
    cells = [cell for _, _, cell in table.cells()]
    wanted = {cell.wanted for cell in cells}
    seeds = f"{wanted.pop()} seeds" if len(wanted) == 1 else "the seeds"
    several = any(cell.wanted > 1 for cell in cells)
    parts = [f"Percent: mean ± standard deviation over {seeds}" if several else "Percent, of one seed"]
    if any(cell.difference for cell in cells):
        interval = f"the {LEVEL:.0%} interval of a paired bootstrap over queries (other queries, not other seeds)"
        parts.append(f"with a sign, the difference to the row's baseline and {interval.replace('%', ' %')}")
    if any(cell.published for cell in cells):
        parts.append("in parentheses, the published value")
    return "; ".join(parts) + "."


def mean_text(cell: Cell, notes: Notes) -> str:
    """Write a mean and its deviation, ``56.9 ± 0.4``, or a dash; with the letter of its note, if it has one."""
    parts = ["—" if cell.mean is None else percent(cell.mean)]
    if cell.mean is not None and cell.sd is not None:
        parts.append(f"± {percent(cell.sd)}")
    letter = notes.problem(cell)
    return " ".join([*parts, f"({letter})"] if letter else parts)


def difference_text(cell: Cell) -> str:
    """Write a difference and its interval, ``+4.1 [3.0, 5.2]``; nothing where there is none."""
    if cell.difference is None:
        return ""
    value, low, high = cell.difference
    return f"{percent(value, signed=True)} [{percent(low)}, {percent(high)}]"


def published_text(cell: Cell, notes: Notes) -> str:
    """Write what is published and the number of its source, ``(57.0 [1])``; nothing where there is nothing."""
    if cell.published is None:
        return ""
    value, source = cell.published
    return f"({NOT_PUBLIC if value is None else percent(value)} [{notes.source(source)}])"


def percent(fraction: float, *, signed: bool = False) -> str:
    """Write a fraction of 1 in percent, with one decimal and a true minus sign.

    Example:
        >>> percent(0.5694), percent(0.041, signed=True), percent(-0.041), percent(-0.0001, signed=True)
        ('56.9', '+4.1', '−4.1', '0.0')
    """
    text = f"{100 * fraction:+.1f}" if signed else f"{100 * fraction:.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def one_line(text: str) -> str:
    """Bring text to one line."""
    return " ".join(text.split())


def _find_or_add(texts: list[str], text: str) -> int:
    """Return where a text stands in a list, to which it is added if it is new."""
    text = one_line(text)
    if text not in texts:
        texts.append(text)
    return texts.index(text)


def _count_in_letters(place: int) -> str:
    """Count in letters from 0: a, b, …, z, aa, ab, …."""
    more, last = divmod(place, len(ascii_lowercase))
    return (_count_in_letters(more - 1) if more else "") + ascii_lowercase[last]
