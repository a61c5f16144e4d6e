"""What a configuration is checked for before anything is built or read: all that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from drsl_plugin.errors import SettingError
from drsl_plugin.fastreid.choices import SAMPLERS, device_problems, unknown_names, unsupported_settings
from drsl_plugin.fastreid.compat import is_cpu_run
from drsl_plugin.fastreid.datasets import IDENTITY_SAMPLERS, dataset_problems
from drsl_plugin.fastreid.ineffective import ineffective_settings
from drsl_plugin.fastreid.keys import DRSL_KEYS
from drsl_plugin.fastreid.loss_names import DRSL_NAME, loss_name_problems
from drsl_plugin.toolbox.merging import leaves
from drsl_plugin.toolbox.rules import (
    Keyed,
    bad_folder,
    bad_sub_batch,
    below_least,
    missing_file,
    multiples,
    no_positives,
    small_budget,
    small_memory,
    unfit_backend,
)
from drsl_plugin.toolbox.types import ConfigNode

# The least that a setting may be, by its key.
AT_LEAST = {
    **dict.fromkeys(("SOLVER.MAX_EPOCH", "SOLVER.IMS_PER_BATCH", "SOLVER.CHECKPOINT_PERIOD"), 1),
    **dict.fromkeys(("TEST.EVAL_PERIOD", "TEST.IMS_PER_BATCH", "DATALOADER.NUM_INSTANCE"), 1),
    **dict.fromkeys(("DATALOADER.NUM_WORKERS", "SOLVER.WARMUP_ITERS", "SOLVER.DELAY_EPOCHS"), 0),
    **dict.fromkeys(("SOLVER.FREEZE_ITERS", "SOLVER.BASE_LR", "SOLVER.WEIGHT_DECAY", "SOLVER.GAMMA"), 0),
    **dict.fromkeys(("SOLVER.MOMENTUM", "SOLVER.WARMUP_FACTOR", "SOLVER.BIAS_LR_FACTOR", "SOLVER.HEADS_LR_FACTOR"), 0),
    **dict.fromkeys(("SOLVER.WEIGHT_DECAY_NORM", "SOLVER.WEIGHT_DECAY_BIAS", "SOLVER.ETA_MIN_LR"), 0),
    **dict.fromkeys(("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "TEST.AQE.QE_TIME", "TEST.AQE.QE_K"), 0),
}


def problems(
    cfg: ConfigNode, processes: int = 1, *, resume: bool = False, evaluate_only: bool = False
) -> Iterator[SettingError]:
    """Yield all that is wrong with a run.

    Args:
        cfg: the configuration, merged.
        processes: how many share a batch, on all machines.
        resume: whether it goes on from a checkpoint.
        evaluate_only: whether nothing is trained.
    """
    yield from config_problems(cfg, processes, evaluate_only=evaluate_only)
    yield from dataset_problems(cfg, ("TESTS",) if evaluate_only else ("NAMES", "TESTS"))
    yield from _folder_problems(cfg, resume=resume, evaluate_only=evaluate_only)


def config_problems(cfg: ConfigNode, processes: int = 1, *, evaluate_only: bool = False) -> Iterator[SettingError]:
    """Yield what can be seen without the data sets: a script may read its own, in its own way.

    Args:
        cfg: as in :func:`problems`, like the others.
        processes: how many share a batch.
        evaluate_only: whether nothing is trained.
    """
    yield from device_problems(cfg)
    yield from _ranges(cfg)
    yield from unknown_names(cfg)
    yield from unsupported_settings(cfg)
    yield from ineffective_settings(cfg)
    yield from _files(cfg)
    yield from loss_name_problems(cfg)
    if 1 <= cfg.TEST.IMS_PER_BATCH < processes:
        needs = f"less than one image for each of {processes} processes"
        yield SettingError("TEST.IMS_PER_BATCH", cfg.TEST.IMS_PER_BATCH, needs)
    if not evaluate_only:
        yield from _drsl_problems(cfg)
        yield from _batch_problems(cfg, processes)
        yield from _sub_batch_problems(cfg, processes)


def _ranges(cfg: ConfigNode) -> Iterator[SettingError]:
    yield from below_least(dict(leaves(cfg)), AT_LEAST)
    for key in ("SIZE_TRAIN", "SIZE_TEST"):
        size = list(cfg.INPUT[key])
        if len(size) not in (1, 2) or not all(isinstance(each, int) for each in size):
            yield SettingError(f"INPUT.{key}", size, "expected height and width, like [256, 128]")


def _files(cfg: ConfigNode) -> Iterator[SettingError]:
    backbone = cfg.MODEL.BACKBONE
    yield from missing_file(Keyed("MODEL.WEIGHTS", cfg.MODEL.WEIGHTS), home=False)
    if backbone.PRETRAIN:
        yield from missing_file(Keyed("MODEL.BACKBONE.PRETRAIN_PATH", backbone.PRETRAIN_PATH), home=False)
    if not cfg.OUTPUT_DIR:
        yield SettingError("OUTPUT_DIR", "''", "give the folder of the run, like logs/mine")
    yield from bad_folder(Keyed("OUTPUT_DIR", cfg.OUTPUT_DIR))


def _drsl_problems(cfg: ConfigNode) -> Iterator[SettingError]:
    if DRSL_NAME not in cfg.MODEL.LOSSES.NAME or "DRSL" not in cfg.MODEL.LOSSES:
        return
    node = cfg.MODEL.LOSSES.DRSL
    values = {key: value for key, value in node.items() if key != "SUB_BATCH"}  # which is told with the batch
    wrong = list(DRSL_KEYS.problems(values))
    for error in wrong:  # SCALE, as FastReID has it with each of its losses, is told like FastReID's own settings
        is_scale = error.setting == DRSL_KEYS.dotted("weight")
        yield SettingError(error.setting, error.got, f"must be {error.needs}") if is_scale else error
    backend = Keyed(DRSL_KEYS.dotted("backend"), node.get("BACKEND"))
    yield from unfit_backend(backend, not is_cpu_run(cfg))
    if node.SCALE == 0:
        return
    batch, sampler = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.SAMPLER_TRAIN
    made_of = f"a batch of all processes, which has SOLVER.IMS_PER_BATCH {batch} images"
    yield from small_memory(Keyed(DRSL_KEYS.dotted("memory_size"), node.MEMORY_SIZE), batch, made_of)
    instances = cfg.DATALOADER.NUM_INSTANCE
    if not wrong and min(batch, instances) >= 1:
        budget = Keyed(DRSL_KEYS.dotted("chunk_budget"), node.get("CHUNK_BUDGET", 0))
        yield from small_budget(budget, DRSL_KEYS.of_loss(values), batch, instances)
    if sampler in SAMPLERS and (instances >= 1 or sampler not in IDENTITY_SAMPLERS):  # else that is told already
        yield from no_positives(
            Keyed("DATALOADER.SAMPLER_TRAIN", sampler),
            Keyed("DATALOADER.NUM_INSTANCE", instances),
            IDENTITY_SAMPLERS,
            "NaiveIdentitySampler or BalancedIdentitySampler",
        )


def _batch_problems(cfg: ConfigNode, processes: int) -> Iterator[SettingError]:
    batch, instances = cfg.SOLVER.IMS_PER_BATCH, max(cfg.DATALOADER.NUM_INSTANCE, 1)
    if cfg.DATALOADER.SAMPLER_TRAIN not in IDENTITY_SAMPLERS:
        instances = 1
    whole = processes * instances
    if batch % whole:
        among = f"{processes} processes of " if processes > 1 else ""
        needs = (
            f"no multiple of {among}DATALOADER.NUM_INSTANCE {instances}, with which FastReID's sampler never gives a "
            f"batch; {multiples(batch, whole)} would do"
        )
        yield SettingError("SOLVER.IMS_PER_BATCH", batch, needs)


def _sub_batch_problems(cfg: ConfigNode, processes: int) -> Iterator[SettingError]:
    losses, batch = cfg.MODEL.LOSSES, cfg.SOLVER.IMS_PER_BATCH
    sub_batch = losses.DRSL.get("SUB_BATCH", 0) if DRSL_NAME in losses.NAME and "DRSL" in losses else 0
    setting = Keyed(DRSL_KEYS.dotted("sub_batch"), sub_batch)
    yield from bad_sub_batch(setting, max(batch, 0), f"SOLVER.IMS_PER_BATCH {batch}", processes, "images")


def _folder_problems(cfg: ConfigNode, *, resume: bool, evaluate_only: bool) -> Iterator[SettingError]:
    tag = Path(cfg.OUTPUT_DIR, "last_checkpoint")
    last = tag.read_text(encoding="utf-8").strip() if resume and tag.is_file() else None
    if resume and evaluate_only:
        needs = "an evaluation is of MODEL.WEIGHTS and resumes nothing; leave one out"
        yield SettingError("--resume --eval-only", "", needs)
    elif resume and last is None:
        needs = (
            f"OUTPUT_DIR {cfg.OUTPUT_DIR} has no checkpoint to go on from; leave --resume out, or name the folder of "
            "the run (SOLVER.CHECKPOINT_PERIOD says how many epochs lie between two)"
        )
        yield SettingError("--resume", "", needs)
    elif last is not None and not Path(cfg.OUTPUT_DIR, last).is_file():
        yield SettingError("--resume", "", f"{tag} names {last}, which is not there")
    if evaluate_only and not cfg.MODEL.WEIGHTS:
        yield SettingError("--eval-only", "", "of random weights; name a checkpoint with MODEL.WEIGHTS")
