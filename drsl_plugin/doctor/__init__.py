"""``drsl doctor``: what is installed, what ails it, where data sets are looked for, and what to type next."""

from drsl_plugin.doctor.sections import main
from drsl_plugin.doctor.training import training_commands

__all__ = ["main", "training_commands"]
