"""DRSL in Torchreid: the config node, the engines, ``register()`` and the command's machinery.

Torchreid is imported with the first of these names, and nothing in it changes then; :func:`register` does that,
:func:`unregister` undoes it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drsl_plugin.torchreid.building import build_drsl_engine
    from drsl_plugin.torchreid.config import add_drsl_config, get_default_config
    from drsl_plugin.torchreid.engines import ImageDRSLEngine, VideoDRSLEngine
    from drsl_plugin.torchreid.registration import register, unregister

__all__ = [
    "ImageDRSLEngine",
    "VideoDRSLEngine",
    "add_drsl_config",
    "build_drsl_engine",
    "get_default_config",
    "register",
    "unregister",
]

_HOMES = {
    "ImageDRSLEngine": "engines",
    "VideoDRSLEngine": "engines",
    "add_drsl_config": "config",
    "get_default_config": "config",
    "build_drsl_engine": "building",
    "register": "registration",
    "unregister": "registration",
}


def __getattr__(name: str) -> Any:
    """Import what has a public name when it is asked for.

    Raises:
        ImportError: Torchreid is not installed; names the command that installs it.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
