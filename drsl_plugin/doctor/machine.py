"""What the toolboxes stand on: Python, torch, the GPU and the libraries that both import."""

from __future__ import annotations

import platform
import textwrap
import warnings

import torch

from drsl_plugin import __version__
from drsl_plugin.doctor.wrapping import wrap
from drsl_plugin.toolbox.modules import find_module, installed_version
from drsl_plugin.toolbox.troubles import OPENCV, opencv_troubles

FAISS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12", "faiss")
"""The distributions that bring the module ``faiss``."""


def describe_machine() -> list[str]:
    """Tell the versions of all that the toolboxes stand on, and what ails them."""
    cuda, rocm = torch.version.cuda, getattr(torch.version, "hip", None)
    built = f"for CUDA {cuda}" if cuda else f"for ROCm {rocm}" if rocm else "for the CPU alone"
    rows = {
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "drsl-plugin": __version__,
        "torch": f"{torch.__version__}, built {built}",
        "GPU": _list_gpus(),
        "torchvision": _list_versions("torchvision", "torchvision"),
        "numpy": _list_versions("numpy", "numpy"),
        "OpenCV": _list_versions("cv2", *OPENCV),
        "faiss": _list_versions("faiss", *FAISS),
    }
    lines = [f"{name:<13}{value}" for name, value in rows.items()]
    return lines + [wrap(f"{trouble.plugin}: ", trouble.what) for trouble in opencv_troubles()]


def _list_gpus() -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    why = f" ({textwrap.shorten(str(caught[0].message), 200)})" if caught else ""
    return f"none found{why}: runs are on the CPU"


def _list_versions(module: str, *distributions: str) -> str:
    """List the installed distributions of a module."""
    found = {name: version for name in distributions if (version := installed_version(name))}
    if list(found) == [module]:
        return found[module]
    return ", ".join(" ".join(pair) for pair in found.items()) or (
        "of unknown origin" if find_module(module) else "none"
    )
