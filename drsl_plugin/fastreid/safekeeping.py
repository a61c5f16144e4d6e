"""What a training has on disk while it is evaluated, and an evaluation that is made up for after it failed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.types import Trainer
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.toolbox.types import ConfigNode

UNEVALUATED = "model_unevaluated"
"""The checkpoint of an epoch that is evaluated but not saved: gone after it, unless the evaluation fails."""


@contextlib.contextmanager
def kept_while_evaluated(trainer: Trainer) -> Iterator[None]:
    """Have a checkpoint to go on from while an epoch is evaluated; all processes call it.

    Cause: FastReID's evaluations come before its checkpoints, so that all since the last one is lost where one fails,
    or memory ends; all distributions. To see it gone: ``test_stock_trainer_evaluates_before_it_saves``.

    Args:
        trainer: what trains.
    """
    checkpointer = trainer.checkpointer
    tag = Path(checkpointer.save_dir or "", "last_checkpoint")
    before = tag.read_text(encoding="utf-8") if tag.is_file() else None
    name = _checkpoint_name(trainer)
    if name:
        checkpointer.save(name, epoch=trainer.epoch)
    yield
    if not (checkpointer.save_dir and checkpointer.save_to_disk):
        return
    unevaluated = f"{UNEVALUATED}.pth"
    if name == UNEVALUATED and before is None:
        tag.unlink()
    elif name == UNEVALUATED and before is not None:
        checkpointer.tag_last_checkpoint(before)
    if not tag.is_file() or tag.read_text(encoding="utf-8") != unevaluated:
        tag.with_name(unevaluated).unlink(missing_ok=True)


def _checkpoint_name(trainer: Trainer) -> str:
    """Name the checkpoint as the one that FastReID writes after the evaluation; nothing where it has written it."""
    is_last, period = trainer.epoch + 1 >= trainer.max_epoch, trainer.cfg.TEST.EVAL_PERIOD
    saves = trainer._periodic
    if saves is None:
        return UNEVALUATED
    if is_last:
        return "" if (trainer.epoch + 1) % period else "model_final"
    return UNEVALUATED if (trainer.epoch + 1) % saves.period else f"model_{trainer.epoch:04d}"


def is_evaluation_owed(cfg: ConfigNode, epochs: int) -> bool:
    """Tell whether a run has an evaluation of its last epoch to make up for: one was due, and did not end.

    Args:
        cfg: the configuration of a run that goes on in its folder.
        epochs: how many it has behind it.
    """
    if epochs < 1 or (epochs % cfg.TEST.EVAL_PERIOD and epochs != cfg.SOLVER.MAX_EPOCH):
        return False
    rows = RunFolder(cfg.OUTPUT_DIR).rows()
    done = {row.get("target") for row in rows if row["epoch"] == epochs}
    return bool(rows) and not done.issuperset(cfg.DATASETS.TESTS)


def make_up_for_evaluation(trainer: Trainer, epochs: int) -> None:
    """Do what was due after an epoch's evaluation; one that is due at the very end is left to the end.

    Args:
        trainer: at the beginning of a run that goes on.
        epochs: how many it has behind it.
    """
    trainer.epoch = trainer.storage.epoch = epochs - 1
    hooks = fastreid.engine.hooks
    for hook in trainer._hooks:
        if isinstance(hook, (hooks.EvalHook, hooks.PeriodicCheckpointer)):
            hook.after_epoch()
