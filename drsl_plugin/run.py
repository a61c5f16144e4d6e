"""``drsl run``: a team's own unmodified training script, run with DRSL known to its toolbox."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from pathlib import Path

from drsl_plugin.errors import DRSLError, OneLineParser


def main(argv: Sequence[str]) -> None:
    """Run a script with its own arguments.

    Args:
        argv: the script's path and its arguments.

    Raises:
        DRSLError: no such script, or one that imports no toolbox that DRSL extends.
    """
    parser = OneLineParser(
        prog="drsl run",
        description="Run your own copy of Torchreid's scripts/main.py, unmodified, with loss.name drsl understood.",
        epilog="example: drsl run scripts/main.py --config-file configs/mine.yaml --root reid-data loss.name drsl",
    )
    parser.add_argument("script", type=Path, help="the script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own arguments")
    args = parser.parse_args(argv)
    toolboxes = imported_modules(args.script) & {"torchreid", "fastreid"}
    if toolboxes != {"torchreid"}:
        found = " and ".join(sorted(toolboxes)) or "neither torchreid nor fastreid"
        raise DRSLError(f"drsl run {args.script}: expected a script that imports torchreid, it imports {found}")
    from drsl_plugin.torchreid.script import run_script

    run_script(args.script, args.arguments)


def imported_modules(script: Path) -> set[str]:
    """Return the top-level names of all modules that a script imports, without running it.

    Raises:
        DRSLError: no such file, or no Python.
    """
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise DRSLError(f"drsl run {script}: cannot be read as a Python script ({error})") from error
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names
