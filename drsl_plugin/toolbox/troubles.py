"""What is known to break on this machine, and the facts of it that decide about the toolboxes' own troubles."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from drsl_plugin.toolbox.modules import installed_version, quiet

OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
"""The distributions that bring the module ``cv2``."""


class Trouble(NamedTuple):
    """One known trouble.

    Attributes:
        key: its name; one that a toolbox numbers in the README and in the docstrings of its workarounds is ``F…``.
        plugin: what the drsl commands make of it; ``"refused"`` is one line before a run.
        what: breaks, and why.
    """

    key: str
    plugin: Literal["handled", "refused", "not handled"]
    what: str

    @property
    def number(self) -> str:
        """The number that the README gives it, or an empty text."""
        return self.key if self.key.startswith("F") else ""


@dataclass(frozen=True)
class Stack:
    """The facts that every toolbox's troubles may depend on.

    Attributes:
        python: its version, major and minor.
        torch: likewise; (0, 0) where it cannot be told.
        cuda: whether torch finds a GPU.
    """

    python: tuple[int, int]
    torch: tuple[int, int]
    cuda: bool


def this_stack() -> Stack:
    """Find the facts out."""
    version = re.match(r"(\d+)\.(\d+)", torch.__version__)
    with quiet():
        cuda = torch.cuda.is_available()
    return Stack(sys.version_info[:2], (int(version[1]), int(version[2])) if version else (0, 0), cuda)


def opencv_troubles() -> list[Trouble]:
    """List what several installed distributions of OpenCV do to one another."""
    names = [name for name in OPENCV if installed_version(name)]
    what = "write to one folder, cv2, and break one another: uninstall all of them, install one"
    return [Trouble("O1", "not handled", f"{' and '.join(names)} {what}")] if len(names) > 1 else []
