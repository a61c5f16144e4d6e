"""OpenCV, or an error that says how to get it."""

from __future__ import annotations

from drsl_plugin.errors import MissingPackageError

try:
    import cv2 as cv2
except ImportError as error:
    raise MissingPackageError(
        "rendering the demo data needs OpenCV; install it with", 'pip install "drsl-plugin[torchreid]"', "cv2"
    ) from error
