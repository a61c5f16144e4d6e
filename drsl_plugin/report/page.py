"""The page itself: everything that was read and computed, in one HTML file."""

from __future__ import annotations

import base64
import datetime
import hashlib
import importlib.resources
import json
import re
from collections.abc import Mapping, Sequence

import jinja2
from markupsafe import Markup

from drsl_plugin import __version__
from drsl_plugin.report import plots
from drsl_plugin.report.details import panel_values
from drsl_plugin.report.overview import target_values, training_values
from drsl_plugin.report.panels import Panel
from drsl_plugin.report.pictures import Pictures
from drsl_plugin.report.runs import ReportedRun
from drsl_plugin.report.settings import different, settings_tables


def render(runs: Sequence[ReportedRun], panels: Sequence[Panel], pictures: Pictures) -> tuple[str, str]:
    """Return the page, and what is to be said of images that were not found, if anything.

    Args:
        runs: the runs.
        panels: of every run and every target of it.
        pictures: takes the images that the page shows.
    """
    details = [panel_values(place, panels, pictures) for place in range(len(panels))]  # these ask for the pictures
    missing = _describe_missing(pictures)
    several = len(runs) > 1
    environments = [run.environment for run in runs]
    script, style = _read_text("page.js"), _read_text("page.css")
    values = {
        "title": runs[0].label if not several else f"{len(runs)} runs side by side",
        "made": datetime.datetime.now(datetime.timezone.utc).strftime("%d %B %Y, %H:%M UTC"),
        "version": __version__,
        "runs": [
            {"label": run.label, "path": str(run.path), "dash": _describe_dashes(number)}
            for number, run in enumerate(runs)
        ],
        "several": several,
        "targets": target_values(runs, panels),
        "settings": settings_tables([run.config for run in runs]),
        "without_config": [run.label for run in runs if not run.config],
        "environment": different(environments) if several else list(_list_rows(environments[0])),
        "without_environment": [run.label for run in runs if not run.environment],
        "training": training_values(runs),
        "without_metrics": [run.label for run in runs if not run.rows],
        "panels": details,
        "missing": missing,
        "pictures": Markup(json.dumps(pictures.urls)),  # base64 alone: nothing in it ends a script
        "style": Markup(style),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "colours": plots.COLOURS,
    }
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    environment.filters["breakable"] = _make_breakable
    environment.filters["thousands"] = lambda value: f"{value:,}"
    return environment.from_string(_read_text("page.html")).render(values), missing


def _read_text(name: str) -> str:
    return importlib.resources.files("drsl_plugin.report").joinpath(name).read_text(encoding="utf-8")


def _make_breakable(name: str) -> Markup:
    """Escape a path or a dotted name, and let its lines break between its parts."""
    return Markup("<wbr>").join(re.split(r"(?<=[/._])", name))


def _list_rows(settings: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    return [(name, [text]) for name, text in settings.items()]


def _describe_dashes(run: int) -> str:
    """Return a run's dashes as SVG has them."""
    dashes = plots.dashes(run)
    return "" if isinstance(dashes, str) else " ".join(f"{2 * length:g}" for length in dashes[1])


def _describe_missing(pictures: Pictures) -> str:
    if not pictures.missing:
        return ""
    count = len(pictures.missing)
    return (
        f"{count} of {pictures.asked} images {'was' if count == 1 else 'were'} not found or could not be read, such as "
        f"{pictures.missing[0]}; --images DIR names the folder to look in"
    )
