"""DRSL in Torchreid: the config node, the engines, ``register()`` and the command's machinery.

Importing this package imports Torchreid and changes nothing in it; :func:`register` does, :func:`unregister` undoes it.
"""

from drsl_plugin.torchreid.building import build_drsl_engine
from drsl_plugin.torchreid.config import add_drsl_config, get_default_config
from drsl_plugin.torchreid.engines import ImageDRSLEngine, VideoDRSLEngine
from drsl_plugin.torchreid.register import register, unregister

__all__ = [
    "ImageDRSLEngine",
    "VideoDRSLEngine",
    "add_drsl_config",
    "build_drsl_engine",
    "get_default_config",
    "register",
    "unregister",
]
