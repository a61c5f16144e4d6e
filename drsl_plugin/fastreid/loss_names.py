"""The names that MODEL.LOSSES.NAME may hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from drsl_plugin.errors import SettingError, nearest
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.toolbox.types import ConfigNode

DRSL_NAME = "DRSLoss"
_BASELINE = ("CrossEntropyLoss", "TripletLoss", "CircleLoss", "Cosface")
# What the `losses` of each of FastReID's own architectures asks for; MGN knows no more than two.
KNOWN: dict[str, tuple[str, ...]] = {
    "Baseline": (*_BASELINE, DRSL_NAME),
    "MGN": ("CrossEntropyLoss", "TripletLoss", DRSL_NAME),
    "DRSLBaseline": (*_BASELINE, DRSL_NAME),
    "DRSLMGN": ("CrossEntropyLoss", "TripletLoss", DRSL_NAME),
    "MoCo": _BASELINE,
    "Distiller": _BASELINE,
}
_registered: set[str] = set()


def register_loss_name(name: str) -> None:
    """Let ``MODEL.LOSSES.NAME`` hold the name of a loss of your own, whatever the architecture.

    FastReID has no registry for losses: its architectures ask for the names that they know, and train without the
    others. Here such a name stops the run, unless it was registered or the architecture is your own.

    Args:
        name: the loss's name.

    Example:
        >>> register_loss_name("MyLoss")
    """
    _registered.add(name)


def loss_name_problems(cfg: ConfigNode) -> Iterator[SettingError]:
    """Yield what is wrong with ``MODEL.LOSSES.NAME``: names that FastReID would train without.

    A team's own architecture, known by its module, is left alone.
    """
    registry = architectures()
    architecture = cfg.MODEL.META_ARCHITECTURE
    if architecture not in registry:
        offered = nearest(architecture, registry) or f"; one of {', '.join(registry)}"
        yield SettingError("MODEL.META_ARCHITECTURE", architecture, f"unknown{offered}")
        return
    if not is_own(architecture):
        return
    names = cfg.MODEL.LOSSES.NAME
    if not names:
        needs = 'nothing would be trained; for example ("CrossEntropyLoss", "DRSLoss")'
        yield SettingError("MODEL.LOSSES.NAME", "()", needs)
    known = [*KNOWN.get(architecture, _BASELINE), *sorted(_registered)]
    for name in names:
        if name not in known:
            yield SettingError("MODEL.LOSSES.NAME", name, _explain_unknown(str(name), architecture, known))


def _explain_unknown(name: str, architecture: str, known: Sequence[str]) -> str:
    if name == DRSL_NAME:
        return f"MODEL.META_ARCHITECTURE {architecture} would train without it; Baseline and MGN train with it"
    same = [each for each in known if each.lower() == name.lower()]
    offered = f"; did you mean {same[0]}?" if same else nearest(name, known)
    return f"unknown to {architecture}, which would train without it{offered} (known: {', '.join(known)})"


def architectures() -> dict[str, type]:
    """Return FastReID's registry of meta-architectures, not a copy."""
    registry: dict[str, type] = fastreid.modeling.meta_arch.META_ARCH_REGISTRY._obj_map
    return registry


def is_own(architecture: str) -> bool:
    """Tell whether an architecture is FastReID's or this package's, and no team's."""
    return architectures()[architecture].__module__.startswith(("fastreid.modeling.", "drsl_plugin."))
