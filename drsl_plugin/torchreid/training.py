"""One run of Torchreid from a configuration: data, model, optimizer, engine, as upstream's ``scripts/main.py`` does."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from drsl_plugin.errors import SettingError, raise_all
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.toolbox.guarding import guarded_reading
from drsl_plugin.toolbox.types import ConfigNode
from drsl_plugin.torchreid import processes
from drsl_plugin.torchreid.building import build_engine
from drsl_plugin.torchreid.checkpoints import RESUME, resume
from drsl_plugin.torchreid.data import build_datamanager
from drsl_plugin.torchreid.going_on import describe, keep_what_is_saved
from drsl_plugin.torchreid.host import torchreid
from drsl_plugin.torchreid.kwargs import optimizer_kwargs, run_kwargs, scheduler_kwargs
from drsl_plugin.torchreid.log import RunLog
from drsl_plugin.torchreid.model import build_model
from drsl_plugin.torchreid.problems import problems
from drsl_plugin.torchreid.reading import reading_images
from drsl_plugin.torchreid.record import Evaluation, OnStep, describe_run
from drsl_plugin.torchreid.recording import RecordedRun, was_evaluated
from drsl_plugin.torchreid.sharing import parallelize, seed_apart, share_batches
from drsl_plugin.torchreid.types import DataManager


def train(
    cfg: ConfigNode,
    *,
    preset: str | None = None,
    argv: Sequence[str] = (),
    quiet: bool = False,
    on_step: OnStep | None = None,
    wrong: Iterable[SettingError] = (),
) -> dict[str, Evaluation]:
    """Train and evaluate, or evaluate only, as the configuration says; leaves the run folder ``cfg.data.save_dir``.

    Everything is checked and loaded before the first file is written.

    Args:
        cfg: the configuration, merged.
        preset: the name of the preset it came from, for ``environment.json``.
        argv: the command's arguments, for ``environment.json``.
        quiet: print to the run's log only.
        on_step: called after each training step with the epoch, the step in it and the number of steps in it, from 1.
        wrong: what was found wrong in merging the configuration; told with all else that is wrong with it.

    Returns:
        The last evaluation of each target.

    Raises:
        ConfigError: all that is wrong with the configuration.
        DRSLError: data, weights or a checkpoint that do not go with it, or a loss that is not finite.
    """
    raise_all(itertools.chain(wrong, problems(cfg, processes.count())))
    processes.start(cfg.use_gpu)
    torchreid.utils.set_random_seed(cfg.train.seed)
    torch.backends.cudnn.benchmark = bool(cfg.use_gpu)
    with RunLog(echo=not quiet) as log, guarded_reading(), reading_images():
        print(f"Show configuration\n{cfg}\n")
        with processes.let_main_go_first():  # some data sets write a file when they are first read
            datamanager = build_datamanager(cfg)
        share_batches(datamanager)
        engine = _build_run(cfg, datamanager, preset, argv, on_step)
        if not cfg.model.resume and not cfg.test.evaluate and RunFolder(cfg.data.save_dir).metrics.exists():
            print(f"data.save_dir {cfg.data.save_dir} holds an earlier run: its metrics, features and best model go")
        if processes.rank() == 0:
            log.open(Path(cfg.data.save_dir), "test" if cfg.test.evaluate else "train")
        seed_apart()
        engine.run(**run_kwargs(cfg))
        return engine.evaluations


def _build_run(
    cfg: ConfigNode, datamanager: DataManager, preset: str | None, argv: Sequence[str], on_step: OnStep | None
) -> RecordedRun:
    """Build what a run is made of, where it goes on from a checkpoint with the state that it had then."""
    model = build_model(cfg, datamanager.num_train_pids)
    if cfg.use_gpu:
        model = parallelize(model)
    try:
        optimizer = torchreid.optim.build_optimizer(model, **optimizer_kwargs(cfg))
    except ValueError as error:  # of torch, which knows what its optimizers take
        raise SettingError("train.optim", cfg.train.optim, str(error)) from error
    scheduler = torchreid.optim.build_lr_scheduler(optimizer, **scheduler_kwargs(cfg))
    checkpoint = None
    if cfg.model.resume:
        trained = None if cfg.test.evaluate else optimizer
        checkpoint = resume(cfg.model.resume, model, trained, scheduler, describe(cfg))
        keep_what_is_saved(cfg, checkpoint)
        epochs = checkpoint["epoch"]
        left = cfg.train.max_epoch - epochs
        if not cfg.test.evaluate and (left < 0 or (left == 0 and was_evaluated(checkpoint))):
            needs = f"has {epochs} epochs behind it and train.max_epoch is {cfg.train.max_epoch}; a larger one trains "
            needs += "on, test.evaluate True with model.load_weights evaluates"
            raise SettingError(RESUME, cfg.model.resume, needs)
    print(f"Building {cfg.loss.name}-engine for {cfg.data.type}-reid")
    record = describe_run(cfg, argv, preset=preset, checkpoint=checkpoint, on_step=on_step)
    engine: RecordedRun = build_engine(cfg, datamanager, model, optimizer, scheduler, record)
    return engine
