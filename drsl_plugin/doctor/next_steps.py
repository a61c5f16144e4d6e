"""What to type next: repairs first, then a training on data that are there, then what could be added."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from drsl_plugin.data.catalogue import PUBLISHED
from drsl_plugin.data.looking import Found, look_for
from drsl_plugin.doctor.installation import Installation
from drsl_plugin.doctor.training import training_command
from drsl_plugin.toolbox import Toolbox

RENDERED = PUBLISHED["market1501"]
"""What ``drsl demo --data-only`` renders a stand-in for."""


def next_steps(
    installations: Sequence[Installation], finds: dict[str, list[Found]], root: str, cuda: bool
) -> list[str]:
    """Tell what to type.

    Args:
        installations: of all toolboxes.
        finds: what each toolbox has found where it looks for data sets, by its name.
        root: the folder of data sets that was given.
        cuda: whether there is a GPU.
    """
    installed = [each for each in installations if each.package]
    working = [each.toolbox for each in installed if not each.cause]
    steps = [each.repair_step for each in installed if each.cause]
    usable = {toolbox.name: _list_usable(toolbox, finds) for toolbox in working}
    if not all(usable.values()):
        demos = [toolbox.demo for toolbox in working if toolbox.demo]
        steps += [("See it run, on a small data set that it renders:", demo) for demo in demos]
        root = _choose_free_root(root)
        steps.append(("Render such a data set, to train on:", f"drsl demo --data-only {shlex.quote(root)}"))
        rendered = look_for(RENDERED, os.path.join(root, RENDERED.home))
        usable = {name: there or [rendered] for name, there in usable.items()}
    for toolbox in working:
        steps.append((f"Train with {toolbox.title}:", training_command(toolbox, usable[toolbox.name], cuda)))
    absent = "Add {}, if you want it too:" if working else "Install {}:"
    steps += [(absent.format(each.toolbox.title), each.repair) for each in installations if not each.package]
    return [line for label, command in steps for line in (label, f"  {command}")]


def _list_usable(toolbox: Toolbox, finds: dict[str, list[Found]]) -> list[Found]:
    """List the data sets that are there for a toolbox: where it looks, then where another one does."""
    own = finds[toolbox.name]
    others = [found for name, there in finds.items() if name != toolbox.name for found in there]
    return [found for found in (*own, *others) if found.state == "there" and toolbox.can_read(found)]


def _choose_free_root(root: str) -> str:
    """Choose where the demo set can be rendered, which takes no folder of the set it stands for with something else."""
    names = (RENDERED.folder, *RENDERED.layouts)
    return "demo-data" if any(os.path.lexists(os.path.join(root, name)) for name in names) else root
