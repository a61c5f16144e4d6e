"""What a configuration is checked for before data are read: all that is wrong with it, a line each."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torchvision import transforms

from drsl_plugin.errors import nearest
from drsl_plugin.fastreid.config import leaves
from drsl_plugin.fastreid.datasets import IDENTITY_SAMPLERS
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.loss_names import NAME, loss_name_problems
from drsl_plugin.fastreid.sub_batches import sub_batch_problems
from drsl_plugin.losses import DRSLoss
from drsl_plugin.losses.schedules import SCHEDULE_SETTINGS, check_schedule

SAMPLERS = ("TrainingSampler", *IDENTITY_SAMPLERS, "ImbalancedDatasetSampler")
# What FastReID's builders look up: the depths of a backbone, each with the width of what it returns.
DEPTHS = {
    "build_resnet_backbone": {"18x": 512, "34x": 512, "50x": 2048, "101x": 2048},
    "build_osnet_backbone": {"x1_0": 512, "x0_75": 384, "x0_5": 256, "x0_25": 128},
}
NORMS = ("BN", "syncBN", "GhostBN", "FrozenBN", "GN")
# Of torch's: one needs a closure, one sparse gradients, one matrices.
UNFIT_OPTIMIZERS = ("Optimizer", "LBFGS", "SparseAdam", "Muon")
AT_LEAST = {
    **dict.fromkeys(("SOLVER.MAX_EPOCH", "SOLVER.IMS_PER_BATCH", "SOLVER.CHECKPOINT_PERIOD"), 1),
    **dict.fromkeys(("TEST.EVAL_PERIOD", "TEST.IMS_PER_BATCH", "DATALOADER.NUM_INSTANCE"), 1),
    **dict.fromkeys(("DATALOADER.NUM_WORKERS", "SOLVER.WARMUP_ITERS", "SOLVER.DELAY_EPOCHS"), 0),
    **dict.fromkeys(("SOLVER.FREEZE_ITERS", "SOLVER.BASE_LR", "SOLVER.WEIGHT_DECAY"), 0),
}


def config_problems(cfg: Any, processes: int = 1, *, evaluate_only: bool = False) -> list[str]:
    """Check all that can be checked without data.

    Args:
        cfg: the configuration, merged.
        processes: how many share a batch, on all machines.
        evaluate_only: whether nothing is trained.

    Returns:
        A line for each thing that is wrong: the setting's name, what it got and what would do.
    """
    checks: list[Callable[[Any], Iterator[str]]] = [
        _device,
        _ranges,
        _choices,
        _unsupported,
        _files,
        loss_name_problems,
    ]
    checks.append(lambda cfg: _test_batch(cfg, processes))
    if not evaluate_only:
        checks += [_drsl, lambda cfg: _batch(cfg, processes), lambda cfg: sub_batch_problems(cfg, processes)]
    return [problem for check in checks for problem in check(cfg)]


def _device(cfg: Any) -> Iterator[str]:
    device = cfg.MODEL.DEVICE
    try:
        kind = torch.device(device).type
    except RuntimeError:
        yield f"MODEL.DEVICE {device}: unknown; cpu or cuda"
        return
    if kind not in ("cpu", "cuda"):
        yield f"MODEL.DEVICE {device}: FastReID runs on cpu or cuda"
    elif kind == "cuda" and not torch.cuda.is_available():
        yield f"MODEL.DEVICE {device}: torch finds no CUDA device here; set MODEL.DEVICE cpu"
    elif kind == "cpu" and "syncBN" in (cfg.MODEL.BACKBONE.NORM, cfg.MODEL.HEADS.NORM):
        yield "MODEL.BACKBONE.NORM, MODEL.HEADS.NORM syncBN: torch has it for CUDA alone; set BN"


def _ranges(cfg: Any) -> Iterator[str]:
    for key, value in leaves(cfg):
        least = AT_LEAST.get(key)
        if least is not None and not least <= value < math.inf:
            yield f"{key} {value}: must be {least} or above"
    for key in ("SIZE_TRAIN", "SIZE_TEST"):
        size = list(cfg.INPUT[key])
        if len(size) not in (1, 2) or not all(isinstance(each, int) for each in size):
            yield f"INPUT.{key} {size}: expected height and width, like [256, 128]"


def _choices(cfg: Any) -> Iterator[str]:
    modeling = fastreid.modeling
    optimizers = [name for name in dir(torch.optim) if name[0].isupper() and name not in UNFIT_OPTIMIZERS]
    backbone = cfg.MODEL.BACKBONE
    depths = DEPTHS.get(backbone.NAME, {backbone.DEPTH: backbone.FEAT_DIM})
    for key, value, allowed in (
        ("MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME, modeling.backbones.BACKBONE_REGISTRY._obj_map),
        ("MODEL.BACKBONE.DEPTH", backbone.DEPTH, depths),
        ("MODEL.BACKBONE.NORM", backbone.NORM, NORMS),
        ("MODEL.HEADS.NORM", cfg.MODEL.HEADS.NORM, NORMS),
        ("MODEL.HEADS.POOL_LAYER", cfg.MODEL.HEADS.POOL_LAYER, fastreid.layers.pooling.__all__),
        ("MODEL.HEADS.CLS_LAYER", cfg.MODEL.HEADS.CLS_LAYER, fastreid.layers.any_softmax.__all__),
        ("MODEL.HEADS.NAME", cfg.MODEL.HEADS.NAME, modeling.heads.REID_HEADS_REGISTRY._obj_map),
        ("MODEL.HEADS.NECK_FEAT", cfg.MODEL.HEADS.NECK_FEAT, ("before", "after")),
        ("DATALOADER.SAMPLER_TRAIN", cfg.DATALOADER.SAMPLER_TRAIN, SAMPLERS),
        ("SOLVER.OPT", cfg.SOLVER.OPT, optimizers),
        ("SOLVER.SCHED", cfg.SOLVER.SCHED, ("MultiStepLR", "CosineAnnealingLR")),
        ("SOLVER.WARMUP_METHOD", cfg.SOLVER.WARMUP_METHOD, ("constant", "linear", "exp")),
        ("TEST.METRIC", cfg.TEST.METRIC, ("cosine", "euclidean")),
    ):
        if key == "SOLVER.OPT" and value == "Lamb" and value not in allowed:
            yield "SOLVER.OPT Lamb: FastReID has its code but cannot build it; one of torch's, like Adam, AdamW or SGD"
        elif value not in allowed:
            offered = f"; one of {', '.join(allowed)}" if len(allowed) <= 10 else nearest(value, allowed)
            yield f"{key} {value}: unknown{offered}"
    width = depths.get(backbone.DEPTH, backbone.FEAT_DIM)
    if width != backbone.FEAT_DIM:
        yield f"MODEL.BACKBONE.FEAT_DIM {backbone.FEAT_DIM}: {backbone.NAME} {backbone.DEPTH} returns {width}"


def _unsupported(cfg: Any) -> Iterator[str]:
    if cfg.INPUT.AFFINE.ENABLED and "fillcolor" not in inspect.signature(transforms.RandomAffine).parameters:
        yield (
            "INPUT.AFFINE.ENABLED True: FastReID gives torchvision's RandomAffine arguments (resample, fillcolor) that "
            "it dropped in 0.15; set it False"
        )
    if cfg.TEST.RERANK.ENABLED and not (torch.cuda.is_available() and _faiss_has_gpus()):
        yield (
            "TEST.RERANK.ENABLED True: FastReID re-ranks on CUDA with a faiss built for it, which is not here; set it "
            "False"
        )
    if cfg.DATALOADER.SAMPLER_TRAIN == "SetReWeightSampler":
        yield (
            "DATALOADER.SAMPLER_TRAIN SetReWeightSampler: never gives a batch, since it asserts that one is larger "
            "than what it draws; NaiveIdentitySampler or BalancedIdentitySampler"
        )
    if cfg.MODEL.META_ARCHITECTURE in ("MGN", "DRSLMGN"):
        for key in ("SIZE_TRAIN", "SIZE_TEST"):
            size = list(cfg.INPUT[key])
            height = (size or [0])[0]
            rows = _rows_of_mgn(height)
            if height > 0 and math.ceil(rows / math.ceil(rows / 3)) != 3:
                yield f"INPUT.{key} {size}: MGN cannot cut {rows} rows of features in three; make it higher"


def _rows_of_mgn(height: int) -> int:
    """Count the rows of features that MGN's part branches cut: a strided convolution, a pooling, two strided stages."""
    pooled = math.ceil((math.ceil(height / 2) - 3) / 2) + 1
    return max(1, math.ceil(math.ceil(pooled / 2) / 2))


def _faiss_has_gpus() -> bool:
    import faiss

    return bool(faiss.get_num_gpus())


def _files(cfg: Any) -> Iterator[str]:
    for key, path in (("MODEL.WEIGHTS", cfg.MODEL.WEIGHTS), ("MODEL.BACKBONE.PRETRAIN_PATH", _pretrain_path(cfg))):
        if path and "://" not in path and not Path(path).is_file():
            yield f"{key} {path}: no such file"
    if not cfg.OUTPUT_DIR:
        yield "OUTPUT_DIR '': give the folder of the run, like logs/mine"
    output = Path(cfg.OUTPUT_DIR).absolute()
    there = next(folder for folder in (output, *output.parents) if folder.exists())
    if not there.is_dir():
        yield f"OUTPUT_DIR {cfg.OUTPUT_DIR}: {there} is a file; give a folder, or one yet to be made"
    elif not os.access(there, os.W_OK):
        yield f"OUTPUT_DIR {cfg.OUTPUT_DIR}: {there} cannot be written to; give another folder"


def _pretrain_path(cfg: Any) -> str:
    return str(cfg.MODEL.BACKBONE.PRETRAIN_PATH) if cfg.MODEL.BACKBONE.PRETRAIN else ""


def _drsl(cfg: Any) -> Iterator[str]:
    if NAME not in cfg.MODEL.LOSSES.NAME or "DRSL" not in cfg.MODEL.LOSSES:
        return
    node = {key.lower(): value for key, value in cfg.MODEL.LOSSES.DRSL.items()}
    scale = node.pop("scale")
    node.pop("sub_batch", None)
    if not 0 <= scale < math.inf:
        yield f"MODEL.LOSSES.DRSL.SCALE {scale}: must be a finite number, 0 or above"
    schedule = {name: node.pop(name) for name in SCHEDULE_SETTINGS}
    for check, settings in ((DRSLoss, node), (check_schedule, schedule)):
        try:
            check(**settings)
        except ValueError as error:
            name, _, rest = str(error).partition(" ")
            yield f"MODEL.LOSSES.DRSL.{name.upper()} {rest}"
    if scale == 0:
        return
    if 0 < node["memory_size"] < cfg.SOLVER.IMS_PER_BATCH:
        batch = cfg.SOLVER.IMS_PER_BATCH
        yield (
            f"MODEL.LOSSES.DRSL.MEMORY_SIZE {node['memory_size']}: smaller than a batch of all processes, which has "
            f"SOLVER.IMS_PER_BATCH {batch} images; {batch} or more, or 0 for no memory"
        )
    if cfg.DATALOADER.SAMPLER_TRAIN in ("TrainingSampler", "ImbalancedDatasetSampler"):
        yield (
            f"DATALOADER.SAMPLER_TRAIN {cfg.DATALOADER.SAMPLER_TRAIN}: puts positives in a batch only by chance, and "
            "DRSL ranks positives; NaiveIdentitySampler or BalancedIdentitySampler"
        )
    elif cfg.DATALOADER.NUM_INSTANCE == 1:
        yield (
            f"DATALOADER.NUM_INSTANCE {cfg.DATALOADER.NUM_INSTANCE}: no image has a positive in its batch, and DRSL "
            "ranks positives; use 4, or any number from 2"
        )


def _test_batch(cfg: Any, processes: int) -> Iterator[str]:
    if 1 <= cfg.TEST.IMS_PER_BATCH < processes:
        yield f"TEST.IMS_PER_BATCH {cfg.TEST.IMS_PER_BATCH}: less than one image for each of {processes} processes"


def _batch(cfg: Any, processes: int) -> Iterator[str]:
    batch, instances = cfg.SOLVER.IMS_PER_BATCH, max(cfg.DATALOADER.NUM_INSTANCE, 1)
    if cfg.DATALOADER.SAMPLER_TRAIN not in IDENTITY_SAMPLERS:
        instances = 1
    whole = processes * instances
    if batch % whole:
        fitting = max(batch - batch % whole, whole)
        among = f"{processes} processes of " if processes > 1 else ""
        yield (
            f"SOLVER.IMS_PER_BATCH {batch}: no multiple of {among}DATALOADER.NUM_INSTANCE {instances}, with which "
            f"FastReID's sampler never gives a batch; {fitting} or {fitting + whole} would do"
        )
