"""FastReID's own loop on small models in float64, and what its steps put into the logs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import fastreid
import torch
from torch import nn

from drsl_plugin.fastreid import DRSLMGN
from drsl_plugin.fastreid.compat import keep_gradient_buffers
from drsl_plugin.fastreid.config import get_cfg
from drsl_plugin.fastreid.meta_arch import build_model, drsl_arguments
from drsl_plugin.fastreid.trainer import DRSLTrainer

NAME = "MODEL.LOSSES.NAME"
LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 2, 3])
ALL_LOSSES = ("CrossEntropyLoss", "TripletLoss", "CircleLoss", "Cosface", "DRSLoss")


def registered(build: Callable[[Any], nn.Module]) -> Callable[[Any], nn.Module]:
    """Register a backbone, once: pytest imports this file under a name of its own too, looking for examples."""
    fastreid.modeling.backbones.BACKBONE_REGISTRY._obj_map.setdefault(build.__name__, build)
    return build


@registered
def build_group_norm_backbone(cfg: Any) -> nn.Module:
    """A network in which nothing depends on the other samples of the batch."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=4),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.GroupNorm(4, 32),
    )


@registered
def build_batch_norm_backbone(cfg: Any) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=4), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(16, 32, 3, stride=2)
    )


ALONE = {
    "MODEL.BACKBONE.NAME": "build_group_norm_backbone",
    "MODEL.BACKBONE.FEAT_DIM": 32,
    "MODEL.HEADS.WITH_BNNECK": False,
}
TOGETHER = {**ALONE, "MODEL.BACKBONE.NAME": "build_batch_norm_backbone", "MODEL.HEADS.WITH_BNNECK": True}
PLAIN = {"SOLVER.OPT": "SGD", "SOLVER.MOMENTUM": 0.9, "SOLVER.BASE_LR": 0.1}
HEADS: dict[str, dict[str, Any]] = {
    "plain": {},
    "margin": {"MODEL.HEADS.CLS_LAYER": "ArcSoftmax", "MODEL.HEADS.SCALE": 16, "MODEL.HEADS.MARGIN": 0.3},
    "circle, after the neck": {
        "MODEL.HEADS.CLS_LAYER": "CircleSoftmax",
        "MODEL.HEADS.SCALE": 16,
        "MODEL.HEADS.MARGIN": 0.3,
        "MODEL.HEADS.NECK_FEAT": "after",
    },
    "every loss": {NAME: ALL_LOSSES},
    "drsl alone": {NAME: ("DRSLoss",)},
    "euclidean": {"MODEL.LOSSES.DRSL.DISTANCE": "euclidean", "MODEL.LOSSES.DRSL.SCALE": 3.0},
}


def loop_of(build: Callable[[Any], Any] = build_model, **changes: Any) -> Any:
    """FastReID's own loop on a model in float64, as ``DefaultTrainer`` builds it."""
    cfg = get_cfg()
    settings = {
        "MODEL.DEVICE": "cpu",
        "MODEL.BACKBONE.PRETRAIN": False,
        "MODEL.HEADS.NUM_CLASSES": 4,
        NAME: ("CrossEntropyLoss", "DRSLoss"),
        **PLAIN,
        **changes,
    }
    cfg.merge_from_list([word for pair in settings.items() for word in pair])
    torch.manual_seed(0)
    model = build(cfg).double()
    optimizer, wrapper = DRSLTrainer.build_optimizer(cfg, model)
    keep_gradient_buffers(optimizer)
    loop = fastreid.engine.train_loop.SimpleTrainer(model, Endless(), optimizer, wrapper)
    loop.iter = 0
    return loop


class Endless:
    """The same batch again and again, made anew each time: the models normalise its images in place."""

    def __iter__(self) -> Any:
        for _ in itertools.count():
            pictures = torch.rand(8, 3, 64, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            names = [f"{number}.jpg" for number in range(8)]
            yield {"images": pictures * 255, "targets": LABELS.clone(), "camids": LABELS % 2, "img_paths": names}


def taken(step: Callable[[], Any], count: int = 2) -> list[dict[str, Any]]:
    """Take steps, and return what each puts into FastReID's logs, without its times."""
    logs = []
    torch.manual_seed(3)
    for _ in range(count):
        with fastreid.utils.events.EventStorage(0) as storage:
            step()
        logs.append({key: value[0] for key, value in storage.latest().items() if "time" not in key})
    return logs


def small_mgn(cfg: Any) -> DRSLMGN:
    """MGN with branches of a layer or two; its own are three ResNet-50s."""
    parts = fastreid.modeling.meta_arch.Baseline.from_config(cfg)
    parts.pop("heads")
    for number in (1, 2, 3):
        parts[f"neck{number}"] = nn.Sequential(nn.BatchNorm2d(32), nn.Tanh(), nn.Conv2d(32, 32, 1))
    names = ("b1", "b2", "b21", "b22", "b3", "b31", "b32", "b33")
    parts.update({f"{name}_head": fastreid.modeling.heads.build_heads(cfg) for name in names})
    return DRSLMGN(**parts, **drsl_arguments(cfg))
