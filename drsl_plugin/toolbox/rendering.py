"""The demo set, rendered for all toolboxes."""

from __future__ import annotations

from pathlib import Path

from drsl_plugin.data.progress import progress_bars
from drsl_plugin.data.rendered.demo import render_demo
from drsl_plugin.toolbox.registry import toolboxes


def render_with_progress(root: Path, settings: dict[str, int]) -> Path:
    """Render the demo set with a progress bar, and say how each toolbox finds it.

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
    places = "; ".join(f"{each.title}: {each.name_data_root(str(root))}" for each in toolboxes())
    print(f"Data set: {root} ({places})")
    return root
