"""The ``drsl`` command: one thin function a sub-command."""

from drsl_plugin.cli import data, doctor, evaluating, listing, tables, training  # noqa: F401  (each adds its commands)
from drsl_plugin.cli.application import app, main

__all__ = ["app", "main"]
