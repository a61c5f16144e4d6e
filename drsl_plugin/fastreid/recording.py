"""The run folder of a FastReID training, beside what FastReID's own writers leave."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from drsl_plugin.fastreid.compat import is_cpu, share_buffers
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.logged_parts import PARTS
from drsl_plugin.fastreid.safekeeping import is_evaluation_owed, kept_while_evaluated
from drsl_plugin.fastreid.telling import Listener, hear_results
from drsl_plugin.fastreid.temperature import TEMPERATURE
from drsl_plugin.fastreid.types import EventStorage, Results, Trainer
from drsl_plugin.runs.failures import explain_failure
from drsl_plugin.runs.folder import RunFolder, environment
from drsl_plugin.toolbox.types import ConfigNode

logger = logging.getLogger("fastreid.drsl")


class RunRecorder(fastreid.engine.train_loop.HookBase):
    """A hook that writes ``environment.json`` and ``metrics.jsonl``; of the main process alone.

    Args:
        folder: the run's folder.
        describe: returns what :func:`~drsl_plugin.runs.folder.environment` does, once the run begins: its seed may be
            a checkpoint's.
    """

    def __init__(self, folder: RunFolder, describe: Callable[[], Mapping[str, Any]]) -> None:
        """Keep both."""
        self._folder = folder
        self._describe = describe

    def before_train(self) -> None:
        """Begin the folder; one of an earlier run loses its metrics, and the name of its last checkpoint."""
        done = self.trainer.start_epoch
        if done == 0 and self._folder.metrics.exists():
            logger.warning(
                f"OUTPUT_DIR {self._folder.path} holds an earlier run: its metrics, features and best model go"
            )
            for name in ("last_checkpoint", "model_best.pth"):
                Path(self._folder.path, name).unlink(missing_ok=True)
        evaluated = not is_evaluation_owed(self.trainer.cfg, done)
        self._folder.start(self.trainer.cfg.dump(), self._describe(), epochs_done=done, evaluated=evaluated)

    def after_step(self) -> None:
        """Write the step's losses, the parts of DRSL and the learning rate."""
        step = self.trainer.iter
        latest = self.trainer.storage.latest()
        now = {name: value for name, (value, at) in latest.items() if at == step}
        row = {name: value for name, value in now.items() if "loss" in name or name in ("cls_accuracy", "lr")}
        row.update({name.removeprefix("drsl_"): now[name] for name in (*PARTS, TEMPERATURE) if name in now})
        self._folder.log(step=step + 1, epoch=self.trainer.epoch + 1, **row)


def name_a_loss_alone(storage: EventStorage) -> None:
    """Put DRSL into the logs under its own name where it is the only loss: FastReID logs nothing but the total then."""
    latest = storage.latest()
    total = latest.get("total_loss")
    if total is not None and not any(name.startswith("loss_drsl") for name in latest if latest[name][1] == total[1]):
        storage.put_scalar("loss_drsl", total[0])


def record_evaluation(folder: RunFolder, targets: Sequence[str], results: Mapping[str, Any], **at: Any) -> None:
    """Write a line for each evaluated target to ``metrics.jsonl``, fractions of 1.

    Args:
        folder: the run's folder.
        targets: ``DATASETS.TESTS``.
        results: what FastReID's ``test`` returns: one target's results, or each target's by its name.
        **at: the step and the epoch, or the weights that an evaluation without a training is of.
    """
    by_target = {targets[0]: results} if len(targets) == 1 else results
    for target, values in by_target.items():
        if "mAP" not in values:
            continue  # of a team's own evaluator
        ranks = {f"rank{k}": float(values[f"Rank-{k}"]) / 100 for k in (1, 5, 10)}
        folder.log(**at, target=target, mAP=float(values["mAP"]) / 100, mINP=float(values["mINP"]) / 100, **ranks)


def write_rows(folder: RunFolder, **at: Any) -> Listener:
    """Return what writes each target's results into a run folder; the arguments are :func:`record_evaluation`'s."""

    def write(target: str, results: Results) -> None:
        record_evaluation(folder, [target], results, **at)

    return write


def record_each(evaluate: Callable[[], Results], trainer: Trainer) -> Callable[[], Results]:
    """Return an evaluation of a training that may fail, and whose results are written down as they come."""

    def evaluate_and_record() -> Results:
        share_buffers(trainer.model)
        folder, targets = RunFolder(trainer.cfg.OUTPUT_DIR), trainer.cfg.DATASETS.TESTS
        at = {"step": trainer.iter, "epoch": trainer.epoch + 1}
        what = f"evaluation of {', '.join(targets)} after epoch {at['epoch']}"
        with kept_while_evaluated(trainer), hear_results(write_rows(folder, **at)) as told:
            way_on = f"--resume goes on from {trainer.checkpointer.get_checkpoint_file()}, and evaluates again"
            with explain_failures(folder, what, way_on):
                results = evaluate()
        if results and not told:  # of a team's own `test`
            record_evaluation(folder, targets, results, **at)
        return results

    return evaluate_and_record


def explain_failures(folder: RunFolder, what: str, way_on: str) -> contextlib.AbstractContextManager[None]:
    """Say in one line how to evaluate again where an evaluation fails; the main process does, for all."""
    is_main: bool = fastreid.utils.comm.is_main_process()
    return explain_failure(folder, what, way_on) if is_main else contextlib.nullcontext()


def describe_run(cfg: ConfigNode, seed: int, argv: Sequence[str] = (), preset: str | None = None) -> dict[str, Any]:
    """Return what ``environment.json`` holds."""
    facts = environment(seed=seed, preset=preset, argv=argv, toolbox=fastreid, cuda=not is_cpu(cfg.MODEL.DEVICE))
    return {**facts, "processes": fastreid.utils.comm.get_world_size()}


class LinePrinter(fastreid.utils.events.CommonMetricPrinter):
    """FastReID's line on the console, with the batch's AP; also of a run of less than three steps.

    Cause: without the time of a step, which it has from the third on, FastReID's divides by the steps since it wrote
    last, and at the end of an epoch it writes twice at one step; all distributions. To see it gone:
    ``test_stock_printer_divides_by_zero``.

    Args:
        max_iter: how many steps the run has.
    """

    logger: Any
    _last_write: Any

    def __init__(self, max_iter: int) -> None:
        """Put the parts into the line."""
        super().__init__(max_iter)
        self.logger = PartsInLine(self.logger, {})

    def write(self) -> None:
        """Write the line."""
        if self._last_write is not None and self._last_write[0] == fastreid.utils.events.get_event_storage().iter:
            self._last_write = None
        super().write()


class PartsInLine(logging.LoggerAdapter):  # type: ignore[type-arg]
    """Adds the batch's AP and the share of positives above all negatives to FastReID's line of losses."""

    def process(self, msg: str, kwargs: MutableMapping[str, Any]) -> tuple[str, MutableMapping[str, Any]]:
        """Put them after the losses."""
        histories = fastreid.utils.events.get_event_storage().histories()
        shown = [name for name in PARTS if name in histories and name.endswith(("_ap", "_above_all"))]
        text = "".join(f"{name}: {histories[name].median(200):.4g}  " for name in shown)
        before, lr, after = msg.rpartition("lr: ")
        return f"{before}{text}{lr}{after}", kwargs
