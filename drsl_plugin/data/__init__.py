"""Data to try the losses on: a rendered demo set that both toolboxes read as Market-1501."""

from drsl_plugin.data.rendered.demo import render_demo
from drsl_plugin.data.rendered.tracklets import render_tracklets

__all__ = ["render_demo", "render_tracklets"]
