"""What the page shows of one run on one target: pairs, ranked lists and the map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from drsl_plugin.report import plots
from drsl_plugin.report.embedding import COMPONENTS
from drsl_plugin.report.pairs import Histogram
from drsl_plugin.report.panels import Panel
from drsl_plugin.report.pictures import Pictures
from drsl_plugin.report.ranked import RankedList


def panel_values(place: int, panels: Sequence[Panel], pictures: Pictures) -> dict[str, Any]:
    """Return what is shown of one panel, on axes that it shares with the others.

    Args:
        place: which one.
        panels: of every run and every target of it.
        pictures: takes the images of the ranked lists.
    """
    panel = panels[place]
    metric = panel.result.settings.metric
    alike = [each.histograms.distance for each in panels if each.result.settings.metric == metric]
    angles = [each.histograms.angle for each in panels]
    label = "distance (1 − cos)" if metric == "cosine" else "Euclidean distance"
    return {
        "run": panel.run,
        "target": panel.target,
        "target_number": list(dict.fromkeys(each.target for each in panels)).index(panel.target),
        "has_paths": panel.has_paths,
        "histograms": [
            _draw_histogram(panel.histograms.distance, alike, "Distance", label, f"d{place}"),
            _draw_histogram(panel.histograms.angle, angles, "Angle", "angle, degrees", f"a{place}"),
        ],
        "cosine": metric == "cosine",
        "lists": [
            {"kind": kind, "lists": [_number_pictures(each, pictures) for each in lists]}
            for kind, lists in panel.lists.items()
            if lists
        ],
        "map": _draw_map(panel, place),
    }


def _draw_histogram(
    histogram: Histogram, alike: Sequence[Histogram], title: str, label: str, name: str
) -> dict[str, Any]:
    """Return a histogram's figure, with the axes of all that it may be compared with."""
    used = [
        (np.flatnonzero(each.positive + each.negative)[[0, -1]] + [0, 1]) * each.top / len(each.positive)
        for each in alike
    ]
    limits = float(min(first for first, _ in used)), float(max(last for _, last in used))
    height = max(float(each.densities().max()) for each in alike)
    return {
        "title": title,
        "plot": plots.histogram_plot(histogram, name=name, label=label, limits=limits, height=height),
        "overlap": histogram.overlap(),
        "positive": int(histogram.positive.sum()),
        "negative": int(histogram.negative.sum()),
        "width": f"{histogram.top / len(histogram.positive):.3g}",
    }


def _number_pictures(ranked: RankedList, pictures: Pictures) -> dict[str, Any]:
    images = [ranked.query, *(hit.image for hit in ranked.hits)]
    return {"ranked": ranked, "pictures": [pictures.number(image.path) for image in images]}


def _draw_map(panel: Panel, place: int) -> dict[str, Any]:
    if isinstance(panel.map, str):
        return {"reason": panel.map}
    points = panel.map
    return {
        "reason": "",
        "plot": plots.map_plot(points, name=f"m{place}"),
        "images": len(points.pids),
        "queries": int(points.queries.sum()),
        "drawn": len(np.unique(points.pids)),
        "identities": points.identities,
        "coloured": len(plots.coloured(points)),
        "components": COMPONENTS,
    }
