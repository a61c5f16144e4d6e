"""Progress bars, and the rendering of the demo set with one."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from drsl_plugin.data.rendered.demo import render_demo


def progress_bars() -> Progress:
    """Return progress bars with elapsed and remaining time, on the error stream: a context manager."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))


def render_with_progress(root: Path, settings: dict[str, int]) -> Path:
    """Render the demo set with a progress bar, and say how either toolbox finds it.

    Args:
        root: the folder to render into; a finished set with the same settings is kept.
        settings: the keyword arguments of :func:`~drsl_plugin.data.render_demo`.

    Returns:
        ``root``.

    Raises:
        DRSLError: a setting outside its range, or a folder that holds something else.
    """
    with progress_bars() as progress:
        task = progress.add_task("render", total=None)
        render_demo(root, **settings, progress=lambda done, total: progress.update(task, completed=done, total=total))
        progress.update(task, total=1, completed=1)
    print(f"Data set: {root} (Torchreid: --root {root}; FastReID: FASTREID_DATASETS={root})")
    return root
