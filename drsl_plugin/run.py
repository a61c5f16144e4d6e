"""``drsl run``: a team's own unmodified training script, run with DRSL known to its toolbox."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from pathlib import Path

from drsl_plugin.errors import DRSLError, OneLineParser

TOOLBOXES = ("torchreid", "fastreid")


def main(argv: Sequence[str]) -> None:
    """Run a script with its own arguments.

    Args:
        argv: the script's path and its arguments.

    Raises:
        DRSLError: no such script, or one whose imports do not tell which toolbox it runs.
    """
    parser = OneLineParser(
        prog="drsl run",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run your own copy of Torchreid's scripts/main.py or FastReID's tools/train_net.py, unmodified,\n"
        "with DRSL among its losses.",
        epilog="examples:\n  drsl run scripts/main.py --config-file configs/mine.yaml --root reid-data loss.name drsl\n"
        "  drsl run tools/train_net.py --config-file configs/mine.yml MODEL.LOSSES.NAME "
        '\'("CrossEntropyLoss","DRSLoss")\'',
    )
    parser.add_argument("--toolbox", choices=TOOLBOXES, help="the script's toolbox; by default the one that it imports")
    parser.add_argument("script", type=Path, help="the script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own arguments")
    args = parser.parse_args(argv)
    toolbox = args.toolbox or _imported_toolbox(args.script)
    if toolbox == "torchreid":
        from drsl_plugin.torchreid.script import run_script as run_torchreid_script

        run_torchreid_script(args.script, args.arguments)
    else:
        from drsl_plugin.fastreid.script import run_script as run_fastreid_script

        run_fastreid_script(args.script, args.arguments)


def _imported_toolbox(script: Path) -> str:
    found = sorted(imported_modules(script) & set(TOOLBOXES))
    if len(found) != 1:
        what = " and ".join(found) if found else "neither torchreid nor fastreid"
        raise DRSLError(f"drsl run {script}: it imports {what}; say which it runs with --toolbox torchreid or fastreid")
    return found[0]


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
