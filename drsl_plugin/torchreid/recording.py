"""An engine that leaves a run folder: a checkpoint each epoch, the best kept, metrics and features on disk."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drsl_plugin.evaluation import evaluate_ranking
from drsl_plugin.runs.failures import explain_failure
from drsl_plugin.toolbox.going_on import SETTINGS
from drsl_plugin.toolbox.readers import naming_the_key
from drsl_plugin.toolbox.streams import find_patch_pools
from drsl_plugin.torchreid import processes
from drsl_plugin.torchreid.checkpoints import BEST, RESUME, save_engine
from drsl_plugin.torchreid.epoch_line import EpochLine
from drsl_plugin.torchreid.generators import preserve_generators
from drsl_plugin.torchreid.host import torchreid
from drsl_plugin.torchreid.keys import SKIP
from drsl_plugin.torchreid.ranking import listen_to_ranking
from drsl_plugin.torchreid.record import Evaluation, RunRecord
from drsl_plugin.torchreid.sharing import SharedRun, gather_generators, resume_generators
from drsl_plugin.torchreid.step_checks import check_finite


class RecordedRun(SharedRun):
    """Mixed in before an engine's class by :func:`add_recording`: trains and evaluates as it does, and records it.

    Beyond that it saves each epoch, keeps the last and the best checkpoint, goes on from a checkpoint as if the run had
    never stopped, and lets no evaluation move the random states.
    """

    checkpoints: list[Path]
    """The last checkpoint of each model."""
    evaluations: dict[str, Evaluation]
    """The last evaluation of each target."""

    def __init__(self, *args: Any, record: RunRecord, **kwargs: Any) -> None:
        """Build the engine, and keep what is written into the run folder when it runs."""
        super().__init__(*args, **kwargs)
        self.record = record
        self._line = EpochLine()

    def run(self, save_dir: str = "log", **kwargs: Any) -> None:
        """Train and evaluate as Torchreid does, in the folder ``save_dir``."""
        resumed = self.record.resumed
        self.folder = self.run_folder(save_dir)
        self.evaluations = {}
        self.checkpoints = []
        self._ranks = kwargs.get("ranks", [1, 5, 10, 20])
        self._best = -math.inf
        self._step = 0
        if not (kwargs.get("test_only") and self.folder.metrics.exists()):  # beside a training, leave its files
            done, evaluated = kwargs.get("start_epoch", 0), resumed is None or was_evaluated(resumed[1])
            self.folder.start(self.record.config, self.record.environment, epochs_done=done, evaluated=evaluated)
        try:
            with processes.end_together():
                if resumed is not None and not kwargs.get("test_only"):
                    self._go_on(*resumed, save_dir=save_dir, **kwargs)
                super().run(save_dir=save_dir, **kwargs)
        except KeyboardInterrupt:
            last = self.checkpoints[0] if self.checkpoints else resumed and resumed[0]
            raise KeyboardInterrupt(f"; to go on: model.resume {last}" if last else "; no checkpoint yet") from None

    def _go_on(self, path: Path, checkpoint: dict[str, Any], save_dir: str, **kwargs: Any) -> None:
        """Take up where the checkpoint was written, which may have been before an evaluation that was due."""
        self.epoch = checkpoint["epoch"] - 1
        self._step = checkpoint.get("step", checkpoint["epoch"] * len(self.train_loader))
        here = Path(save_dir, "model")
        if here.resolve() == path.resolve().parent:
            self.checkpoints = [path]
        if (here / BEST).exists():
            self._best = checkpoint.get("best_mAP", -math.inf)
        resume_generators(checkpoint)
        if not was_evaluated(checkpoint) and _evaluation_is_due(checkpoint["epoch"], **kwargs):
            settings = inspect.signature(torchreid.engine.Engine.test).parameters
            rank1 = self.test(save_dir=save_dir, **{name: kwargs[name] for name in settings if name in kwargs})
            self.save_model(self.epoch, rank1, save_dir)

    def train(self, *args: Any, **kwargs: Any) -> None:
        """Train one epoch and save its checkpoint, before any evaluation of it."""
        self._empty_patch_pools()
        self._line = EpochLine()
        super().train(*args, **kwargs)
        self._line.print(self.epoch + 1, self.max_epoch, kwargs.get("print_freq", 10))
        self._save(self.epoch)

    def forward_backward(self, data: dict[str, Any]) -> dict[str, float]:
        """Take the engine's step and write its values to ``metrics.jsonl``."""
        summary: dict[str, float] = super().forward_backward(data)
        check_finite(self, summary)
        rate = self.get_current_lr()
        self._line.add(summary, rate)
        self._step += 1  # not from num_batches: the identity sampler gives fewer batches than it announces
        self.folder.log(step=self._step, epoch=self.epoch + 1, **summary, lr=rate)
        if self.record.on_step is not None:
            self.record.on_step(self.epoch + 1, self.batch_idx + 1, self.num_batches)
        return summary

    def test(self, *args: Any, **kwargs: Any) -> float:
        """Evaluate without moving the random states: how often a run evaluates must not change what it learns."""
        with preserve_generators():
            rank1: float = super().test(*args, **kwargs)
            return rank1

    def save_model(self, epoch: int, rank1: float, save_dir: str, is_best: bool = False) -> None:
        """Save again with what the evaluation gave, and keep the best model by the first target's mAP."""
        if processes.rank() > 0:
            self._save(epoch)
            return
        evaluation = self.evaluations[next(iter(self.test_loader))]
        is_best = is_best or evaluation.mAP > self._best
        self._best = max(self._best, evaluation.mAP)
        self._save(epoch, is_best, rank1=float(evaluation.cmc[0]), mAP=evaluation.mAP)

    def extract_features(self, images: torch.Tensor) -> torch.Tensor:
        """Extract as the engine does; write the features of a target once all are there, before they are ranked."""
        features: torch.Tensor = super().extract_features(images)
        self._features.append(features.cpu())
        if sum(map(len, self._features)) == sum(map(len, self.datamanager.fetch_test_loaders(self._target))):
            self.folder.save_features(self._target, self._arrays(self._target))
        return features

    def _evaluate(self, dataset_name: str = "", **kwargs: Any) -> tuple[float, float]:
        self._features: list[torch.Tensor] = []
        self._target = dataset_name
        listening = listen_to_ranking(max(self._ranks), functools.partial(self._record_ranking, dataset_name))
        with explain_failure(self.folder, *self._describe_evaluation()), naming_the_key(SKIP), listening:
            rank1, mean_ap = super()._evaluate(dataset_name=dataset_name, **kwargs)
        print(f"mINP: {self.evaluations[dataset_name].mINP:.1%}")
        return float(rank1), float(mean_ap)

    def _record_ranking(self, target: str, arguments: tuple[Any, ...], cmc: Any, mean_ap: float) -> None:
        """Write down what an evaluation gave, before anything is done with it."""
        evaluation = Evaluation(mean_ap, evaluate_ranking(*arguments).mINP, cmc)
        self.evaluations[target] = evaluation
        at: dict[str, Any] = {"step": self._step, "epoch": self.epoch + 1}
        if not self._step:  # no training
            at = {"step": None, "epoch": None, "weights": self.record.weights}
        self.folder.log(**at, target=target, **evaluation.row(self._ranks))

    def _describe_evaluation(self) -> tuple[str, str]:
        """Say what is evaluated, and how to do it again."""
        what = f"evaluation of {self._target}"
        if not self._step:
            return what, "the same command does it again"
        last = self.checkpoints[0] if self.checkpoints else self.record.resumed and self.record.resumed[0]
        return f"{what} after epoch {self.epoch + 1}", f"{RESUME} {last} goes on from there, and evaluates again"

    def _arrays(self, target: str) -> dict[str, Any]:
        query, gallery = self.datamanager.fetch_test_loaders(target)
        features = torch.cat(self._features).numpy()
        arrays = {}
        for name, items, part in (
            ("query", query, features[: len(query)]),
            ("gallery", gallery, features[len(query) :]),
        ):
            paths = [item[0] if isinstance(item[0], str) else item[0][0] for item in items]  # a tracklet's first frame
            arrays[f"{name}_features"] = part
            arrays[f"{name}_pids"] = np.array([item[1] for item in items])
            arrays[f"{name}_camids"] = np.array([item[2] for item in items])
            arrays[f"{name}_paths"] = np.array(paths)
        return arrays

    def _save(self, epoch: int, is_best: bool = False, **extra: Any) -> None:
        """Save, and remove the checkpoint before: the last and the best are kept."""
        extra |= gather_generators()
        if processes.rank() > 0:
            return
        extra |= {"step": self._step, SETTINGS: dict(self.record.settings)}
        if math.isfinite(self._best):
            extra["best_mAP"] = self._best
        new = save_engine(self, epoch, self.folder.path, is_best, **extra)
        for path in self.checkpoints:
            if path not in new:
                path.unlink(missing_ok=True)
        self.checkpoints = new

    def _empty_patch_pools(self) -> None:
        """Start each epoch with empty pools of ``random_patch``, as loader workers do: a resumed run has no other."""
        for pool in find_patch_pools(self.datamanager.transform_tr):
            pool.clear()


def was_evaluated(checkpoint: Mapping[str, Any]) -> bool:
    """Tell whether a checkpoint was written after its epoch's evaluation, by this package or by Torchreid."""
    return "mAP" in checkpoint or "rank1" in checkpoint


def _evaluation_is_due(
    epochs: int, max_epoch: int = 0, start_eval: int = 0, eval_freq: int = -1, **others: Any
) -> bool:
    """Tell whether Torchreid's ``run`` evaluates after so many epochs, its evaluation at the very end apart."""
    return epochs >= start_eval and eval_freq > 0 and epochs % eval_freq == 0 and epochs != max_epoch


def add_recording(engine_class: type) -> type:
    """Return the engine's class with :class:`RecordedRun` mixed in."""
    return type(engine_class.__name__, (RecordedRun, engine_class), {})
