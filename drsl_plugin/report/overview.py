"""What the page shows of all runs side by side: the summary, CMC, and what training logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drsl_plugin.report import plots
from drsl_plugin.report.curves import CURVE_TITLES, Curve, evaluations, training_curves
from drsl_plugin.report.panels import Panel
from drsl_plugin.report.runs import ReportedRun

COLUMNS = {"mAP": "mAP", "mINP": "mINP", "rank1": "Rank-1", "rank5": "Rank-5", "rank10": "Rank-10"}
ONLY_DRSL = ("loss_drsl", "ranking", "sorting", "ap", "above_all")
EVALUATION_TITLES = {"mAP": "mAP, %", "mINP": "mINP, %", "rank1": "Rank-1, %"}


def target_values(runs: Sequence[ReportedRun], panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """Return each target with its row of each run, its CMC curves and what was evaluated during training.

    Args:
        runs: the runs.
        panels: of every run and every target of it.
    """
    found = []
    for place, target in enumerate(dict.fromkeys(panel.target for panel in panels)):
        mine = [panel for panel in panels if panel.target == target]
        rows = [_summarize(panel) for panel in mine]
        if len(mine) > 1:
            _mark_best(rows)
        cmc = {panel.run: panel.result.ranking.cmc for panel in mine}
        found.append(
            {
                "name": target,
                "rows": rows,
                "without": [run.label for number, run in enumerate(runs) if number not in cmc],
                "single_shot": any(panel.result.settings.single_shot for panel in mine),
                "cmc": plots.cmc_plot(cmc, name=f"cmc-{place}"),
                "cmc_text": "; ".join(
                    f"{runs[run].label}: {100 * curve[0]:.1f} % at rank 1" for run, curve in cmc.items()
                ),
                "evaluations": _draw_figures(
                    {run: evaluations(each.rows, target) for run, each in enumerate(runs)},
                    EVALUATION_TITLES,
                    runs,
                    f"e{place}-",
                ),
            }
        )
    return found


def _summarize(panel: Panel) -> dict[str, Any]:
    row = panel.result.row()
    return {
        "run": panel.run,
        "cells": [{"text": f"{100 * row[name]:.1f}", "value": row[name], "best": False} for name in COLUMNS],
        "overlaps": [
            {"text": f"{100 * each.overlap():.1f}", "value": -each.overlap(), "best": False}
            for each in panel.histograms
        ],
        "counted": len(panel.result.ranking.ap),
        "queries": panel.result.queries,
        "metric": panel.result.settings.metric,
    }


def _mark_best(rows: Sequence[dict[str, Any]]) -> None:
    for kind in ("cells", "overlaps"):
        for cells in zip(*(row[kind] for row in rows), strict=True):
            best = max(cell["value"] for cell in cells)
            for cell in cells:
                cell["best"] = cell["value"] == best


def training_values(runs: Sequence[ReportedRun]) -> list[dict[str, Any]]:
    """Return a figure for each value that a run logged at its steps.

    Args:
        runs: the runs.
    """
    curves = {number: training_curves(run.rows) for number, run in enumerate(runs)}
    names = dict.fromkeys([*CURVE_TITLES, *(name for each in curves.values() for name in each)])
    return _draw_figures(curves, {name: CURVE_TITLES.get(name, name) for name in names}, runs, "t-")


def _draw_figures(
    curves: Mapping[int, Mapping[str, Curve]], titles: Mapping[str, str], runs: Sequence[ReportedRun], prefix: str
) -> list[dict[str, Any]]:
    """Return a figure a value, of all runs that have it."""
    figures = []
    for place, (name, title) in enumerate(titles.items()):
        mine = {run: each[name] for run, each in curves.items() if name in each}
        if not mine:
            continue
        ends = (f"{runs[run].label}: {curve.values[0]:.4g} to {curve.values[-1]:.4g}" for run, curve in mine.items())
        figures.append(
            {
                "name": name,
                "title": title,
                "plot": plots.curves_plot(mine, name=f"{prefix}{place}"),
                "text": "; ".join(ends),
                "notes": _list_notes(mine),
                "without": [run.label for number, run in enumerate(runs) if run.rows and number not in mine],
                "only_drsl": name in ONLY_DRSL,
            }
        )
    return figures


def _list_notes(curves: Mapping[int, Curve]) -> list[str]:
    joined, branches = (sorted({each[place] for each in curves.values()} - {1}) for place in (2, 3))
    bad = sum(curve.bad for curve in curves.values())
    notes = [f"a point is the mean of {' or '.join(map(str, joined))} steps"] if joined else []
    notes += [f"the mean of {' or '.join(map(str, branches))} branches"] if branches else []
    return notes + ([f"{bad} values that are NaN or infinite are left out"] if bad else [])
