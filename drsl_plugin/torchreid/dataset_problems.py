"""What is wrong with the data sets that a configuration names, as far as their folders and file names tell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drsl_plugin.data.catalogue import getting
from drsl_plugin.data.market_layout import DUKEMTMC, MARKET1501, Layout, layout_problems, unread_images
from drsl_plugin.errors import SettingError, nearest
from drsl_plugin.toolbox.rules import named_twice
from drsl_plugin.toolbox.types import ConfigNode
from drsl_plugin.torchreid.host import registry, torchreid

_LAYOUTS = {"market1501": MARKET1501, "dukemtmcreid": DUKEMTMC}
"""The sets that are laid out as Market-1501."""
_OWN = "number them so, or register a class of your own (torchreid.data.register_image_dataset)"


def dataset_problems(cfg: ConfigNode) -> Iterator[SettingError]:
    """Yield what is wrong with the data sets: unknown ones, and those that are not on disk; each of them once."""
    told = set()
    for option, names in (("--sources", cfg.data.sources), ("--targets", cfg.data.targets)):
        if not names:
            yield SettingError(option, "[]", f"names no data set (known: {', '.join(sorted(datasets(cfg)))})")
        yield from named_twice(option, names)
        for name in names:
            if name not in told:
                yield from _dataset_problem(cfg, option, name)
            told.add(name)


def unread_data(cfg: ConfigNode) -> Iterator[str]:
    """Yield a line for each folder with images that the class of its set leaves out."""
    for name in dict.fromkeys([*cfg.data.sources, *cfg.data.targets]):
        for home, _ in _find_layout(cfg, name):
            yield from unread_images(home)


def datasets(cfg: ConfigNode) -> dict[str, Any]:
    """Return Torchreid's data sets of ``cfg.data.type``, by name."""
    return registry(torchreid.data.datasets, f"__{cfg.data.type}_datasets")


def _find_layout(cfg: ConfigNode, name: str) -> Iterator[tuple[str, Layout]]:
    """Yield the folder of a set that a class of Torchreid's own reads as Market-1501, and what that takes."""
    kind = datasets(cfg)[name]
    if cfg.data.type == "image" and name in _LAYOUTS and kind.__module__.split(".")[0] == "torchreid":
        holder = os.path.join(os.path.abspath(os.path.expanduser(cfg.data.root)), kind.dataset_dir)
        yield _LAYOUTS[name].find_home(holder), _LAYOUTS[name]


def _dataset_problem(cfg: ConfigNode, option: str, name: str) -> Iterator[SettingError]:
    known = datasets(cfg)
    if name not in known:
        needs = f"no {cfg.data.type} data set of this name{nearest(name, known)} (known: {', '.join(sorted(known))})"
        yield SettingError(option, name, needs)
        return
    folder = getattr(known[name], "dataset_dir", None)
    # Torchreid would make the folder and try a download; those links are dead, and the empty folder stays.
    if folder and not Path(cfg.data.root, folder).expanduser().is_dir():
        path = Path(cfg.data.root, folder).expanduser().absolute()
        how = getting(name, "Torchreid's documentation of data sets says how to lay it out")
        yield SettingError(option, name, f"not on disk, no folder {path} (--root is {cfg.data.root}); {how}")
        return
    for home, layout in _find_layout(cfg, name):
        yield from layout_problems(home, layout, _OWN)
