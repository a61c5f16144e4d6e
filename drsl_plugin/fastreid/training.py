"""One run of FastReID from a configuration, as its ``tools/train_net.py`` does it."""

from __future__ import annotations

import argparse
import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from drsl_plugin.errors import DRSLError, raise_all
from drsl_plugin.fastreid.checkpoints import ExactCheckpointer
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.keys import SKIP
from drsl_plugin.fastreid.problems import problems
from drsl_plugin.fastreid.recording import describe_run, explain_failures, write_rows
from drsl_plugin.fastreid.seeding import choose_seed, seed_process
from drsl_plugin.fastreid.targets import check_targets
from drsl_plugin.fastreid.telling import hear_results
from drsl_plugin.fastreid.trainer import DRSLTrainer
from drsl_plugin.fastreid.types import Results
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.toolbox.guarding import guarded_reading
from drsl_plugin.toolbox.readers import naming_the_key
from drsl_plugin.toolbox.types import ConfigNode


class Job(NamedTuple):
    """What every process of a run needs to know."""

    cfg: ConfigNode
    """The configuration, merged and checked."""
    args: argparse.Namespace
    """The parsed arguments: ``resume``, ``eval_only``, ``config_file``, perhaps ``trust_checkpoints``."""
    argv: tuple[str, ...]
    """The arguments as they were given, for ``environment.json``."""
    preset: str | None
    """The name of the preset, likewise."""


def run_job(job: Job) -> Results | None:
    """Train and evaluate, or evaluate only; leaves the run folder ``OUTPUT_DIR``.

    Returns:
        The last evaluation, in the main process.

    Raises:
        DRSLError: data, weights or a checkpoint that do not go with the configuration, or a loss that is not finite.
    """
    cfg = job.cfg
    trust = getattr(job.args, "trust_checkpoints", False)
    with _take_log_handlers_off(), silence_old_warnings(), naming_the_key(SKIP), guarded_reading(trust):
        fastreid.engine.default_setup(cfg, job.args)
        if job.args.eval_only:
            return evaluate(job)
        trainer = DRSLTrainer(cfg, job.argv, job.preset)
        trainer.resume_or_load(resume=job.args.resume)
        try:
            return trainer.train()
        except KeyboardInterrupt:
            saved = trainer.checkpointer
            last = f"; --resume goes on from {saved.get_checkpoint_file()}" if saved.has_checkpoint() else ""
            raise KeyboardInterrupt(last or "; no checkpoint yet") from None


def evaluate(job: Job) -> Results:
    """Evaluate ``MODEL.WEIGHTS``, and write the results down in the run folder, beside what is there.

    Returns:
        The evaluation, in the main process.

    Raises:
        SettingError: weights of another model, no such data set, or no query with a match.
    """
    cfg = job.cfg.clone()
    cfg.MODEL.BACKBONE.PRETRAIN = False
    check_targets(cfg)
    seed = choose_seed(cfg)
    seed_process(seed)
    model = DRSLTrainer.build_model(cfg)
    ExactCheckpointer(model).load_for_evaluation(cfg.MODEL.WEIGHTS)
    folder = RunFolder(cfg.OUTPUT_DIR)
    if fastreid.utils.comm.is_main_process() and not folder.metrics.exists():  # beside a training, leave its files
        folder.start(cfg.dump(), describe_run(cfg, seed, job.argv, job.preset), epochs_done=0)
    failing = explain_failures(
        folder, f"evaluation of {', '.join(cfg.DATASETS.TESTS)}", "the same command does it again"
    )
    with failing, hear_results(write_rows(folder, step=None, epoch=None, weights=cfg.MODEL.WEIGHTS)):
        found: Results = DRSLTrainer.test(cfg, model)
    return found


def check_run(cfg: ConfigNode, args: argparse.Namespace, processes: int = 1) -> None:
    """Check all that can be checked before data are read.

    Args:
        cfg: the configuration, merged.
        args: the parsed arguments: ``resume`` and ``eval_only``.
        processes: how many share a batch, on all machines.

    Raises:
        ConfigError: an error for each setting: its name, what it got and what would do.
    """
    raise_all(problems(cfg, processes, resume=args.resume, evaluate_only=args.eval_only))


@contextlib.contextmanager
def leave_folder_unharmed(path: str, *, keep_config: bool) -> Iterator[None]:
    """Leave a folder as it was where a run fails before its training begins.

    FastReID's ``default_setup`` and its writers write into it before anything is built or checked.

    Args:
        path: ``OUTPUT_DIR``.
        keep_config: put its ``config.yaml`` back in any case, as an evaluation beside a training should.
    """
    folder, config, metrics = Path(path), Path(path, "config.yaml"), Path(path, "metrics.jsonl")
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    before, text, began = set(_list_early_files(folder)), _read(config), _read(metrics)
    try:
        yield
    except DRSLError:
        if _read(metrics) == began:
            for file in set(_list_early_files(folder)) - before:
                file.unlink(missing_ok=True)
            keep_config = True
            with contextlib.suppress(OSError):  # something else is in it by now
                for each in missing:
                    each.rmdir()
        raise
    finally:
        if keep_config and text is not None:
            config.write_bytes(text)


def _list_early_files(folder: Path) -> list[Path]:
    """List what FastReID writes before a training begins."""
    patterns = ("config.yaml", "log.txt*", "metrics.json", "events.out.tfevents.*")
    return [file for pattern in patterns for file in folder.glob(pattern)]


def _read(file: Path) -> bytes | None:
    """Return what is in a file, or None where there is none."""
    return file.read_bytes() if file.is_file() else None


@contextlib.contextmanager
def _take_log_handlers_off() -> Iterator[None]:
    """Take FastReID's log handlers off at the end: it keeps one for every run of a process."""
    logger = logging.getLogger("fastreid")
    before = logger.handlers[:]
    try:
        yield
    finally:
        for handler in set(logger.handlers) - set(before):
            logger.removeHandler(handler)
            handler.close()
        fastreid.utils.logger.setup_logger.cache_clear()
        fastreid.utils.logger._cached_log_stream.cache_clear()


@contextlib.contextmanager
def silence_old_warnings() -> Iterator[None]:
    """Keep warnings of the toolbox's age off the console that tell a user nothing to do."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TypedStorage is deprecated")
        warnings.filterwarnings("ignore", message="Cython rank evaluation")
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
        warnings.filterwarnings("ignore", message="This overload of addmm_ is deprecated")
        warnings.filterwarnings("ignore", category=FutureWarning, module="fastreid")
        yield
