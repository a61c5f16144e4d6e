"""The contract between what knows a toolbox and what does not, and what the toolboxes share."""

from drsl_plugin.toolbox.contract import Keys, RunRequest, Toolbox
from drsl_plugin.toolbox.registry import TOOLBOXES, toolbox, toolboxes

__all__ = ["TOOLBOXES", "Keys", "RunRequest", "Toolbox", "toolbox", "toolboxes"]
