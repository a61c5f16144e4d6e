"""``drsl report``: checks what it is given, reads the runs, writes the page."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from drsl_plugin.errors import MissingPackageError, SettingError
from drsl_plugin.runs.folder import whole_file

NEEDED_MODULES = ("numpy", "matplotlib", "PIL", "jinja2", "markupsafe", "sklearn")
try:
    from drsl_plugin.report.page import render
    from drsl_plugin.report.panels import read_panel
    from drsl_plugin.report.pictures import Pictures
    from drsl_plugin.report.runs import read_runs
except ModuleNotFoundError as error:  # PyTorch runs without them
    missing = (error.name or "").partition(".")[0]
    if missing not in NEEDED_MODULES:
        raise
    raise MissingPackageError(f"drsl report needs {missing}", 'pip install "drsl-plugin[report]"', missing) from None


def main(paths: Sequence[Path], output: Path, images: Path | None = None) -> None:
    """Write one page about one run or several, whole or not at all, and print where it is.

    Args:
        paths: run folders of any toolbox.
        output: the page; one that is there is replaced, its folder made where missing.
        images: where to look for the images by the ends of their paths; None to take the paths as the runs kept them.

    Raises:
        SettingError: what was given cannot be read, or the page cannot be written.
    """
    from rich.console import Console

    _check_output(output)
    runs, pictures = read_runs(paths), Pictures(images)
    panels = []
    with Console(stderr=True).status("") as status:
        for number, run in enumerate(runs):
            for target in run.features:
                status.update(f"{number + 1} of {len(runs)}: {run.label.replace('[', '(')}, {target}")
                panels.append(read_panel(number, run, target))
        page, missing = render(runs, panels, pictures)
    if missing:
        print(f"drsl report: {missing}", file=sys.stderr)
    try:
        with whole_file(output) as unfinished:
            unfinished.write_text(page, encoding="utf-8")
    except OSError as error:
        raise SettingError(str(output), "", f"cannot be written: {error.strerror or error}") from None
    print(f"{output}: {len(page.encode()) / 1e6:.1f} MB, {len(runs)} run{'s' if len(runs) > 1 else ''}")


def _check_output(output: Path) -> None:
    """Check the place before the work, not after it."""
    if output.is_dir():
        raise SettingError("-o", "", f"{output} is a folder; name a file in it, such as {output / 'report.html'}")
    if output.suffix.lower() not in (".html", ".htm"):
        raise SettingError("-o", "", f"a file that ends in .html, not {output}")
    parent = next(folder for folder in output.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise SettingError("-o", "", f"{output} cannot be written: {parent} is no folder that can be written to")
