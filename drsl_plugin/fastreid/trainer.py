"""FastReID's ``DefaultTrainer``, alive on today's torch and with or without a GPU, and resumed exactly."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drsl_plugin.errors import DRSLError, SettingError, raise_all
from drsl_plugin.fastreid.building import TrainerParts, switch_amp_off_on_cpu
from drsl_plugin.fastreid.checkpoints import ExactCheckpointer
from drsl_plugin.fastreid.compat import (
    FrozenSteps,
    hide_known_errors,
    keep_gradient_buffers,
    wrap_without_cuda,
)
from drsl_plugin.fastreid.datasets import dataset_problems
from drsl_plugin.fastreid.filling import build_filling_hooks
from drsl_plugin.fastreid.going_on import RunSettings, keep_what_is_saved
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.logged_parts import log_parts_with_losses
from drsl_plugin.fastreid.loss_names import DRSL_NAME
from drsl_plugin.fastreid.memory import KEY, Memories, build_waiting_hooks, make_memory
from drsl_plugin.fastreid.problems import config_problems
from drsl_plugin.fastreid.recording import RunRecorder, describe_run, name_a_loss_alone, record_each
from drsl_plugin.fastreid.safekeeping import is_evaluation_owed, make_up_for_evaluation
from drsl_plugin.fastreid.seeding import choose_seed, end_data, seed_process, start_epoch_of_data
from drsl_plugin.fastreid.sub_batches import find_sub_batch, step_in_sub_batches
from drsl_plugin.fastreid.targets import check_targets
from drsl_plugin.fastreid.temperature import build_temperature_hooks
from drsl_plugin.fastreid.types import Results
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.toolbox.going_on import SETTINGS
from drsl_plugin.toolbox.types import ConfigNode

logger = logging.getLogger("fastreid.drsl")


class DRSLTrainer(TrainerParts):
    """Train as FastReID's ``DefaultTrainer`` does, with its data, hooks, evaluators and checkpoints.

    Beyond that it trains on torch 2 and on the CPU, in one process or several; knows ``DRSLoss``; seeds from ``SEED``;
    goes on from a checkpoint as if the run had never stopped; and leaves a run folder.

    Args:
        cfg: a FastReID configuration with :func:`~drsl_plugin.fastreid.add_drsl_config`'s node.
        argv: the command's arguments, for ``environment.json``.
        preset: the name of the preset, likewise.

    Raises:
        DRSLError: a loss that nobody knows, data that cannot fill a batch, weights that cannot be had.

    Example::

        from drsl_plugin.fastreid import DRSLTrainer, add_drsl_config
        from fastreid.config import get_cfg

        cfg = get_cfg()
        add_drsl_config(cfg)
        cfg.merge_from_file("configs/Market1501/bagtricks_R50.yml")
        cfg.MODEL.LOSSES.NAME = ("CrossEntropyLoss", "DRSLoss")
        trainer = DRSLTrainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer.train()
    """

    cfg: Any
    checkpointer: Any
    _periodic: Any = None
    """FastReID's hook that saves checkpoints; a team's own hooks may have none."""
    _owes_evaluation = False

    def __init__(self, cfg: ConfigNode, argv: Sequence[str] = (), preset: str | None = None) -> None:
        """Seed, and build data, model, optimizer, schedulers, checkpointer and hooks."""
        self._check(cfg)
        cfg = switch_amp_off_on_cpu(cfg)
        self._seed = choose_seed(cfg)
        self._argv, self._preset = tuple(argv), preset
        seed_process(self._seed)
        logger.info(f"The seed of this run is {self._seed}")  # FastReID tells of another, which counts for nothing
        if fastreid.utils.comm.is_main_process():
            Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
        with wrap_without_cuda(cfg):
            super().__init__(cfg)
        if self._reads_as_stock("TESTS"):
            check_targets(cfg)
        keep_gradient_buffers(self.optimizer)

    def _check(self, cfg: ConfigNode) -> None:
        """Check the configuration, and the data sets that no trainer of a team's own reads in its own way."""
        errors = list(config_problems(cfg, processes=fastreid.utils.comm.get_world_size()))
        raise_all([*errors, *dataset_problems(cfg, [key for key in ("NAMES", "TESTS") if self._reads_as_stock(key)])])

    def _reads_as_stock(self, key: str) -> bool:
        """Tell whether a key of ``DATASETS`` is read as FastReID does, and in no way of a team's own."""
        name = {"NAMES": "build_train_loader", "TESTS": "build_test_loader"}[key]
        return getattr(type(self), name).__func__ is getattr(DRSLTrainer, name).__func__

    def build_hooks(self) -> list[Any]:
        """Build FastReID's hooks, which save more than its own and write the run folder."""
        model = self.checkpointer.model
        make_memory(self.cfg, model, self._trainer.data_loader)
        memories = Memories(model)
        scaler = {} if self.grad_scaler is None else {"grad_scaler": self.grad_scaler}
        self.checkpointer = ExactCheckpointer(
            self.model,
            self.cfg.OUTPUT_DIR,
            save_to_disk=self.checkpointer.save_to_disk,
            **self.checkpointer.checkpointables,
            frozen_steps=FrozenSteps(self.optimizer),
            drsl_run=self,
            **{SETTINGS: RunSettings(self.cfg, self.iters_per_epoch, own_schedule=self._builds_schedule())},
            **scaler,
            **({KEY: memories} if memories.size else {}),
        )
        hooks: list[Any] = super().build_hooks() + build_temperature_hooks(self.cfg, model)
        hooks += build_waiting_hooks(model)
        hooks += build_filling_hooks(self.cfg, model, self._trainer.data_loader)
        for hook in hooks:
            if isinstance(hook, fastreid.engine.hooks.EvalHook):
                hook._func = record_each(hook._func, self)
            if isinstance(hook, fastreid.engine.hooks.PeriodicCheckpointer):
                self._periodic = hook
        if fastreid.utils.comm.is_main_process():
            hooks.append(RunRecorder(RunFolder(self.cfg.OUTPUT_DIR), self._describe))
        return hooks

    # What a run does

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the last checkpoint in ``OUTPUT_DIR``, or start from ``MODEL.WEIGHTS``, as FastReID does.

        Raises:
            DRSLError: a checkpoint of another model or optimizer, or of a run that is finished.
        """
        super().resume_or_load(resume)
        kept = self.checkpointer.checkpointables.get(SETTINGS)  # a team's own hooks may have none
        if self.start_epoch and kept is not None:
            self.cfg = keep_what_is_saved(self.cfg, self._seed, kept)
        self._owes_evaluation = is_evaluation_owed(self.cfg, self.start_epoch)
        if self.start_epoch > self.max_epoch or (self.start_epoch == self.max_epoch and not self._owes_evaluation):
            needs = (
                f"the run in OUTPUT_DIR {self.cfg.OUTPUT_DIR} has all of its SOLVER.MAX_EPOCH {self.max_epoch} epochs "
                "behind it; a larger one trains on, --eval-only evaluates"
            )
            raise SettingError("--resume", "", needs)

    def train(self) -> Results | None:
        """Train and evaluate.

        Returns:
            The last evaluation; nothing but in the main process.

        Raises:
            DRSLError: a loss that is not finite, names the epoch, the step and the values.
        """
        with hide_known_errors():
            results: Results | None = super().train()
            return results

    def before_train(self) -> None:
        """Begin a training; one that goes on makes up for an evaluation that was due and did not end."""
        super().before_train()
        if self._owes_evaluation:
            make_up_for_evaluation(self, self.start_epoch)

    def before_epoch(self) -> None:
        """Begin an epoch: with random numbers that follow from the seed and the epoch alone."""
        start_epoch_of_data(self._trainer, self._seed, self.epoch)
        super().before_epoch()

    def run_step(self) -> None:
        """Take one training step.

        Raises:
            DRSLError: a loss is not finite; the step is not taken.
        """
        sub_batch = find_sub_batch(self.cfg)
        try:
            with log_parts_with_losses(self._trainer):
                if sub_batch:
                    self._trainer.iter = self.iter
                    step_in_sub_batches(self._trainer, sub_batch)
                else:
                    super().run_step()
            if tuple(self.cfg.MODEL.LOSSES.NAME) == (DRSL_NAME,) and fastreid.utils.comm.is_main_process():
                name_a_loss_alone(self.storage)
        except FloatingPointError as error:
            raise DRSLError(
                f"epoch {self.epoch + 1}, step {self.iter + 1}: {' '.join(str(error).split())}; "
                "a lower SOLVER.BASE_LR, or a checkpoint from before, may help"
            ) from error

    def after_train(self) -> None:
        """End a training; one that an error ended is not evaluated, which FastReID does in the last epoch."""
        if self.iter < self.max_iter:
            for hook in self._hooks:
                if isinstance(hook, fastreid.engine.hooks.EvalHook):
                    hook._period = 1  # then an evaluation is due at the end of an epoch alone
        end_data(self._trainer)
        super().after_train()

    def _builds_schedule(self) -> bool:
        """Tell whether a team's trainer builds its schedule in its own way."""
        stock = fastreid.engine.DefaultTrainer.build_lr_scheduler
        return getattr(type(self).build_lr_scheduler, "__func__", None) is not stock.__func__

    # What its checkpoints hold beyond FastReID's

    def state_dict(self) -> dict[str, Any]:
        """Return the seed and the best metric so far, for checkpoints."""
        best = -1.0
        if self._periodic:
            latest = self.storage.latest().get(self._periodic.metric_name, (best,))[0]
            best = float(max(self._periodic.best_metric, latest))  # FastReID's own is not of the last epoch yet
        return {"seed": self._seed, "best_metric": best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them from a checkpoint."""
        self._seed = state["seed"]
        if self._periodic:
            self._periodic.best_metric = state["best_metric"]

    def _describe(self) -> dict[str, Any]:
        """Return what ``environment.json`` holds."""
        return describe_run(self.cfg, self._seed, self._argv, self._preset)
