"""The report of ``drsl doctor``, a section at a time."""

from __future__ import annotations

import functools
import os
import sys
import textwrap
from collections.abc import Callable

from drsl_plugin.data.catalogue import PUBLISHED
from drsl_plugin.data.looking import Found, look_for
from drsl_plugin.doctor.installation import Installation, examine
from drsl_plugin.doctor.machine import describe_machine
from drsl_plugin.doctor.next_steps import next_steps
from drsl_plugin.doctor.wrapping import wrap
from drsl_plugin.toolbox import Toolbox, toolboxes
from drsl_plugin.toolbox.troubles import this_stack


def main(root: str) -> int:
    """Print what there is and what to type next; nothing on disk is changed.

    Args:
        root: the folder of data sets, for the toolboxes whose commands take one.

    Returns:
        The exit code: 0, or 1 where no toolbox is installed, or one that is cannot be imported.
    """
    root = os.path.expanduser(root)
    installations = [examine(toolbox) for toolbox in toolboxes()]
    installed = [each for each in installations if each.package]
    working = [each for each in installed if not each.cause]
    finds = {toolbox.name: look_for_data(toolbox, toolbox.data_root(root)) for toolbox in toolboxes()}
    _print_section("This machine", describe_machine)
    for each in installations:
        _print_section(each.toolbox.title, functools.partial(describe_toolbox, each))
    _print_section("Data sets", lambda: describe_data(finds))
    _print_section("What to type next", lambda: next_steps(installations, finds, root, this_stack().cuda))
    return 0 if working and working == installed else 1


def describe_toolbox(installation: Installation) -> list[str]:
    """Tell what a toolbox is, where it is, and what ails it."""
    toolbox, package = installation.toolbox, installation.package
    repair = f"  {installation.repair}"
    if not package:
        return [wrap("", f"{installation.cause}:"), repair]
    lines = [installation.distribution, f"in {package}"]
    if installation.cause:
        return [*lines, wrap("cannot be used: ", f"{installation.cause}:"), repair]
    command = f"drsl {toolbox.name} and drsl run"
    lines.append(f"Known troubles on this stack; handled, or refused in one line, by {command}:")
    for trouble in toolbox.troubles(package):
        number = f"{trouble.number:<5}" if trouble.number else ""
        lines.append(wrap(f"  {trouble.plugin}  {number}", trouble.what))
    return lines


def look_for_data(toolbox: Toolbox, root: str) -> list[Found]:
    """Look for the published data sets as a toolbox does.

    Args:
        toolbox: which one.
        root: its folder of data sets.
    """
    return [look_for(data_set, toolbox.data_holder(root, data_set)) for data_set in PUBLISHED.values()]


def describe_data(finds: dict[str, list[Found]]) -> list[str]:
    """Tell where each toolbox looks for its data sets and which are there.

    Args:
        finds: by the toolbox's name.
    """
    lines = []
    for toolbox in toolboxes():
        lines.append(f"{toolbox.title}, below {toolbox.describe_data_root()}:")
        for found in finds[toolbox.name]:
            lines.append(f"  {found.data_set.title:<13}{found.state:<12}{found.folder}")
            if found.state == "incomplete":
                lines.append(wrap(f"{'':27}", f"lacks {', '.join(found.missing)}"))
    return lines


def _print_section(heading: str, describe: Callable[[], list[str]]) -> None:
    """Print a part of the report; one that fails must not keep the others from being read."""
    try:
        text = "\n".join(describe())
    except Exception as error:
        text = f"could not be found out ({type(error).__name__}: {' '.join(str(error).split())})"
    whole = f"{heading}\n{textwrap.indent(text, '  ')}\n"
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(whole.encode(encoding, "backslashreplace").decode(encoding))
