"""What FastReID's builders look up by name, and what they cannot build here: checked before they are asked."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator

import torch
from torchvision import transforms

from drsl_plugin.errors import SettingError
from drsl_plugin.fastreid.datasets import IDENTITY_SAMPLERS
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.toolbox.rules import Keyed, unknown_name
from drsl_plugin.toolbox.types import ConfigNode

SAMPLERS = ("TrainingSampler", *IDENTITY_SAMPLERS, "ImbalancedDatasetSampler")
# The depths that FastReID's builders of backbones look up, each with the width of the features that it returns.
DEPTHS = {
    "build_resnet_backbone": {"18x": 512, "34x": 512, "50x": 2048, "101x": 2048},
    "build_osnet_backbone": {"x1_0": 512, "x0_75": 384, "x0_5": 256, "x0_25": 128},
}
NORMS = ("BN", "syncBN", "GhostBN", "FrozenBN", "GN")
UNFIT_OPTIMIZERS = ("Optimizer", "LBFGS", "SparseAdam", "Muon")
"""Of ``torch.optim``: the base class, and those that need a closure, sparse gradients, or matrices alone."""


def device_problems(cfg: ConfigNode) -> Iterator[SettingError]:
    """Yield what is wrong with ``MODEL.DEVICE``."""
    device = cfg.MODEL.DEVICE
    try:
        kind = torch.device(device).type
    except RuntimeError:
        yield SettingError("MODEL.DEVICE", device, "unknown; cpu or cuda")
        return
    if kind not in ("cpu", "cuda"):
        yield SettingError("MODEL.DEVICE", device, "FastReID runs on cpu or cuda")
    elif kind == "cuda" and not torch.cuda.is_available():
        yield SettingError("MODEL.DEVICE", device, "torch finds no CUDA device here; set MODEL.DEVICE cpu")
    elif kind == "cpu" and "syncBN" in (cfg.MODEL.BACKBONE.NORM, cfg.MODEL.HEADS.NORM):
        yield SettingError("MODEL.BACKBONE.NORM, MODEL.HEADS.NORM", "syncBN", "torch has it for CUDA alone; set BN")


def unknown_names(cfg: ConfigNode) -> Iterator[SettingError]:
    """Yield the names that FastReID's builders do not know, and a width that is not the backbone's."""
    modeling = fastreid.modeling
    optimizers = [name for name in dir(torch.optim) if name[0].isupper() and name not in UNFIT_OPTIMIZERS]
    backbone, heads = cfg.MODEL.BACKBONE, cfg.MODEL.HEADS
    depths = DEPTHS.get(backbone.NAME, {backbone.DEPTH: backbone.FEAT_DIM})
    for key, value, allowed in (
        ("MODEL.BACKBONE.NAME", backbone.NAME, modeling.backbones.BACKBONE_REGISTRY._obj_map),
        ("MODEL.BACKBONE.DEPTH", backbone.DEPTH, depths),
        ("MODEL.BACKBONE.NORM", backbone.NORM, NORMS),
        ("MODEL.HEADS.NORM", heads.NORM, NORMS),
        ("MODEL.HEADS.POOL_LAYER", heads.POOL_LAYER, fastreid.layers.pooling.__all__),
        ("MODEL.HEADS.CLS_LAYER", heads.CLS_LAYER, fastreid.layers.any_softmax.__all__),
        ("MODEL.HEADS.NAME", heads.NAME, modeling.heads.REID_HEADS_REGISTRY._obj_map),
        ("MODEL.HEADS.NECK_FEAT", heads.NECK_FEAT, ("before", "after")),
        ("DATALOADER.SAMPLER_TRAIN", cfg.DATALOADER.SAMPLER_TRAIN, SAMPLERS),
        ("SOLVER.OPT", cfg.SOLVER.OPT, optimizers),
        ("SOLVER.SCHED", cfg.SOLVER.SCHED, ("MultiStepLR", "CosineAnnealingLR")),
        ("SOLVER.WARMUP_METHOD", cfg.SOLVER.WARMUP_METHOD, ("constant", "linear", "exp")),
        ("TEST.METRIC", cfg.TEST.METRIC, ("cosine", "euclidean")),
    ):
        if key == "SOLVER.OPT" and value == "Lamb" and value not in allowed:
            needs = "FastReID has its code but cannot build it; one of torch's, like Adam, AdamW or SGD"
            yield SettingError(key, value, needs)
        else:
            yield from unknown_name(Keyed(key, value), allowed)
    width = depths.get(backbone.DEPTH, backbone.FEAT_DIM)
    if width != backbone.FEAT_DIM:
        needs = f"{backbone.NAME} {backbone.DEPTH} returns {width}"
        yield SettingError("MODEL.BACKBONE.FEAT_DIM", backbone.FEAT_DIM, needs)


def unsupported_settings(cfg: ConfigNode) -> Iterator[SettingError]:
    """Yield what FastReID has a setting for, and cannot do with what is installed here or at all."""
    if cfg.INPUT.AFFINE.ENABLED and "fillcolor" not in inspect.signature(transforms.RandomAffine).parameters:
        needs = (
            "FastReID gives torchvision's RandomAffine arguments (resample, fillcolor) that it dropped in 0.15; "
            "set it False"
        )
        yield SettingError("INPUT.AFFINE.ENABLED", True, needs)
    if cfg.TEST.RERANK.ENABLED and not (torch.cuda.is_available() and _faiss_has_gpus()):
        needs = "FastReID re-ranks on CUDA with a faiss built for it, which is not here; set it False"
        yield SettingError("TEST.RERANK.ENABLED", True, needs)
    if cfg.DATALOADER.SAMPLER_TRAIN == "SetReWeightSampler":
        needs = (
            "never gives a batch, since it asserts that one is larger than what it draws; NaiveIdentitySampler or "
            "BalancedIdentitySampler"
        )
        yield SettingError("DATALOADER.SAMPLER_TRAIN", "SetReWeightSampler", needs)
    if cfg.MODEL.META_ARCHITECTURE in ("MGN", "DRSLMGN"):
        yield from _low_images(cfg)


def _low_images(cfg: ConfigNode) -> Iterator[SettingError]:
    """Yield the sizes of images that are too low for MGN's branches, which cut the features in three."""
    for key in ("SIZE_TRAIN", "SIZE_TEST"):
        size = list(cfg.INPUT[key])
        height = (size or [0])[0]
        rows = _rows_of_mgn(height)
        if height > 0 and math.ceil(rows / math.ceil(rows / 3)) != 3:
            needs = f"MGN cannot cut {rows} rows of features in three; make it higher"
            yield SettingError(f"INPUT.{key}", size, needs)


def _rows_of_mgn(height: int) -> int:
    """Count the rows of features that MGN's part branches cut: a strided convolution, a pooling, two strided stages."""
    pooled = math.ceil((math.ceil(height / 2) - 3) / 2) + 1
    return max(1, math.ceil(math.ceil(pooled / 2) / 2))


def _faiss_has_gpus() -> bool:
    import faiss

    return bool(faiss.get_num_gpus())
