"""A network in which nothing depends on the other samples of the batch, known to both toolboxes."""

from __future__ import annotations

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
        "MODEL.BACKBONE.NAME": "build_tiny_backbone_of_both",
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

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 5, stride=4),
            nn.GroupNorm(4, 16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2),
            nn.GroupNorm(4, 32),
        )


class Tiny(nn.Module):
    """The network with logits and features, as Torchreid has its models."""

    def __init__(self, num_classes: int, loss: str, **_: Any) -> None:
        super().__init__()
        self.body = Body()
        self.classifier = nn.Linear(32, num_classes)
        self.loss = loss

    def forward(self, images: Tensor) -> Any:
        features = self.body(images).mean(dim=(2, 3))
        if not self.training:
            return features
        return self.classifier(features) if self.loss == "softmax" else (self.classifier(features), features)


def tiny(host: Host) -> dict[str, Any]:
    """Make the network known to a toolbox in this process, and return the settings that train it."""
    if host.name == "torchreid":
        from drsl_plugin.torchreid.host import registry, torchreid

        registry(torchreid.models, "__model_factory")["tiny"] = Tiny
    else:
        from drsl_plugin.fastreid.host import fastreid

        backbones = fastreid.modeling.backbones.BACKBONE_REGISTRY
        if backbones._obj_map.get("build_tiny_backbone_of_both") is None:
            backbones.register(build_tiny_backbone_of_both)
    return TINY[host.name]


def build_tiny_backbone_of_both(cfg: Any) -> nn.Module:
    return Body()
