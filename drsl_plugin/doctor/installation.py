"""Whether a toolbox is installed, of which distribution it is, and whether it can be imported."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import re
from pathlib import Path
from typing import NamedTuple

from drsl_plugin.errors import MissingPackageError
from drsl_plugin.toolbox import Toolbox
from drsl_plugin.toolbox.modules import find_module, quiet


class Installation(NamedTuple):
    """A toolbox as it is installed here.

    Attributes:
        toolbox: which one.
        package: its folder; None where it is not installed.
        distribution: which one the package is of.
        cause: why it cannot be used, in one line; empty where it can.
        repair: the command that installs what it lacks, or else one that shows the whole error.
        installs: whether it is the former.
    """

    toolbox: Toolbox
    package: Path | None
    distribution: str
    cause: str = ""
    repair: str = ""
    installs: bool = False

    @property
    def repair_step(self) -> tuple[str, str]:
        """What the repairing command is for, and the command."""
        title = self.toolbox.title
        return f"Repair {title}:" if self.installs else f"See the whole error of {title}:", self.repair


def examine(toolbox: Toolbox) -> Installation:
    """Find a toolbox and import it, which may fail in any way."""
    host = f"drsl_plugin.{toolbox.name}.host"
    cause, repair, installs = "", "", False
    try:
        with quiet():
            importlib.import_module(host)
    except MissingPackageError as error:
        cause, repair, installs = error.reason, error.command, True
    except (Exception, SystemExit) as error:
        cause = f"{toolbox.title} cannot be imported ({type(error).__name__}: {error})"
        repair = f'python -c "import {host}"'
    package = _find_package(toolbox.name)  # after the import, which also looks for a clone in the current folder
    distribution = _describe_distribution(toolbox.name, package) if package else ""
    return Installation(toolbox, package, distribution, " ".join(cause.split()), repair, installs)


def _find_package(name: str) -> Path | None:
    """Find the folder of a package without importing it."""
    spec = find_module(name)
    folders = list(spec.submodule_search_locations or []) if spec else []
    return Path(folders[0]) if folders else None


def _describe_distribution(name: str, package: Path) -> str:
    """Tell which distribution a package is of; its ``__version__`` does not."""
    others = []
    for distribution in importlib.metadata.distributions(name=name):
        try:
            text = _describe_origin(distribution)
            here = os.path.realpath(str(distribution.locate_file(name))) == os.path.realpath(package)
        except Exception:  # damaged metadata
            continue
        if text and here:
            return text
        others += [text] if text else []
    try:
        found = re.search(
            r"^__version__\s*=\s*['\"](.+?)['\"]", (package / "__init__.py").read_text("utf-8"), re.MULTILINE
        )
    except (OSError, ValueError):
        found = None
    version = f"version {found[1]}" if found else "of unknown version"
    return f"a checkout, {version}" + (f" (before {others[0]}, which is installed too)" if others else "")


def _describe_origin(distribution: importlib.metadata.Distribution) -> str:
    """Tell where an installed distribution came from; nothing for one that points to a checkout."""
    label = f"{distribution.metadata['Name']} {distribution.version}"
    direct = json.loads(distribution.read_text("direct_url.json") or "{}")
    if direct.get("dir_info", {}).get("editable"):
        return ""
    if "url" in direct:
        return f"{label} from {direct['url']}"
    installer = (distribution.read_text("INSTALLER") or "").strip()
    return f"{label} from {'conda' if installer == 'conda' else 'PyPI'}" if installer else ""
