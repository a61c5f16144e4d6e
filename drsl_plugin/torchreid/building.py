"""The engine that a configuration names, and its settings."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from drsl_plugin.errors import DRSLError
from drsl_plugin.losses import DRSLoss
from drsl_plugin.losses.schedules import SCHEDULE_SETTINGS, check_schedule
from drsl_plugin.losses.two_stage import sub_batch_problem
from drsl_plugin.torchreid import processes
from drsl_plugin.torchreid.engines import ImageDRSLEngine, VideoDRSLEngine, check_weights
from drsl_plugin.torchreid.host import torchreid


def build_drsl_engine(
    cfg: Any, datamanager: Any, model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any
) -> ImageDRSLEngine:
    """Build the engine that a configuration with ``loss.name: drsl`` names.

    Args:
        cfg: a Torchreid configuration with :func:`~drsl_plugin.torchreid.add_drsl_config`'s node.
        datamanager: of the type that ``cfg.data.type`` names.
        model: returns logits and features in training.
        optimizer: the optimizer.
        scheduler: the learning-rate scheduler.

    Returns:
        :class:`ImageDRSLEngine`, or :class:`VideoDRSLEngine` where ``cfg.data.type`` is ``"video"``.

    Raises:
        DRSLError: a setting of ``loss.drsl`` is outside its range, or the sampler, the batch or the fixed epochs do not
            go with DRSL.
    """
    check_training(cfg)
    engine: ImageDRSLEngine = engine_class(cfg)(
        datamanager, model, optimizer, scheduler=scheduler, **engine_kwargs(cfg)
    )
    return engine


def engine_class(cfg: Any) -> Any:
    """Return the class that ``loss.name`` and ``data.type`` name: ours for drsl, Torchreid's for the others."""
    if cfg.loss.name == "drsl":
        return VideoDRSLEngine if cfg.data.type == "video" else ImageDRSLEngine
    return getattr(torchreid.engine, f"{cfg.data.type.capitalize()}{cfg.loss.name.capitalize()}Engine")


def engine_kwargs(cfg: Any) -> dict[str, Any]:
    """Return the settings of the engine, data manager, model, optimizer and scheduler apart.

    Raises:
        DRSLError: a setting of ``loss.drsl`` is outside its range.
    """
    kwargs: dict[str, Any] = {"use_gpu": cfg.use_gpu, "label_smooth": cfg.loss.softmax.label_smooth}
    if cfg.loss.name == "triplet":
        kwargs |= dict(cfg.loss.triplet)
    elif cfg.loss.name == "drsl":
        kwargs |= _checked_drsl(cfg)
    if cfg.data.type == "video":
        kwargs["pooling_method"] = cfg.video.pooling_method  # upstream's main leaves it out for triplet
    return kwargs


def check_training(cfg: Any) -> None:
    """Check the settings of the loss, and, unless the run evaluates only, those that decide whether it can train.

    Raises:
        DRSLError: names the setting, what it got and what would do.
    """
    engine_kwargs(cfg)
    if cfg.test.evaluate:
        return
    _check_batch(cfg)
    if cfg.loss.name == "drsl":
        _check_positives(cfg)
        _check_memory(cfg)
        _check_fixbase(cfg, "loss.drsl.weight_x", cfg.loss.drsl.weight_x)
    elif cfg.loss.name == "triplet":
        if cfg.loss.triplet.weight_t == cfg.loss.triplet.weight_x == 0:
            raise DRSLError("loss.triplet.weight_t 0, loss.triplet.weight_x 0: nothing would be trained; raise one")
        _check_fixbase(cfg, "loss.triplet.weight_x", cfg.loss.triplet.weight_x)


def _checked_drsl(cfg: Any) -> dict[str, Any]:
    node = dict(cfg.loss.drsl)
    weights = {name: node.pop(name) for name in ("weight", "weight_x")}
    sub_batch = node.pop("sub_batch")
    try:
        check_weights(**weights)
        DRSLoss(**{name: value for name, value in node.items() if name not in SCHEDULE_SETTINGS})
        check_schedule(**{name: node[name] for name in SCHEDULE_SETTINGS})
    except ValueError as error:
        raise DRSLError(f"loss.drsl.{error}") from error
    _check_sub_batch(sub_batch, 0 if cfg.test.evaluate else cfg.train.batch_size)
    return {**weights, "sub_batch": sub_batch, **node}


def _check_batch(cfg: Any) -> None:
    batch, instances = cfg.train.batch_size, cfg.sampler.num_instances
    if processes.count() > 1:
        return  # sharing.py checks each process's share
    if cfg.sampler.train_sampler == "RandomIdentitySampler" and batch % instances:
        fitting = max(batch - batch % instances, instances)
        raise DRSLError(
            f"train.batch_size {batch}: no multiple of sampler.num_instances {instances}, so identities would repeat "
            f"in a batch; {fitting} or {fitting + instances} would do"
        )


def _check_memory(cfg: Any) -> None:
    size, batch, made_of = cfg.loss.drsl.memory_size, cfg.train.batch_size, "train.batch_size"
    if cfg.data.type == "video":
        batch, made_of = batch * cfg.video.seq_len, "train.batch_size times video.seq_len"
    if 0 < size < batch:
        raise DRSLError(
            f"loss.drsl.memory_size {size}: smaller than a batch, which has {batch} images ({made_of}); {batch} or "
            "more, or 0 for no memory"
        )


def _check_positives(cfg: Any) -> None:
    # In video the frames of a tracklet are positives of one another, whatever the sampler.
    if cfg.loss.drsl.weight == 0 or (cfg.data.type == "video" and cfg.video.seq_len > 1):
        return
    if cfg.sampler.train_sampler != "RandomIdentitySampler":
        raise DRSLError(
            f"sampler.train_sampler {cfg.sampler.train_sampler}: puts positives in a batch only by "
            "chance, and DRSL ranks positives; use RandomIdentitySampler"
        )
    if cfg.sampler.num_instances < 2:
        raise DRSLError(
            f"sampler.num_instances {cfg.sampler.num_instances}: no image has a positive in its batch, and DRSL ranks "
            "positives; use 4, or any number from 2"
        )


def _check_sub_batch(sub_batch: int, batch: int) -> None:
    problem = sub_batch_problem(sub_batch, batch, f"train.batch_size {batch}", processes.count())
    if problem:
        raise DRSLError(f"loss.drsl.sub_batch {sub_batch}: {problem}")


def _check_fixbase(cfg: Any, key: str, weight: float) -> None:
    if weight == 0 and cfg.train.fixbase_epoch > 0:
        raise DRSLError(
            f"train.fixbase_epoch {cfg.train.fixbase_epoch}: with {key} 0 the classifier gets no gradient, so there is "
            "nothing to train while the base is fixed; use 0"
        )
