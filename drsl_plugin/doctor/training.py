"""The commands that train on a data set that is there."""

from __future__ import annotations

from collections.abc import Iterable

from drsl_plugin.data.looking import Found, look_for
from drsl_plugin.data.published_set import PublishedSet
from drsl_plugin.presets import preset_names
from drsl_plugin.toolbox import Toolbox, toolboxes
from drsl_plugin.toolbox.troubles import this_stack


def training_commands(data_set: PublishedSet, root: str) -> dict[str, str]:
    """Put together each toolbox's training command on a data set that lies below a root for all of them.

    Args:
        data_set: which one.
        root: the folder that serves all.

    Returns:
        The commands by the toolboxes' titles.
    """
    cuda = this_stack().cuda
    return {
        toolbox.title: training_command(toolbox, [look_for(data_set, toolbox.data_holder(root, data_set))], cuda)
        for toolbox in toolboxes()
    }


def training_command(toolbox: Toolbox, finds: Iterable[Found], cuda: bool) -> str:
    """Put the command together that trains with a toolbox on the first data set that it has a preset for.

    Args:
        toolbox: which one.
        finds: data sets that it can read.
        cuda: whether there is a GPU.

    Returns:
        The command; one that lists the presets where there is none for these data sets.
    """
    known = preset_names(toolbox.name)
    for found in finds:
        preset = toolbox.first_preset(found.data_set)
        if preset in known:
            return toolbox.training_command(preset, found, cuda)
    return "drsl presets"
