"""Settings that would have no effect, or none but an error later: refused by name.

What else has an effect only beside another setting is listed in ``docs/settings.md``.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from drsl_plugin.errors import SettingError
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.toolbox.rules import Keyed, unknown_name
from drsl_plugin.toolbox.types import ConfigNode

PADDINGS = ("constant", "edge", "reflect", "symmetric")
CLIPPINGS = ("norm", "value")


def ineffective_settings(cfg: ConfigNode) -> Iterator[SettingError]:
    """Yield the settings that another one undoes, and names that are looked up once a training is under way."""
    for kind in ("FLIP", "CJ", "AUTOAUG", "AUGMIX", "REA", "RPT"):
        probability = cfg.INPUT[kind].PROB
        if not 0 <= probability <= 1:
            yield SettingError(f"INPUT.{kind}.PROB", probability, "must be a probability, from 0 to 1")
        elif cfg.INPUT[kind].ENABLED and probability == 0 and kind in ("AUTOAUG", "AUGMIX"):  # as FastReID's default is
            needs = f"never happens with INPUT.{kind}.PROB {probability}; give a probability above 0"
            yield SettingError(f"INPUT.{kind}.ENABLED", True, needs)
    if cfg.INPUT.PADDING.ENABLED:
        yield from unknown_name(Keyed("INPUT.PADDING.MODE", cfg.INPUT.PADDING.MODE), PADDINGS)
    clipping = cfg.SOLVER.CLIP_GRADIENTS
    if clipping.ENABLED:
        yield from unknown_name(Keyed("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", clipping.CLIP_TYPE), CLIPPINGS)
    if cfg.TEST.PRECISE_BN.ENABLED:
        known = fastreid.data.datasets.DATASET_REGISTRY._obj_map
        yield from unknown_name(Keyed("TEST.PRECISE_BN.DATASET", cfg.TEST.PRECISE_BN.DATASET), known)
    if min(cfg.MODEL.PIXEL_STD) <= 0:
        yield SettingError("MODEL.PIXEL_STD", cfg.MODEL.PIXEL_STD, "images are divided by it; must be above 0")


def check_frozen_layers(cfg: ConfigNode, model: nn.Module) -> None:
    """Check that the layers are there which are to be frozen; FastReID leaves others out, with a line in its log.

    Raises:
        SettingError: names the layer and those of the model.
    """
    known = [name for name, _ in model.named_children()]
    for layer in cfg.MODEL.FREEZE_LAYERS if cfg.SOLVER.FREEZE_ITERS > 0 else ():
        if layer not in known:
            needs = f"{cfg.MODEL.META_ARCHITECTURE} has no such layer; it has {', '.join(known)}"
            raise SettingError("MODEL.FREEZE_LAYERS", layer, needs)
