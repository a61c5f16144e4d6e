"""``drsl doctor``: what is installed, what ails it, where data sets are looked for, and what to type next."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import shlex
import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch

from drsl_plugin import __version__
from drsl_plugin.errors import OneLineParser
from drsl_plugin.presets import preset_names
from drsl_plugin.toolbox.modules import find_module
from drsl_plugin.troubles import (
    OPENCV,
    Stack,
    Toolbox,
    examine,
    installed_version,
    this_stack,
    troubles,
)

FAISS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12", "faiss")
COMMANDS = {"torchreid": "drsl torchreid and drsl run", "fastreid": "drsl fastreid and drsl run"}
WIDTH = 96


class DataSet(NamedTuple):
    """How a data set lies on disk."""

    title: str
    folder: str  # below Torchreid's root; FastReID looks in its root itself
    layouts: dict[str, tuple[str, ...]]  # folders, of which the first that is there is read, and what each has to hold
    presets: tuple[str, str]  # Torchreid's and FastReID's


class Found(NamedTuple):
    """Where a data set was looked for, and what was there."""

    data_set: DataSet
    root: str  # where FastReID would have to look for it
    folder: str
    state: Literal["there", "incomplete", "not there"]
    missing: list[str]


_BOXES = ("bounding_box_train", "query", "bounding_box_test")
_LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
_PROTOCOLS = ("cuhk03_new_protocol_config_detected.mat", "cuhk03_new_protocol_config_labeled.mat")
DATA_SETS = (
    DataSet(
        "Market-1501",
        "market1501",
        {"Market-1501-v15.09.15": _BOXES, "": _BOXES},
        ("torchreid/osnet_x1_0_drsl_256x128_market1501", "fastreid/Market1501/bagtricks_R50_drsl"),
    ),
    DataSet(
        "MSMT17",
        "msmt17",
        {"MSMT17_V1": ("train", "test", *_LISTS), "MSMT17_V2": ("mask_train_v2", "mask_test_v2", *_LISTS)},
        ("torchreid/osnet_x1_0_drsl_256x128_msmt17", "fastreid/MSMT17/bagtricks_R50_drsl"),
    ),
    DataSet(
        "CUHK03",
        "",
        {"cuhk03": ("cuhk03_release/cuhk-03.mat", *_PROTOCOLS)},
        ("torchreid/osnet_x1_0_drsl_256x128_cuhk03", "fastreid/CUHK03/bagtricks_R50_drsl"),
    ),
)


def main(argv: Sequence[str]) -> int:
    """Print what there is and what to type next; nothing on disk is changed.

    Args:
        argv: the arguments.

    Returns:
        The exit code: 0, or 1 where no toolbox is installed, or one that is cannot be imported.

    Raises:
        DRSLError: bad arguments.
    """
    parser = OneLineParser(
        prog="drsl doctor",
        description="Show what is installed, what ails it, where data sets are looked for, and what to type next. "
        "Exit code 1: no toolbox is installed, or one that is lacks something that it needs.",
    )
    parser.add_argument("--root", default="reid-data", metavar="DIR", help="Torchreid's data (default: reid-data)")
    root = os.path.expanduser(parser.parse_args(argv).root)
    toolboxes = [examine("Torchreid"), examine("FastReID")]
    installed = [toolbox for toolbox in toolboxes if toolbox.place]
    working = [toolbox for toolbox in installed if not toolbox.problem]
    stack = this_stack(*(toolbox.place for toolbox in toolboxes))
    data = {
        "torchreid": look_for_data(root, below=True),
        "fastreid": look_for_data(os.environ.get("FASTREID_DATASETS", "datasets"), below=False),
    }
    _section("This machine", lambda: machine(stack))
    for toolbox in toolboxes:
        _section(toolbox.title, functools.partial(describe, toolbox, stack))
    _section("Data sets", lambda: describe_data(data))
    _section("What to type next", lambda: next_steps(toolboxes, data, root, stack.cuda))
    return 0 if working and working == installed else 1


def machine(stack: Stack) -> list[str]:
    """Tell the versions of all that the toolboxes stand on."""
    cuda, rocm = torch.version.cuda, getattr(torch.version, "hip", None)
    built = f"for CUDA {cuda}" if cuda else f"for ROCm {rocm}" if rocm else "for the CPU alone"
    rows = {
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "drsl-plugin": __version__,
        "torch": f"{torch.__version__}, built {built}",
        "GPU": _gpus(),
        "torchvision": _versions("torchvision", "torchvision"),
        "numpy": _versions("numpy", "numpy"),
        "OpenCV": _versions("cv2", *OPENCV),
        "faiss": _versions("faiss", *FAISS),
    }
    lines = [f"{name:<13}{value}" for name, value in rows.items()]
    return lines + [_wrap(f"{trouble.plugin}: ", trouble.line(stack)) for trouble in troubles("", stack)]


def describe(toolbox: Toolbox, stack: Stack) -> list[str]:
    """Tell what a toolbox is, where it is, and what ails it."""
    if not toolbox.place:
        return [_wrap("", _cause(toolbox)), f"  {toolbox.repair}"]
    lines = [toolbox.distribution, f"in {toolbox.place}"]
    if toolbox.problem:
        return [*lines, _wrap("cannot be used: ", _cause(toolbox)), f"  {toolbox.repair}"]
    lines.append(f"Known troubles on this stack; handled, or refused in one line, by {COMMANDS[toolbox.name]}:")
    for trouble in troubles(toolbox.name, stack):
        number = f"{trouble.number:<5}" if trouble.number else ""
        lines.append(_wrap(f"  {trouble.plugin}  {number}", trouble.line(stack)))
    return lines


def describe_data(data: dict[str, list[Found]]) -> list[str]:
    """Tell where each toolbox looks for its data sets and which are there."""
    variable = "is set" if "FASTREID_DATASETS" in os.environ else "is not set, so ./datasets"
    titles = {
        "torchreid": "Torchreid, below --root:",
        "fastreid": f"FastReID, below $FASTREID_DATASETS ({variable}):",
    }
    lines = []
    for name, finds in data.items():
        lines.append(titles[name])
        for found in finds:
            lines.append(f"  {found.data_set.title:<13}{found.state:<12}{found.folder}")
            if found.state == "incomplete":
                lines.append(_wrap(f"{'':27}", f"lacks {', '.join(found.missing)}"))
    return lines


def next_steps(toolboxes: list[Toolbox], data: dict[str, list[Found]], root: str, cuda: bool) -> list[str]:
    """Tell what to type: repairs first, then a training on data that are there, then what could be added.

    Args:
        toolboxes: both.
        data: where each looks for its data sets.
        root: Torchreid's root.
        cuda: whether there is a GPU.
    """
    installed = [toolbox for toolbox in toolboxes if toolbox.place]
    working = [toolbox.name for toolbox in installed if not toolbox.problem]
    steps = [toolbox.repair_step for toolbox in installed if toolbox.problem]
    below_root = [found for found in data["torchreid"] if found.state == "there"]
    fastreids = [found for found in data["fastreid"] if found.state == "there"]
    if working and not (below_root or (fastreids and working == ["fastreid"])):
        if "torchreid" in working:
            steps.append(("See it run, on a small data set that it renders:", "drsl demo"))
        root = _free(root)
        steps.append(("Render such a data set, to train on:", f"drsl demo --data-only {shlex.quote(root)}"))
        below_root = look_for_data(root, below=True)[:1]
    if "torchreid" in working:
        steps.append(("Train with Torchreid:", train_torchreid(below_root, root)))
    if "fastreid" in working:
        steps.append(("Train with FastReID:", train_fastreid(fastreids, below_root, cuda)))
    absent = "Add {}, if you want it too:" if working else "Install {}:"
    steps += [(absent.format(toolbox.title), toolbox.repair) for toolbox in toolboxes if not toolbox.place]
    return [line for label, command in steps for line in (label, f"  {command}")]


def train_torchreid(finds: list[Found], root: str) -> str:
    """Put Torchreid's training command together.

    Args:
        finds: the data sets that are below its root.
        root: the root.
    """
    preset = next(
        (found.data_set.presets[0] for found in finds if found.data_set.presets[0] in preset_names("torchreid")), None
    )
    return f"drsl torchreid --config-file {preset} --root {shlex.quote(root)}" if preset else "drsl presets"


def train_fastreid(own: list[Found], below_root: list[Found], cuda: bool) -> str:
    """Put FastReID's training command together.

    Args:
        own: the data sets that are where it looks.
        below_root: those below Torchreid's root, which it can be sent to as well.
        cuda: whether there is a GPU.
    """
    known = preset_names("fastreid")
    found = next((found for found in (*own, *below_root) if found.data_set.presets[1] in known), None)
    if found is None:
        return "drsl presets"
    where = "" if found in own else f"FASTREID_DATASETS={shlex.quote(found.root)} "
    return f"{where}drsl fastreid --config-file {found.data_set.presets[1]}{'' if cuda else ' MODEL.DEVICE cpu'}"


def training(title: str, root: str) -> dict[str, str]:
    """Put together each toolbox's training command on a data set that lies below a root for both.

    Args:
        title: the data set's.
        root: the folder that serves both.
    """
    below, beside = (
        [found for found in look_for_data(root, below=flag) if found.data_set.title == title] for flag in (True, False)
    )
    return {
        "Torchreid": train_torchreid(below, root),
        "FastReID": train_fastreid([], beside, torch.cuda.is_available()),
    }


def look_for_data(root: str, *, below: bool) -> list[Found]:
    """Look for the data sets below a root.

    Args:
        root: the folder.
        below: as Torchreid does, where most have a folder each.
    """
    return [_look_for(data_set, os.path.join(root, data_set.folder) if below else root) for data_set in DATA_SETS]


def _look_for(data_set: DataSet, root: str) -> Found:
    finds = []
    for name, needs in data_set.layouts.items():
        path = os.path.join(root, name)
        missing = [need for need in needs if not os.path.exists(os.path.join(path, need))]
        begun = len(missing) < len(needs) or (name and os.path.isdir(path))
        with contextlib.suppress(OSError):  # the current folder may be gone
            path = os.path.abspath(path)
        finds.append(Found(data_set, root, path, "incomplete" if begun else "not there", missing))
    found = next((found for found in finds if found.state == "incomplete"), finds[0])
    return found if found.missing else found._replace(state="there")


def _free(root: str) -> str:
    """Choose where the demo set can be rendered, which takes no folder of Market-1501 that holds something else."""
    taken = any(os.path.lexists(os.path.join(root, name)) for name in ("market1501", "Market-1501-v15.09.15"))
    return "demo-data" if taken else root


def _gpus() -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    why = f" ({textwrap.shorten(str(caught[0].message), 200)})" if caught else ""
    return f"none found{why}: runs are on the CPU"


def _versions(module: str, *distributions: str) -> str:
    """List the installed distributions of a module."""
    found = {name: version for name in distributions if (version := installed_version(name))}
    if list(found) == [module]:
        return found[module]
    return ", ".join(" ".join(pair) for pair in found.items()) or (
        "of unknown origin" if find_module(module) else "none"
    )


def _cause(toolbox: Toolbox) -> str:
    """The problem without the command that it ends in."""
    return toolbox.problem.removesuffix(toolbox.repair).rstrip(": ") + ":"


def _wrap(first: str, text: str) -> str:
    """Fill a paragraph whose later lines stand below the text of the first."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _section(heading: str, lines: Callable[[], list[str]]) -> None:
    """Print a part of the report; one that fails must not keep the others from being read."""
    try:
        text = "\n".join(lines())
    except Exception as error:
        text = f"could not be found out ({type(error).__name__}: {' '.join(str(error).split())})"
    whole = f"{heading}\n{textwrap.indent(text, '  ')}\n"
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(whole.encode(encoding, "backslashreplace").decode(encoding))
