"""DRSL in FastReID: two meta-architectures, the configuration node, the trainer and the command's machinery.

Importing this package, before anything of FastReID's, makes FastReID importable on today's Python and torch, and
registers ``DRSLBaseline`` and ``DRSLMGN``; nothing that FastReID has is replaced.
"""

from drsl_plugin.fastreid.checkpoints import ExactCheckpointer
from drsl_plugin.fastreid.config import add_drsl_config
from drsl_plugin.fastreid.launch import launch
from drsl_plugin.fastreid.loss_names import register_loss_name
from drsl_plugin.fastreid.meta_arch import DRSLMGN, DRSLBaseline
from drsl_plugin.fastreid.trainer import DRSLTrainer
from drsl_plugin.fastreid.training import check_run

__all__ = [
    "DRSLMGN",
    "DRSLBaseline",
    "DRSLTrainer",
    "ExactCheckpointer",
    "add_drsl_config",
    "check_run",
    "launch",
    "register_loss_name",
]
