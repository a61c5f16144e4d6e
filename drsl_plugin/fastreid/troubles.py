"""What is known to break in FastReID as it is, and what this package does about it; imports no FastReID."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from drsl_plugin.fastreid.cython_part import build_obstacles
from drsl_plugin.toolbox.modules import import_quietly
from drsl_plugin.toolbox.troubles import Stack, Trouble, this_stack

_Row = tuple[bool, str, Literal["handled", "refused"], str]
INSTALL = 'pip install "drsl-plugin[fastreid]" && pip install --no-deps fastreid==1.4.0'
"""What installs it and all that it imports, where that is missing."""


@dataclass(frozen=True)
class Facts(Stack):
    """The facts that decide which troubles there are.

    Attributes:
        zero_grad_drops: whether ``Optimizer.zero_grad()`` drops the gradients, and does not fill them with zeros.
        has_lamb: whether torch has an optimizer of this name.
        affine_fits: whether torchvision's RandomAffine takes the arguments that FastReID passes.
        faiss_has_gpu: whether faiss is built for a GPU.
        wants_mapping: whether FastReID's code imports ``collections.Mapping``.
        wants_six: whether it imports ``torch._six``, whatever the version of torch.
        build_obstacles: to its Cython part; none where it is built.
    """

    zero_grad_drops: bool
    has_lamb: bool
    affine_fits: bool
    faiss_has_gpu: bool
    wants_mapping: bool
    wants_six: bool
    build_obstacles: tuple[str, ...]


def find_facts(package: Path | None) -> Facts:
    """Find the facts out; what cannot be found out counts as no trouble.

    Args:
        package: the folder of FastReID's package, or None where it is not there.
    """
    transforms = import_quietly("torchvision.transforms")
    return Facts(
        **vars(this_stack()),
        zero_grad_drops=inspect.signature(torch.optim.Optimizer.zero_grad).parameters["set_to_none"].default is True,
        has_lamb=hasattr(torch.optim, "Lamb"),
        affine_fits=transforms is None or "fillcolor" in inspect.signature(transforms.RandomAffine).parameters,
        faiss_has_gpu=hasattr(import_quietly("faiss"), "StandardGpuResources"),
        # Not hasattr(collections, "Mapping"): importing drsl_plugin.fastreid puts it back.
        wants_mapping=any(
            re.search(r"^from collections import .*\bMapping\b", _read(package, file), re.MULTILINE)
            for file in ("data/build.py", "evaluation/testing.py")
        ),
        wants_six=re.search(r"^from torch\._six", _read(package, "data/build.py"), re.MULTILINE) is not None,
        build_obstacles=build_obstacles(package) if package else (),
    )


def list_troubles(facts: Facts) -> list[Trouble]:
    """List the troubles that FastReID has on a stack, under the numbers of the README and of the workarounds.

    Args:
        facts: of :func:`find_facts`.
    """
    no_cuda, obstacles = not facts.cuda, ", ".join(facts.build_obstacles)
    no_gpu_ranking = not (facts.cuda and facts.faiss_has_gpu)
    mapping_gone = facts.wants_mapping and facts.python >= (3, 10)
    six_gone = facts.wants_six and facts.torch >= (2, 0)
    unmoved = "training moves no weight: torch 2's zero_grad drops the gradients' buffers"
    unbuilt = f"evaluation ends the process: its Cython part cannot be built here ({obstacles})"
    affine = "INPUT.AFFINE.ENABLED True: torchvision has dropped arguments that it passes"
    rows: tuple[_Row, ...] = (
        (facts.zero_grad_drops, "F1", "handled", unmoved),
        (mapping_gone, "F2", "handled", "import: collections.Mapping is gone (Python 3.10 on)"),
        (six_gone, "F3", "handled", "import: torch._six is gone (torch 2.0 on)"),
        (bool(obstacles), "F4", "handled", unbuilt),
        (no_cuda, "F5", "handled", "without CUDA: its data loader stops, and its presets ask for AMP"),
        (not facts.affine_fits, "F6", "refused", affine),
        (no_gpu_ranking, "F7", "refused", "TEST.RERANK.ENABLED True: needs a GPU, and faiss built for it"),
        (no_cuda, "F8", "handled", "several processes without CUDA: it knows NCCL alone"),
        (not facts.has_lamb, "F9", "refused", "SOLVER.OPT Lamb: torch has no such optimizer"),
        (True, "F10", "handled", "no setting for the seed: no two runs are alike"),
        (True, "F11", "handled", "resume: the samplers begin their stream of images anew"),
        (True, "F12", "handled", "resume: SOLVER.FREEZE_ITERS counts from 0, and layers freeze again"),
        (no_cuda, "F13", "handled", "several processes without CUDA: it gives the model the number of a GPU"),
        (True, "F14", "handled", "bad input during a training is logged with its traceback"),
    )
    return [Trouble(key, plugin, what) for applies, key, plugin, what in rows if applies]


def _read(package: Path | None, file: str) -> str:
    """Read a file of a package, or nothing where it cannot be read."""
    if package is None:
        return ""
    try:
        return (package / file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
