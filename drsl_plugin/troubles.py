"""Which toolboxes are installed, what is known to break in them as they are, and what this package does about it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import io
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from drsl_plugin.fastreid.cython_part import build_obstacles
from drsl_plugin.toolbox.modules import find_module

OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


class Toolbox(NamedTuple):
    """What is known of a toolbox."""

    title: str
    name: str
    place: Path | None  # the folder of the package; None where it is not installed
    distribution: str
    problem: str  # one line; empty where it can be imported

    @property
    def repair(self) -> str:
        """The command that the problem ends in; one that shows the whole error where it ends in none."""
        command = re.search(r"pip install .*", self.problem)
        return command[0] if command else f'python -c "import drsl_plugin.{self.name}.host"'

    @property
    def repair_step(self) -> tuple[str, str]:
        """What the command is for, and the command."""
        installs = self.repair.startswith("pip install")
        return f"Repair {self.title}:" if installs else f"See the whole error of {self.title}:", self.repair


class Stack(NamedTuple):
    """The facts that decide which troubles there are."""

    python: tuple[int, int]
    torch: tuple[int, int]
    cuda: bool  # torch finds a GPU
    zero_grad_drops: bool  # Optimizer.zero_grad() drops the gradients, and does not fill them with zeros
    has_lamb: bool  # torch has an optimizer of this name
    has_numpy_bool: bool
    affine_fits: bool  # torchvision's RandomAffine takes the arguments that FastReID passes
    faiss_has_gpu: bool
    fastreid_wants_mapping: bool  # its code imports collections.Mapping
    fastreid_wants_six: bool  # its code imports torch._six, whatever the version of torch
    build_obstacles: tuple[str, ...]  # to FastReID's Cython part; none where it is built
    torchreid_has_utils: bool  # torchreid.utils is a module of the Torchreid that is there
    opencvs: tuple[str, ...]  # the distributions of OpenCV that are installed


class Trouble(NamedTuple):
    """One known trouble."""

    key: str  # FastReID's are the numbers of the README's table and of the docstrings of drsl_plugin.fastreid
    plugin: Literal["handled", "refused", "not handled"]  # by the drsl commands; refused is one line before a run
    applies: Callable[[Stack], bool]
    what: str  # breaks, and why; a field of the stack in braces stands for what it lists

    @property
    def number(self) -> str:
        """The number that the README gives it, where it does."""
        return self.key if self.key.startswith("F") else ""

    def line(self, stack: Stack) -> str:
        """Say what breaks on a stack."""
        return self.what.format(build_obstacles=", ".join(stack.build_obstacles), opencvs=" and ".join(stack.opencvs))


def _always(stack: Stack) -> bool:
    return True


def _no_cuda(stack: Stack) -> bool:
    return not stack.cuda


# By toolbox; those of the installation as a whole have an empty name.
TROUBLES: dict[str, tuple[Trouble, ...]] = {
    "torchreid": (
        Trouble(
            "T1", "handled", _always, "loss.name drsl: its main builds the triplet engine, then ends in a KeyError"
        ),
        Trouble(
            "T2",
            "handled",
            lambda s: not s.torchreid_has_utils,
            "`from torchreid.utils import ...` in scripts: PyPI's has torchreid.reid.utils",
        ),
        Trouble(
            "T3",
            "handled",
            lambda s: s.torch >= (2, 6),
            "resume: torch.load (2.6 on) refuses its checkpoints, which hold a numpy scalar",
        ),
        Trouble("T4", "handled", lambda s: not s.has_numpy_bool, "CUHK03's own metric: this numpy has no np.bool"),
        Trouble("T5", "handled", _always, "small galleries: IndexError when it prints ranks beyond their size"),
        Trouble("T6", "handled", _always, "its Logger closes the console's stdout at the end"),
    ),
    "fastreid": (
        Trouble(
            "F1",
            "handled",
            lambda s: s.zero_grad_drops,
            "training moves no weight: torch 2's zero_grad drops the gradients' buffers",
        ),
        Trouble(
            "F2",
            "handled",
            lambda s: s.fastreid_wants_mapping and s.python >= (3, 10),
            "import: collections.Mapping is gone (Python 3.10 on)",
        ),
        Trouble(
            "F3",
            "handled",
            lambda s: s.fastreid_wants_six and s.torch >= (2, 0),
            "import: torch._six is gone (torch 2.0 on)",
        ),
        Trouble(
            "F4",
            "handled",
            lambda s: bool(s.build_obstacles),
            "evaluation ends the process: its Cython part cannot be built here ({build_obstacles})",
        ),
        Trouble("F5", "handled", _no_cuda, "without CUDA: its data loader stops, and its presets ask for AMP"),
        Trouble(
            "F6",
            "refused",
            lambda s: not s.affine_fits,
            "INPUT.AFFINE.ENABLED True: torchvision has dropped arguments that it passes",
        ),
        Trouble(
            "F7",
            "refused",
            lambda s: not (s.cuda and s.faiss_has_gpu),
            "TEST.RERANK.ENABLED True: needs a GPU, and faiss built for it",
        ),
        Trouble("F8", "handled", _no_cuda, "several processes without CUDA: it knows NCCL alone"),
        Trouble("F9", "refused", lambda s: not s.has_lamb, "SOLVER.OPT Lamb: torch has no such optimizer"),
        Trouble("F10", "handled", _always, "no setting for the seed: no two runs are alike"),
        Trouble("F11", "handled", _always, "resume: the samplers begin their stream of images anew"),
        Trouble("F12", "handled", _always, "resume: SOLVER.FREEZE_ITERS counts from 0, and layers freeze again"),
        Trouble("F13", "handled", _no_cuda, "several processes without CUDA: it gives the model the number of a GPU"),
        Trouble("F14", "handled", _always, "bad input during a training is logged with its traceback"),
    ),
    "": (
        Trouble(
            "O1",
            "not handled",
            lambda s: len(s.opencvs) > 1,
            "{opencvs} write to one folder, cv2, and break one another: uninstall all of them, install one",
        ),
    ),
}


def troubles(toolbox: str, stack: Stack) -> list[Trouble]:
    """List the troubles that a toolbox has on a stack.

    Args:
        toolbox: ``"torchreid"``, ``"fastreid"``, or an empty string for those of the installation as a whole.
        stack: of :func:`this_stack`.
    """
    return [trouble for trouble in TROUBLES[toolbox] if trouble.applies(stack)]


def this_stack(torchreid: Path | None, fastreid: Path | None) -> Stack:
    """Find the facts out; what cannot be found out counts as no trouble.

    Args:
        torchreid: the folder of the package, or None where it is not there.
        fastreid: likewise.
    """
    with _quiet():
        transforms, faiss = _import("torchvision.transforms"), _import("faiss")
        numpy_bool = hasattr(_import("numpy"), "bool")
        cuda = torch.cuda.is_available()
    return Stack(
        python=sys.version_info[:2],
        torch=_major_minor(torch.__version__),
        cuda=cuda,
        zero_grad_drops=inspect.signature(torch.optim.Optimizer.zero_grad).parameters["set_to_none"].default is True,
        has_lamb=hasattr(torch.optim, "Lamb"),
        has_numpy_bool=numpy_bool,
        affine_fits=transforms is None or "fillcolor" in inspect.signature(transforms.RandomAffine).parameters,
        faiss_has_gpu=hasattr(faiss, "StandardGpuResources"),
        # Not hasattr(collections, "Mapping"): importing drsl_plugin.fastreid puts it back.
        fastreid_wants_mapping=any(
            re.search(r"^from collections import .*\bMapping\b", _text(fastreid, file), re.MULTILINE)
            for file in ("data/build.py", "evaluation/testing.py")
        ),
        fastreid_wants_six=re.search(r"^from torch\._six", _text(fastreid, "data/build.py"), re.MULTILINE) is not None,
        build_obstacles=build_obstacles(fastreid) if fastreid else (),
        torchreid_has_utils=torchreid is None or (torchreid / "utils").is_dir(),
        opencvs=tuple(name for name in OPENCV if installed_version(name)),
    )


def examine(title: str) -> Toolbox:
    """Find a toolbox and import it, which may fail in any way.

    Args:
        title: ``"Torchreid"`` or ``"FastReID"``.
    """
    name = title.lower()
    problem = ""
    try:
        with _quiet():
            importlib.import_module(f"drsl_plugin.{name}.host")
    except (Exception, SystemExit) as error:
        problem = " ".join(str(error).split())
        if not (isinstance(error, ImportError) and "pip install" in problem):
            problem = f"{title} cannot be imported ({type(error).__name__}: {problem})"
    place = _place(name)  # after the import, which also looks for a clone of FastReID in the current folder
    return Toolbox(title, name, place, _distribution(name, place) if place else "", problem)


def _place(name: str) -> Path | None:
    """Find the folder of a package without importing it."""
    spec = find_module(name)
    folders = list(spec.submodule_search_locations or []) if spec else []
    return Path(folders[0]) if folders else None


def _distribution(name: str, place: Path) -> str:
    """Tell which distribution a package is of; its ``__version__`` does not."""
    others = []
    for distribution in importlib.metadata.distributions(name=name):
        try:
            text = _origin(distribution)
            here = os.path.realpath(str(distribution.locate_file(name))) == os.path.realpath(place)
        except Exception:  # damaged metadata
            continue
        if text and here:
            return text
        others += [text] if text else []
    try:
        found = re.search(
            r"^__version__\s*=\s*['\"](.+?)['\"]", (place / "__init__.py").read_text("utf-8"), re.MULTILINE
        )
    except (OSError, ValueError):
        found = None
    version = f"version {found[1]}" if found else "of unknown version"
    return f"a checkout, {version}" + (f" (before {others[0]}, which is installed too)" if others else "")


def _origin(distribution: importlib.metadata.Distribution) -> str:
    """Tell where an installed distribution came from; nothing for one that points to a checkout."""
    label = f"{distribution.metadata['Name']} {distribution.version}"
    direct = json.loads(distribution.read_text("direct_url.json") or "{}")
    if direct.get("dir_info", {}).get("editable"):
        return ""
    if "url" in direct:
        return f"{label} from {direct['url']}"
    installer = (distribution.read_text("INSTALLER") or "").strip()
    return f"{label} from {'conda' if installer == 'conda' else 'PyPI'}" if installer else ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what modules print and warn of while they are imported."""
    kept = io.StringIO()
    with contextlib.redirect_stdout(kept), contextlib.redirect_stderr(kept), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def installed_version(distribution: str) -> str | None:
    """Return the version of a distribution, or None where it is not installed."""
    try:
        return importlib.metadata.version(distribution) or "of unknown version"
    except Exception:  # not there, or its metadata is damaged: importlib.metadata has no error of its own for that
        return None


def _import(name: str) -> Any:
    """Import a module that may be missing, or broken in any way."""
    try:
        return importlib.import_module(name)
    except Exception:
        return None


def _major_minor(version: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _text(package: Path | None, file: str) -> str:
    """Read a file of a package, or nothing where it cannot be read."""
    if package is None:
        return ""
    try:
        return (package / file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
