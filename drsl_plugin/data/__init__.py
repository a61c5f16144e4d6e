"""Data sets: the published ones, found and downloaded, and rendered ones to try the losses on."""

from drsl_plugin.data.rendered.demo import render_demo
from drsl_plugin.data.rendered.tracklets import render_tracklets

__all__ = ["render_demo", "render_tracklets"]
