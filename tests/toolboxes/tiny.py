"""Networks of two layers, known to both toolboxes; in the one nothing depends on the other samples of the batch."""

from __future__ import annotations

import functools
from typing import Any

from hosts import Host
from torch import Tensor, nn

TINY = {
    "torchreid": {
        "model.name": "tiny",
        "data.transforms": [],
        "train.optim": "sgd",
        "train.lr": 0.05,
    },
    "fastreid": {
        "MODEL.BACKBONE.NAME": "build_tiny_backbone",
        "MODEL.BACKBONE.FEAT_DIM": 32,
        "MODEL.HEADS.WITH_BNNECK": False,
        "SOLVER.OPT": "SGD",
        "SOLVER.MOMENTUM": 0.0,
        "SOLVER.WEIGHT_DECAY": 0.0,
        "SOLVER.WEIGHT_DECAY_NORM": 0.0,
        "SOLVER.WEIGHT_DECAY_BIAS": 0.0,
        "SOLVER.BASE_LR": 0.5,
        "SOLVER.WARMUP_ITERS": 0,
    },
}


class Body(nn.Sequential):
    """From images to maps of 32 channels."""

    def __init__(self, batch_norm: bool = False) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 5, stride=4),
            nn.BatchNorm2d(16) if batch_norm else nn.GroupNorm(4, 16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2),
            nn.BatchNorm2d(32) if batch_norm else nn.GroupNorm(4, 32),
        )


class Tiny(nn.Module):
    """The network with logits and features, as Torchreid has its models."""

    def __init__(self, num_classes: int, loss: str, batch_norm: bool = False, **_: Any) -> None:
        super().__init__()
        self.body = Body(batch_norm)
        self.classifier = nn.Linear(32, num_classes)
        self.loss = loss

    def forward(self, images: Tensor) -> Any:
        features = self.body(images).mean(dim=(2, 3))
        if not self.training:
            return features
        return self.classifier(features) if self.loss == "softmax" else (self.classifier(features), features)


def tiny(host: Host, batch_norm: bool = False) -> dict[str, Any]:
    """Make the networks known to a toolbox in this process, and return the settings that train one of them."""
    if host.name == "torchreid":
        from drsl_plugin.torchreid.host import registry, torchreid

        models = registry(torchreid.models, "__model_factory")
        models.update({"tiny": Tiny, "tiny_with_batch_norm": functools.partial(Tiny, batch_norm=True)})
        return TINY["torchreid"] | ({"model.name": "tiny_with_batch_norm"} if batch_norm else {})
    from drsl_plugin.fastreid.host import fastreid

    backbones = fastreid.modeling.backbones.BACKBONE_REGISTRY
    if TINY["fastreid"]["MODEL.BACKBONE.NAME"] not in backbones._obj_map:
        backbones.register(build_tiny_backbone)
    return TINY["fastreid"] | {"MODEL.HEADS.WITH_BNNECK": batch_norm}


def build_tiny_backbone(cfg: Any) -> nn.Module:
    """The network as FastReID has its backbones: with batch norm where the neck after it has it."""
    return Body(batch_norm=cfg.MODEL.HEADS.WITH_BNNECK)
