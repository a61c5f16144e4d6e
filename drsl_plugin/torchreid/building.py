"""The engine of a run: put together here alone, as a configuration says."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from drsl_plugin.errors import raise_all
from drsl_plugin.losses import DRSLoss, TemperatureSchedule
from drsl_plugin.toolbox.types import ConfigNode, Scheduler
from drsl_plugin.torchreid import processes
from drsl_plugin.torchreid.checkpoints import resume_memory
from drsl_plugin.torchreid.engines import ImageDRSLEngine, VideoDRSLEngine
from drsl_plugin.torchreid.host import torchreid
from drsl_plugin.torchreid.keys import DRSL_KEYS
from drsl_plugin.torchreid.record import RunRecord
from drsl_plugin.torchreid.recording import add_recording
from drsl_plugin.torchreid.training_problems import training_problems
from drsl_plugin.torchreid.types import DataManager


def build_drsl_engine(
    cfg: ConfigNode,
    datamanager: DataManager,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: Scheduler | None,
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
        ConfigError: settings of ``loss.drsl`` that are outside their range, or a sampler, a batch or fixed epochs that
            do not go with DRSL.
    """
    raise_all(training_problems(cfg, processes.count()))
    engine: ImageDRSLEngine = build_engine(cfg, datamanager, model, optimizer, scheduler)
    return engine


def build_engine(
    cfg: ConfigNode,
    datamanager: DataManager,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: Scheduler | None,
    record: RunRecord | None = None,
) -> Any:
    """Put the engine of a run together.

    Args:
        cfg: the configuration, without problems.
        datamanager: as for :func:`build_drsl_engine`, like the next three.
        model: resumed already, where the run goes on from a checkpoint.
        optimizer: likewise.
        scheduler: likewise.
        record: what the run writes down of itself and goes on from; None for an engine that leaves no run folder.

    Returns:
        The engine that ``loss.name`` and ``data.type`` name: ours for drsl, Torchreid's for the others.

    Raises:
        DRSLError: a checkpoint's memory of embeddings has another size.
    """
    kind, arguments = engine_class(cfg), (datamanager, model, optimizer)
    if record is None:
        return kind(*arguments, scheduler=scheduler, **engine_kwargs(cfg))
    engine = add_recording(kind)(*arguments, scheduler=scheduler, record=record, **engine_kwargs(cfg))
    if record.resumed is not None and not cfg.test.evaluate:
        resume_memory(*record.resumed, engine)
    return engine


def engine_class(cfg: ConfigNode) -> type:
    """Return the class that ``loss.name`` and ``data.type`` name."""
    if cfg.loss.name == "drsl":
        return VideoDRSLEngine if cfg.data.type == "video" else ImageDRSLEngine
    kind: type = getattr(torchreid.engine, f"{cfg.data.type.capitalize()}{cfg.loss.name.capitalize()}Engine")
    return kind


def engine_kwargs(cfg: ConfigNode) -> dict[str, Any]:
    """Return the settings of the engine apart from data manager, model, optimizer and scheduler.

    Raises:
        SettingError: a setting of ``loss.drsl`` is outside its range.
    """
    kwargs: dict[str, Any] = {"use_gpu": cfg.use_gpu, "label_smooth": cfg.loss.softmax.label_smooth}
    if cfg.loss.name == "triplet":
        kwargs |= dict(cfg.loss.triplet)
    elif cfg.loss.name == "drsl":
        loss, training = DRSL_KEYS.of_loss(cfg.loss.drsl), DRSL_KEYS.of_training(cfg.loss.drsl)
        kwargs |= {
            "criterion": DRSLoss.from_settings(loss),
            "weight": training.weight,
            "weight_x": training.weight_x,
            "schedule": TemperatureSchedule(loss.temperature, training.temperature_schedule, training.temperature_end),
            "sub_batch": training.sub_batch,
            # What is evaluated alone has no use for training images, however few they are.
            "memory_fill": "stored" if cfg.test.evaluate else training.memory_fill,
        }
    if cfg.data.type == "video":
        kwargs["pooling_method"] = cfg.video.pooling_method  # upstream's main leaves it out for triplet
    return kwargs
