"""Plots as SVG that takes its colours from the page, so that it is light or dark as the page is."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from drsl_plugin.report.curves import Curve
from drsl_plugin.report.embedding import Map
from drsl_plugin.report.pairs import Histogram

COLOURS = 8
"""Of runs; then they come again with other dashes."""
DASHES = ("-", (0, (5, 2)), (0, (1, 1.3)), (0, (6, 2, 1, 2)))
IDENTITIES = 20
"""That a map colours; it draws the others grey."""
ROLES = ("ink", "grid", "positive", "negative", "other")
PLOT_WIDTH = 4.4
"""Inches; a telephone shows it at about its size."""
STYLE = {
    "svg.fonttype": "none",  # text stays text
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "path.simplify": True,
}


def curves_plot(curves: Mapping[int, Curve], *, name: str) -> Markup:
    """Draw a value of several runs over steps.

    Args:
        curves: by the run's number.
        name: unlike any other plot's on the page.
    """

    def draw(axes: matplotlib.axes.Axes) -> None:
        for run, curve in curves.items():
            marker = "o" if len(curve.steps) < 12 else ""
            axes.plot(curve.steps, curve.values, marker=marker, markersize=3.5, **_style_line(run))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("step")

    return _draw_svg(draw, name, 2.5)


def cmc_plot(curves: Mapping[int, NDArray[np.float64]], *, name: str) -> Markup:
    """Draw CMC curves.

    Args:
        curves: by the run's number, fractions of 1.
        name: unlike any other plot's on the page.
    """

    def draw(axes: matplotlib.axes.Axes) -> None:
        for run, curve in curves.items():
            axes.plot(np.arange(1, len(curve) + 1), 100 * curve, **_style_line(run))
        axes.set_xlim(1, max(map(len, curves.values())))
        axes.set_xticks([1, 5, 10, 20, 30, 40, 50])
        axes.set_ylim(top=100)
        axes.set(xlabel="rank k", ylabel="Rank-k, %")

    return _draw_svg(draw, name, 2.9)


def histogram_plot(
    histogram: Histogram, *, name: str, label: str, limits: tuple[float, float], height: float
) -> Markup:
    """Draw the densities of positive and negative pairs.

    Args:
        histogram: the counts.
        name: unlike any other plot's on the page.
        label: of the axis.
        limits: of the axis.
        height: the highest density of the axis.
    """

    def draw(axes: matplotlib.axes.Axes) -> None:
        edges = np.linspace(0, histogram.top, len(histogram.positive) + 1)
        for role, density, dashes in zip(
            ("positive", "negative"), histogram.densities(), ("-", DASHES[1]), strict=True
        ):
            axes.stairs(density, edges, fill=True, color=_stand_in(role), alpha=0.22, linewidth=0)
            axes.stairs(density, edges, color=_stand_in(role), linestyle=dashes, linewidth=1.5, baseline=None)
        axes.set(xlim=limits, ylim=(0, height * 1.05), xlabel=label, ylabel="density")

    return _draw_svg(draw, name, 2.6)


def map_plot(found: Map, *, name: str) -> Markup:
    """Draw a map: each identity in its colour, queries as stars, the identities beyond the first few grey.

    Args:
        found: the points.
        name: unlike any other plot's on the page.
    """
    colours = dict(zip(coloured(found), map(_choose_colour, range(IDENTITIES)), strict=False))

    def draw(axes: matplotlib.axes.Axes) -> None:
        _scatter(axes, found, ~np.isin(found.pids, list(colours)), color=_stand_in("other"), alpha=0.35, linewidths=0)
        for pid, colour in colours.items():
            _scatter(axes, found, found.pids == pid, color=colour, alpha=0.9, linewidths=0.4)
        for pid in colours:
            place = np.median(found.points[found.pids == pid], axis=0)
            axes.annotate(str(pid), place, (0, 4), textcoords="offset points", fontsize=7, ha="center", va="bottom")
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set(xticks=[], yticks=[])
        axes.margins(0.03)

    return _draw_svg(draw, name, 4.4)


def _scatter(axes: matplotlib.axes.Axes, found: Map, mine: NDArray[np.bool_], **style: Any) -> None:
    for queries, marker, size in ((False, "o", 13), (True, "*", 55)):
        points = found.points[mine & (found.queries == queries)]
        edges = _stand_in("ink") if queries else "none"
        axes.scatter(points[:, 0], points[:, 1], size, marker=marker, edgecolors=edges, **style)


def coloured(found: Map) -> list[int]:
    """Return the identities that a map colours.

    Args:
        found: the points.
    """
    pids, places = np.unique(found.pids, return_index=True)
    return sorted(pids[np.argsort(places)][:IDENTITIES].tolist())


def _draw_svg(draw: Callable[[matplotlib.axes.Axes], None], name: str, height: float) -> Markup:
    """Draw into a figure of its own; no display, nothing global."""
    ink, grid = _stand_in("ink"), _stand_in("grid")
    inks = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
    colours = {**dict.fromkeys(inks, ink), "axes.edgecolor": grid, "grid.color": grid}
    # Marks and clipping get names from the salt: two plots of a page share none.
    with matplotlib.rc_context({**STYLE, **colours, "svg.hashsalt": name}):
        figure = Figure(figsize=(PLOT_WIDTH, height), layout="constrained")
        draw(figure.add_subplot())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Markup(_fit_into_page(file.getvalue()))


def _fit_into_page(svg: str) -> str:
    """Make an SVG file a part of a page: its size, its colours and its names are the page's."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg class="plot" aria-hidden="true" \1>', svg, count=1)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r' (?:d|x|y)="[^"]*"', lambda match: re.sub(r"(\.\d)\d+", r"\1", match[0]), svg)
    used = set(re.findall(r"#([\w-]+)[\")]", svg))
    svg = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for role in (*ROLES, *(f"run-{run}" for run in range(COLOURS))):
        svg = svg.replace(_stand_in(role), f"var(--{role})")
    return re.sub(r"\s*\n\s*", "\n", svg)


def _stand_in(role: str) -> str:
    """Return a colour that no plot has otherwise, which stands for one of the page's."""
    place = ROLES.index(role) if role in ROLES else len(ROLES) + int(role.removeprefix("run-"))
    return f"#01fe{place:02x}"


def _style_line(run: int) -> dict[str, Any]:
    return {"color": _stand_in(f"run-{run % COLOURS}"), "linestyle": dashes(run)}


def dashes(run: int) -> str | tuple[float, tuple[float, ...]]:
    """Return a run's dashes, so that its colour is not all that tells it.

    Args:
        run: its number.
    """
    return DASHES[(run + run // COLOURS) % len(DASHES)]


def _choose_colour(place: int) -> str:
    """Return one of the colours of a map, which is as well seen on light ground as on dark."""
    import colorsys

    lightness = (0.42, 0.58)[place % 2]
    rgb = colorsys.hls_to_rgb(place / IDENTITIES, lightness, 0.65)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
