"""FastReID's architectures with DRSL among their losses; importing this registers them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from drsl_plugin.errors import raise_all
from drsl_plugin.fastreid.config import build_criterion, training_settings
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.keys import DRSL_KEYS
from drsl_plugin.fastreid.logged_parts import log_parts
from drsl_plugin.fastreid.loss_names import DRSL_NAME, architectures, is_own, loss_name_problems
from drsl_plugin.losses import DRSLoss, FeatureLosses, distributed_drsl_loss
from drsl_plugin.toolbox.guarding import guarded_reading
from drsl_plugin.toolbox.pretrained import explained_download, explained_file
from drsl_plugin.toolbox.types import ConfigNode

logger = logging.getLogger("fastreid.drsl")

STAND_INS = {"Baseline": "DRSLBaseline", "MGN": "DRSLMGN"}
MGN_WEIGHT = 0.2
"""Of each of MGN's five features, as FastReID's MGN weighs its triplet losses."""


class DRSLMixin(nn.Module):
    """Adds DRSL to an architecture's losses where ``MODEL.LOSSES.NAME`` holds ``DRSLoss``; has no parameters."""

    @fastreid.config.configurable  # type: ignore[untyped-decorator, unused-ignore]
    def __init__(self, *, drsl: DRSLoss | None = None, drsl_scale: float = 1.0, **kwargs: Any) -> None:
        """Build the architecture, and keep the criterion and its weight; the schedule is the trainer's."""
        super().__init__(**kwargs)
        self.drsl, self.drsl_scale = drsl, drsl_scale
        self.drsl_features = None if drsl is None else FeatureLosses(drsl)

    @classmethod
    def from_config(cls, cfg: ConfigNode) -> dict[str, Any]:
        """Return what the architecture is built of, and DRSL where it is asked for."""
        return {**super().from_config(cfg), **drsl_arguments(cfg)}  # type: ignore[misc]

    def _drsl_losses(self, features: dict[str, Tensor], labels: Tensor, weight: float) -> dict[str, Tensor]:
        """Return the loss of each feature by its name, and put the parts, averaged over the features, into the logs."""
        if self.drsl_features is None:
            return {}
        losses, parts = {}, []
        for number, (name, feature) in enumerate(features.items()):
            with DRSL_KEYS.name_errors():
                loss, of_feature = distributed_drsl_loss(self.drsl_features.of(number), feature, labels)
            losses[name] = loss * (self.drsl_scale * weight)
            parts.append(torch.stack(of_feature))
        log_parts(torch.stack(parts).mean(dim=0))
        return losses


def find_losses(model: nn.Module) -> FeatureLosses | None:
    """Return the DRSL that a model is trained with, or None where it has none, as a team's own may.

    Args:
        model: the model, without its wrapper.
    """
    losses = getattr(model, "drsl_features", None)
    return losses if isinstance(losses, FeatureLosses) else None


@fastreid.modeling.meta_arch.META_ARCH_REGISTRY.register()  # type: ignore[untyped-decorator, unused-ignore]
class DRSLBaseline(DRSLMixin, fastreid.modeling.meta_arch.Baseline):
    """FastReID's ``Baseline`` (BoT, AGW, SBS, OSNet) with ``DRSLoss`` known to it; weights load both ways.

    The loss is ``loss_drsl``, of the features that its triplet loss would see: ``MODEL.HEADS.NECK_FEAT``.
    """

    def losses(self, outputs: dict[str, Tensor], gt_labels: Tensor) -> dict[str, Tensor]:
        """Return the losses that ``MODEL.LOSSES.NAME`` names."""
        losses: dict[str, Tensor] = super().losses(outputs, gt_labels)
        return {**losses, **self._drsl_losses({"loss_drsl": outputs["features"]}, gt_labels, 1.0)}


@fastreid.modeling.meta_arch.META_ARCH_REGISTRY.register()  # type: ignore[untyped-decorator, unused-ignore]
class DRSLMGN(DRSLMixin, fastreid.modeling.meta_arch.MGN):
    """FastReID's ``MGN`` with ``DRSLoss`` known to it; weights load both ways.

    DRSL stands where its triplet loss does: ``loss_drsl_b1``, ``_b2``, ``_b3`` of the global branches and ``_b22``,
    ``_b33`` of the joined parts, each with weight 0.2.
    """

    def losses(self, *args: Any) -> dict[str, Tensor]:
        """Return the losses that ``MODEL.LOSSES.NAME`` names.

        Args:
            *args: the outputs of the heads b1, b2, b21, b22, b3, b31, b32, b33, and the labels.
        """
        losses: dict[str, Tensor] = super().losses(*args)
        b1, b2, b21, b22, b3, b31, b32, b33 = (outputs["features"] for outputs in args[:-1])
        features = {
            "loss_drsl_b1": b1,
            "loss_drsl_b2": b2,
            "loss_drsl_b3": b3,
            "loss_drsl_b22": torch.cat((b21, b22), dim=1),
            "loss_drsl_b33": torch.cat((b31, b32, b33), dim=1),
        }
        return {**losses, **self._drsl_losses(features, args[-1], MGN_WEIGHT)}


def drsl_arguments(cfg: ConfigNode) -> dict[str, Any]:
    """Return what an architecture takes of DRSL: a criterion, or None where ``MODEL.LOSSES.NAME`` does not hold it.

    Raises:
        SettingError: the configuration has no node for it, or a value in it is wrong.
    """
    training = training_settings(cfg)
    return {"drsl": build_criterion(cfg), "drsl_scale": 1.0 if training is None else training.weight}


def build_model(
    cfg: ConfigNode, build: Callable[[ConfigNode], nn.Module] = fastreid.modeling.meta_arch.build_model
) -> nn.Module:
    """Build a model as FastReID does; ``Baseline`` and ``MGN`` are built as ours where DRSL is among the losses.

    Args:
        cfg: the configuration.
        build: FastReID's function.

    Raises:
        DRSLError: a loss that the architecture does not know, pretrained weights that cannot be had, or a file that has
            none of this model.
    """
    raise_all(loss_name_problems(cfg))
    name = cfg.MODEL.META_ARCHITECTURE
    if DRSL_NAME in cfg.MODEL.LOSSES.NAME:
        if name in STAND_INS:
            logger.info(f"DRSLoss among the losses: {name} is built as {STAND_INS[name]}, which has the same weights")
            cfg = cfg.clone()
            cfg.defrost()
            cfg.MODEL.META_ARCHITECTURE = STAND_INS[name]
        elif not is_own(name) and not issubclass(architectures()[name], DRSLMixin):
            logger.warning(f"{name} is trained with DRSLoss only if its own losses() computes it")
    backbone = cfg.MODEL.BACKBONE
    what, path = f"{backbone.NAME} {backbone.DEPTH}", backbone.PRETRAIN_PATH if backbone.PRETRAIN else ""
    with (
        guarded_reading(),
        explained_download("MODEL.BACKBONE.PRETRAIN", what, enabled=backbone.PRETRAIN and not path),
        explained_file("MODEL.BACKBONE.PRETRAIN_PATH", path, what),
    ):
        return build(cfg)
