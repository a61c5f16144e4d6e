"""OpenCV, or an ImportError that says how to get it."""

from __future__ import annotations

try:
    import cv2 as cv2
except ImportError as error:
    raise ImportError(
        'rendering the demo data needs OpenCV; install it with: pip install "drsl-plugin[torchreid]"'
    ) from error
