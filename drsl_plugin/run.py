"""``drsl run``: a team's own unmodified training script, run with DRSL known to its toolbox."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from pathlib import Path

from drsl_plugin.errors import OneLineParser, SettingError, one_of, raise_all
from drsl_plugin.runs.reading import OPTION, TRUSTING, trusting_files
from drsl_plugin.toolbox import TOOLBOXES, toolbox, toolboxes
from drsl_plugin.toolbox.launching import started_by_torchrun


def main(argv: Sequence[str]) -> None:
    """Run a script with its own arguments.

    Args:
        argv: the script's path and its arguments.

    Raises:
        DRSLError: no such script, or one whose imports do not tell which toolbox it runs.
    """
    scripts = one_of([f"{each.title}'s {each.script}" for each in toolboxes()])
    examples = "\n".join(f"  {each.script_example}" for each in toolboxes())
    parser = OneLineParser(
        prog="drsl run",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"Run your own copy of {scripts}, unmodified,\nwith DRSL among its losses.",
        epilog=f"examples:\n{examples}",
    )
    parser.add_argument("--toolbox", choices=TOOLBOXES, help="the script's toolbox; by default the one that it imports")
    parser.add_argument(OPTION, action="store_true", help=TRUSTING)
    parser.add_argument("script", type=Path, help="the script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own arguments")
    args = parser.parse_args(argv)
    raise_all(started_by_torchrun("drsl run is for one process; each would do all of it"))
    with trusting_files(args.trust_checkpoints):
        toolbox(args.toolbox or _find_toolbox(args.script)).run_script(args.script, args.arguments)


def _find_toolbox(script: Path) -> str:
    """Return the name of the one toolbox that a script imports."""
    found = sorted(imported_modules(script) & set(TOOLBOXES))
    if len(found) != 1:
        what = " and ".join(found) if found else f"neither {' nor '.join(TOOLBOXES)}"
        needs = f"it imports {what}; say which it runs with --toolbox {one_of(TOOLBOXES)}"
        raise SettingError(f"drsl run {script}", "", needs)
    return found[0]


def imported_modules(script: Path) -> set[str]:
    """Return the top-level names of all modules that a script imports, without running it.

    Raises:
        SettingError: no such file, or no Python.
    """
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise SettingError(f"drsl run {script}", "", f"cannot be read as a Python script ({error})") from error
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names
