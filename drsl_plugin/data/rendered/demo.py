"""The demo set: a small person re-identification data set of drawn people, rendered on the spot."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from drsl_plugin.data.folders import link_beside, links_to, new_folder
from drsl_plugin.data.rendered.layout import LAYOUT, STANDS_FOR, list_entries
from drsl_plugin.data.rendered.settings import DemoSettings
from drsl_plugin.errors import DRSLError

IDENTITIES, CAMERAS, IMAGES = 48, 4, 4
"""A set small enough for OSNet x0.25 to learn from scratch on two CPU cores in a few minutes (20 epochs, 240 steps)."""

_RECORD = "demo.json"

ReportImages = Callable[[int, int], None]
"""Called after each image with how many are done and how many there are."""


def render_demo(
    root: Path,
    *,
    identities: int = IDENTITIES,
    cameras: int = CAMERAS,
    images: int = IMAGES,
    seed: int = 0,
    progress: ReportImages | None = None,
) -> Path:
    """Render the demo set into a folder, in Market-1501's layout, for Torchreid and FastReID alike.

    Groups of eight people share all their colours, in about the same amounts. In one group a person is
    known by the patterns and the cut of the clothes, hair, hat, bag and build.

    The images lie in ``root/market1501/Market-1501-v15.09.15``, where Torchreid looks under its root; a
    link ``root/Market-1501-v15.09.15`` serves FastReID with ``FASTREID_DATASETS=root``. The same settings
    give the same bytes with one version of OpenCV; a finished set with the same settings is kept as it is.

    Args:
        root: made where missing; other things in it are left alone.
        identities: number of training identities, and as many others for the test; 2..750.
        cameras: 2..6.
        images: of each identity in each camera, in training and in the gallery, 1..99; each test identity
            has one query image more in each camera.
        seed: 0 or more; decides the people, the cameras and every image.
        progress: called after each image; not called where the set is there already.

    Returns:
        ``root``.

    Raises:
        DRSLError: a setting is outside its range, ``root`` cannot be written to, or it holds something else
            under the names above.
        MissingPackageError: OpenCV is not installed.
    """
    settings = DemoSettings(identities, cameras, images, seed)
    root = Path(root)
    folder, link = root / STANDS_FOR.folder, root / LAYOUT
    target = Path(STANDS_FOR.folder) / LAYOUT
    if os.path.lexists(link) and not links_to(link, target):
        raise DRSLError(f"{link} exists and is not a link to {target}; give another folder or move it away")
    if os.path.lexists(folder):
        _check_same(folder, settings)
    else:
        try:
            with new_folder(folder) as scratch:
                _render(scratch, settings, progress)
        except OSError as error:
            raise DRSLError(f"cannot render into {root}: {error}") from error
    link_beside(link, target)
    return root


def _render(folder: Path, settings: DemoSettings, progress: ReportImages | None) -> None:
    from drsl_plugin.data.rendered.rendering import render_entry  # here, because it needs OpenCV

    planned = list(list_entries(settings))
    for name in {entry.folder for entry in planned}:
        (folder / LAYOUT / name).mkdir(parents=True)
    for done, entry in enumerate(planned, start=1):
        path = folder / LAYOUT / entry.folder / entry.name
        path.write_bytes(render_entry(settings.seed, entry))
        if progress is not None:
            progress(done, len(planned))
    (folder / _RECORD).write_text(json.dumps(settings.record(), indent=2) + "\n", encoding="utf-8")


def _check_same(folder: Path, settings: DemoSettings) -> None:
    try:
        found = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DRSLError(f"{folder} exists and is not a demo set; give another folder or move it away") from None
    if found != settings.record():
        raise DRSLError(
            f"{folder} is a demo set with other settings: {found}, not {settings.record()}; "
            "give another folder or delete it"
        )
