"""Whether FastReID's Cython part is built, or can be."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from drsl_plugin.toolbox.modules import find_module


def build_obstacles(fastreid: Path) -> tuple[str, ...]:
    """Name what keeps ``make`` in FastReID's ``evaluation/rank_cylib`` from working, as far as can be seen before.

    Args:
        fastreid: the folder of the package.

    Returns:
        A few words each; none where it is built already.
    """
    folder = fastreid / "evaluation" / "rank_cylib"
    suffix = sysconfig.get_config_var("EXT_SUFFIX") or ".so"
    if (folder / f"rank_cy{suffix}").is_file():
        return ()
    python = shutil.which("python3")  # its Makefile calls this one, whatever runs the training
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    return tuple(
        obstacle
        for obstacle, there in (
            ("no make", shutil.which("make") is None),
            ("no Cython", find_module("Cython") is None),
            ("no distutils", find_module("distutils") is None),  # from Python 3.12 on setuptools has it
            ("no C compiler", shutil.which(compiler) is None),
            (
                "python3 on the PATH is another one",
                python is None or Path(python).parent.resolve() != Path(sys.executable).parent.resolve(),
            ),
            ("its folder cannot be written to", not os.access(folder, os.W_OK)),
        )
        if there
    )
