"""The toolboxes as the tests of both see them: what each calls a setting, a file or an argument, and how it is run.

A third toolbox would be one more :class:`Host`.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from drsl_plugin.cli import app
from drsl_plugin.losses.settings import DRSLSettings, TrainingSettings
from drsl_plugin.runs.checkpoint_files import load
from drsl_plugin.runs.folder import RunFolder

ERROR = "drsl: error: "
OF_TORCH = re.compile(r".*CUDA_HOME").match  # that there is a CUDA toolkit but no GPU
PARTS = ("ranking", "sorting", "ap", "above_all")  # of DRSL, in the rows of steps
OF_DRSL = (*DRSLSettings.settings(), *TrainingSettings.settings())


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    output: str
    """What it printed, without the error stream."""
    lines: list[str]
    """What it said on the error stream."""

    @property
    def errors(self) -> list[str]:
        """What it says is wrong, without what stands before each."""
        assert self.code == 2
        assert all(line.startswith(ERROR) for line in self.lines), self.lines
        assert "Traceback" not in self.output
        return [line[len(ERROR) :] for line in self.lines]

    @property
    def error(self) -> str:
        """The one thing that is wrong."""
        (error,) = self.errors
        return error


class Host(ABC):
    """A toolbox under test, which reads the rendered Market-1501.

    Changes of a run's settings come by plain names (``epochs=2``, ``temperature=0.1``), which are those of
    :attr:`keys` and DRSL's own, ``losses``, ``model`` and ``images``; or by the toolbox's own keys, which have a dot in
    them or are in capitals.
    """

    name: str
    """As the command has it."""
    title: str
    target: str
    """What the rendered data set is called there."""
    data_folder: str
    """Where it lies below the folder of all data sets."""
    preset: str
    """One of its presets."""
    losses: dict[str, dict[str, Any]]
    """What trains by a kind of loss."""
    triplet: str
    """What it calls the triplet loss in its logs."""
    models: dict[str, dict[str, Any]]
    """The smallest model, and a larger one."""
    images: dict[str, dict[str, Any]]
    """What is done to the training images."""

    of_classes: frozenset[str]
    """What it logs of the classification."""
    columns: dict[str, set[str]]
    """What each row of a step has by a kind of loss, besides the step, the epoch and the learning rate."""
    blamed: dict[str, set[str]]
    """What an error names that tells of a loss which is not finite."""
    ranks: tuple[int, ...]
    """The ranks of its evaluations."""
    other_states: tuple[tuple[str, str, str], ...]
    """Settings whose state is not that of the smallest run, their values, and what an error calls these."""
    of_first_process: frozenset[str] = frozenset()
    """What it logs of the first process's share of a batch alone."""
    whole_identities: bool
    """Whether all images of a batch that show an identity go to one process."""
    perhaps: frozenset[str] = frozenset()
    """Files of a run that are there or not."""
    keys: dict[str, str]
    """What the toolbox calls what a plain name means."""
    smallest: dict[str, Any]
    """The smallest run, by the toolbox's own keys."""
    of_this_process: frozenset[str] = frozenset()
    """The places in a checkpoint that tell of the process that wrote it, and not of the run."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def key(self, name: str) -> str:
        """What the toolbox calls a setting."""
        return name if "." in name or name.isupper() else self.keys[name]

    def settings(self, **changes: Any) -> dict[str, Any]:
        """The settings of the smallest run with changes, by the toolbox's own keys."""
        several = {"losses": self.losses, "model": self.models, "images": self.images}
        changed: dict[str, Any] = {}
        for name, value in changes.items():
            changed |= several[name][value] if name in several else {self.key(name): value}
        return {**self.smallest, **changed}

    def options(self, folder: Path, **changes: Any) -> list[str]:
        """The ``key value`` pairs of the smallest run with changes."""
        settings = {self.key("folder"): folder} | self.settings(**changes)
        return [str(word) for pair in settings.items() for word in pair]

    @abstractmethod
    def words(
        self,
        folder: Path,
        *,
        resume: Path | bool | None = None,
        evaluate: Path | None = None,
        weights: Path | None = None,
        **changes: Any,
    ) -> list[str]:
        """The arguments of a run.

        Args:
            folder: what it leaves goes there.
            resume: go on from this checkpoint, or, True, from the folder's last one.
            evaluate: evaluate this checkpoint and train nothing.
            weights: begin with the weights of this checkpoint.
            changes: of the smallest run.
        """

    @property
    @abstractmethod
    def environment(self) -> dict[str, str]:
        """What a process of its own needs to know."""

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Read the rendered data set in this process."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            yield

    def command(self, *words: object) -> Ended:
        """Run ``drsl`` in this process; an error that is not bad input is raised as it is."""
        with self.reading():
            result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        return Ended(
            result.exit_code, result.stdout, [line for line in result.stderr.splitlines() if not OF_TORCH(line)]
        )

    def run(self, folder: Path, **changes: Any) -> Ended:
        """Run the toolbox's command; the arguments are those of :meth:`words`."""
        return self.command(self.name, *self.words(folder, **changes))

    def train(self, folder: Path, **changes: Any) -> Ended:
        """Run the toolbox's command, and see that nothing is wrong."""
        ended = self.run(folder, **changes)
        assert (ended.code, ended.lines) == (0, [])
        return ended

    def refusal(self, folder: Path, **changes: Any) -> str:
        """Run the toolbox's command, and return the one thing that is wrong."""
        return self.run(folder, **changes).error

    def steps(self, folder: Path) -> list[dict[str, Any]]:
        """The rows of a run's steps, without its evaluations."""
        return [row for row in RunFolder(folder).rows() if "lr" in row]

    def evaluations(self, folder: Path) -> list[dict[str, Any]]:
        return [row for row in RunFolder(folder).rows() if "mAP" in row]

    def features(self, folder: Path) -> Path:
        return folder / f"features-{self.target}.npz"

    @abstractmethod
    def checkpoint(self, folder: Path, epoch: int | None = None) -> Path:
        """The last checkpoint of a run, or that of the epoch, from 1, which has ended and is not the last."""

    @abstractmethod
    def checkpoint_of_epoch(self, folder: Path, epoch: int, *, last: bool = False) -> Path:
        """Where a run saves an epoch, from 1, or the last one, whether it is there by now or not."""

    def checkpoints(self, folder: Path) -> dict[str, dict[str, Any]]:
        """All checkpoints of a run, by their files' names."""
        return {path.name: load(path, "") for path in sorted(self.checkpoint(folder).parent.glob("*.pth*"))}

    @abstractmethod
    def best(self, folder: Path) -> Path:
        """The checkpoint that was best by the evaluations."""

    @abstractmethod
    def epoch(self, checkpoint: Path) -> int:
        """How many epochs a checkpoint has."""

    @abstractmethod
    def way_on(self, checkpoint: Path) -> str:
        """What a run that was interrupted says of its last checkpoint."""

    @abstractmethod
    def parameters(self, checkpoint: Path) -> dict[str, torch.Tensor]:
        """The weights in a checkpoint."""

    @abstractmethod
    def log(self, folder: Path) -> str:
        """The log of a run."""

    @property
    @abstractmethod
    def package(self) -> ModuleType:
        """The toolbox itself."""

    @property
    @abstractmethod
    def data_set(self) -> type:
        """The toolbox's class of the rendered data set."""

    @property
    @abstractmethod
    def random_patch(self) -> type:
        """The toolbox's class that pastes patches of other images."""

    @abstractmethod
    def distances(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """What the toolbox's evaluations rank by where nothing is said."""

    @abstractmethod
    def told_step(self, before: int, step: int) -> int:
        """The number that an error has for a step of an epoch, before which so many steps were taken."""

    @abstractmethod
    def alter_images(self, patch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> None:
        """Give each training step what ``change`` makes of its images."""

    @abstractmethod
    def score(self, patch: pytest.MonkeyPatch, *scores: float | BaseException) -> None:
        """Give the evaluations to come these scores, by which the best is chosen, or raise; one after the other."""


class Torchreid(Host):
    """``drsl torchreid``."""

    name, title, target = "torchreid", "Torchreid", "market1501"
    triplet = "loss_t"
    data_folder = "market1501"
    preset = "torchreid/osnet_x0_25_drsl_256x128_market1501"

    of_classes = frozenset({"loss_x", "acc"})
    whole_identities = True
    losses = {  # noqa: RUF012
        "drsl": {"loss.name": "drsl"},
        "drsl alone": {"loss.name": "drsl", "loss.drsl.weight_x": 0.0},
        "triplet": {"loss.name": "triplet", "loss.triplet.weight_x": 1.0},
        "classes": {"loss.name": "softmax"},
    }
    models = {"smallest": {}, "larger": {"model.name": "osnet_x0_5"}}  # noqa: RUF012
    images = {  # noqa: RUF012
        "flipped": {"data.transforms": ["random_flip"]},
        "patched": {"data.transforms": ["random_patch"]},
        "augmented": {"data.transforms": ["random_flip", "random_crop", "random_erase", "color_jitter"]},
    }
    columns = {  # noqa: RUF012
        "drsl": {*PARTS, "loss_drsl", "loss_x", "acc"},
        "drsl alone": {*PARTS, "loss_drsl"},
        "triplet": {"loss_t", "loss_x", "acc"},
        "classes": {"loss", "acc"},
    }
    blamed = columns
    ranks = (1, 5, 10, 20)
    other_states = (
        ("optimizer", "sgd", "SGD"),
        ("optimizer", "amsgrad", "Adam"),
        ("schedule", "cosine", "CosineAnnealingLR"),
    )
    keys = {  # noqa: RUF012
        **{name: f"loss.drsl.{name}" for name in OF_DRSL},
        "use_gpu": "use_gpu",
        "folder": "data.save_dir",
        "sources": "--sources",
        "targets": "--targets",
        "epochs": "train.max_epoch",
        "batch": "train.batch_size",
        "instances": "sampler.num_instances",
        "lr": "train.lr",
        "optimizer": "train.optim",
        "seed": "train.seed",
        "workers": "data.workers",
        "eval_every": "test.eval_freq",
        "sampler": "sampler.train_sampler",
        "resume": "model.resume",
        "weights": "model.load_weights",
        "pretrained": "model.pretrained",
        "schedule": "train.lr_scheduler",
        "gamma": "train.gamma",
    }
    smallest = {  # noqa: RUF012
        "use_gpu": False,
        "model.name": "osnet_x0_25",
        "model.pretrained": False,
        "data.height": 64,
        "data.width": 32,
        "data.workers": 0,
        "sampler.train_sampler": "RandomIdentitySampler",
        "sampler.num_instances": 2,
        "train.batch_size": 8,
        "train.max_epoch": 1,
        "train.print_freq": 1,
        "test.batch_size": 32,
        "loss.name": "drsl",
    }
    environment = {}  # noqa: RUF012

    def settings(self, **changes: Any) -> dict[str, Any]:
        return super().settings(**changes) | {"data.root": self.root}

    def words(
        self,
        folder: Path,
        *,
        resume: Path | bool | None = None,
        evaluate: Path | None = None,
        weights: Path | None = None,
        **changes: Any,
    ) -> list[str]:
        if resume:
            changes["model.resume"] = self.checkpoint(folder) if resume is True else resume
        if evaluate:
            changes |= {"test.evaluate": True, "model.load_weights": evaluate}
        if weights:
            changes["model.load_weights"] = weights
        return self.options(folder, **changes)

    def checkpoint_of_epoch(self, folder: Path, epoch: int, *, last: bool = False) -> Path:
        return folder / "model" / f"model.pth.tar-{epoch}"

    def checkpoint(self, folder: Path, epoch: int | None = None) -> Path:
        found = {int(path.name.rpartition("-")[2]): path for path in (folder / "model").glob("model.pth.tar-*")}
        return found[max(found) if epoch is None else epoch]

    def parameters(self, checkpoint: Path) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = load(checkpoint, "")["state_dict"]
        return state

    def best(self, folder: Path) -> Path:
        return folder / "model" / "model-best.pth.tar"

    def epoch(self, checkpoint: Path) -> int:
        return int(load(checkpoint, "")["epoch"])

    def way_on(self, checkpoint: Path) -> str:
        return f"to go on: model.resume {checkpoint}"

    def log(self, folder: Path) -> str:
        return "".join(path.read_text() for path in sorted(folder.glob("train.log-*")))

    @property
    def package(self) -> ModuleType:
        return importlib.import_module("torchreid")

    @property
    def data_set(self) -> type:
        found: type = self.package.data.datasets.image.Market1501
        return found

    @property
    def random_patch(self) -> type:
        found: type = self.package.data.transforms.RandomPatch
        return found

    def distances(self, queries: Tensor, gallery: Tensor) -> Tensor:
        found: Tensor = self.package.metrics.compute_distance_matrix(queries, gallery)
        return found

    def told_step(self, before: int, step: int) -> int:
        return step

    def alter_images(self, patch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> None:
        parse = self.package.engine.Engine.parse_data_for_train

        def altered(engine: Any, data: Any) -> Any:
            images, pids = parse(engine, data)
            return change(images), pids

        patch.setattr(self.package.engine.Engine, "parse_data_for_train", altered)

    def score(self, patch: pytest.MonkeyPatch, *scores: float | BaseException) -> None:
        left, rank = iter(scores), self.package.metrics.evaluate_rank

        def scored(*arguments: Any, **kwargs: Any) -> Any:
            return rank(*arguments, **kwargs)[0], taken(left)

        patch.setattr(self.package.metrics, "evaluate_rank", scored)


class FastReID(Host):
    """``drsl fastreid``."""

    name, title, target = "fastreid", "FastReID", "Market1501"
    triplet = "loss_triplet"
    data_folder = "Market-1501-v15.09.15"
    preset = "fastreid/Market1501/osnet_x1_0_drsl"

    of_classes = frozenset({"loss_cls", "cls_accuracy"})
    of_first_process = frozenset({"cls_accuracy"})
    whole_identities = False
    perhaps = frozenset({"model_best.pth"})
    losses = {  # noqa: RUF012
        "drsl": {"MODEL.LOSSES.NAME": '("CrossEntropyLoss", "DRSLoss")'},
        "drsl alone": {"MODEL.LOSSES.NAME": '("DRSLoss",)'},
        "triplet": {"MODEL.LOSSES.NAME": '("CrossEntropyLoss", "TripletLoss")'},
        "classes": {"MODEL.LOSSES.NAME": '("CrossEntropyLoss",)'},
    }
    models = {  # noqa: RUF012
        "smallest": {},
        "larger": {"MODEL.BACKBONE.DEPTH": "x0_5", "MODEL.BACKBONE.FEAT_DIM": 256},
    }
    images = {  # noqa: RUF012
        "flipped": {"INPUT.FLIP.ENABLED": True},
        "patched": {"INPUT.RPT.ENABLED": True, "INPUT.RPT.PROB": 0.9},
        "augmented": {
            **{f"INPUT.{kind}.ENABLED": True for kind in ("AUTOAUG", "REA", "FLIP", "PADDING", "CJ", "AUGMIX")},
            **{f"INPUT.{kind}.PROB": 0.7 for kind in ("AUTOAUG", "REA", "CJ", "AUGMIX")},
        },
    }
    columns = {  # noqa: RUF012
        "drsl": {*PARTS, "total_loss", "loss_drsl", "loss_cls", "cls_accuracy"},
        "drsl alone": {*PARTS, "total_loss", "loss_drsl", "cls_accuracy"},
        "triplet": {"total_loss", "loss_triplet", "loss_cls", "cls_accuracy"},
        "classes": {"total_loss", "cls_accuracy"},
    }
    blamed = {  # noqa: RUF012
        "drsl": {"loss_drsl", "loss_cls"},
        "drsl alone": {"loss_drsl"},
        "triplet": {"loss_triplet", "loss_cls"},
        "classes": {"loss_cls"},
    }
    ranks = (1, 5, 10)
    other_states = (
        ("optimizer", "SGD", "SGD"),
        ("optimizer", "RMSprop", "RMSprop"),
        ("schedule", "CosineAnnealingLR", "CosineAnnealingLR"),
    )
    keys = {  # noqa: RUF012
        **{name: f"MODEL.LOSSES.DRSL.{name.upper()}" for name in OF_DRSL},
        "weight": "MODEL.LOSSES.DRSL.SCALE",
        "weight_x": "MODEL.LOSSES.CE.SCALE",
        "folder": "OUTPUT_DIR",
        "sources": "DATASETS.NAMES",
        "targets": "DATASETS.TESTS",
        "epochs": "SOLVER.MAX_EPOCH",
        "batch": "SOLVER.IMS_PER_BATCH",
        "instances": "DATALOADER.NUM_INSTANCE",
        "lr": "SOLVER.BASE_LR",
        "optimizer": "SOLVER.OPT",
        "seed": "SEED",
        "workers": "DATALOADER.NUM_WORKERS",
        "eval_every": "TEST.EVAL_PERIOD",
        "sampler": "DATALOADER.SAMPLER_TRAIN",
        "resume": "--resume",
        "weights": "MODEL.WEIGHTS",
        "pretrained": "MODEL.BACKBONE.PRETRAIN",
        "schedule": "SOLVER.SCHED",
        "gamma": "SOLVER.GAMMA",
    }
    smallest = {  # noqa: RUF012
        "MODEL.DEVICE": "cpu",
        "MODEL.BACKBONE.NAME": "build_osnet_backbone",
        "MODEL.BACKBONE.DEPTH": "x0_25",
        "MODEL.BACKBONE.FEAT_DIM": 128,
        "MODEL.BACKBONE.PRETRAIN": False,
        "MODEL.HEADS.WITH_BNNECK": True,
        "MODEL.LOSSES.NAME": '("CrossEntropyLoss", "DRSLoss")',
        "INPUT.SIZE_TRAIN": "[64, 32]",
        "INPUT.SIZE_TEST": "[64, 32]",
        "DATALOADER.SAMPLER_TRAIN": "NaiveIdentitySampler",
        "DATALOADER.NUM_INSTANCE": 2,
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.IMS_PER_BATCH": 8,
        "SOLVER.MAX_EPOCH": 1,
        "SOLVER.WARMUP_ITERS": 2,
        "SOLVER.CHECKPOINT_PERIOD": 1,
        "TEST.EVAL_PERIOD": 1,
        "SEED": 1,
    }
    of_this_process = frozenset({"/metric"})  # FastReID's note of its last evaluation

    @property
    def environment(self) -> dict[str, str]:
        return {"FASTREID_DATASETS": str(self.root)}

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        from drsl_plugin.fastreid.host import fastreid

        with super().reading(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(fastreid.data.build, "_root", str(self.root))  # which read the environment when imported
            yield

    def words(
        self,
        folder: Path,
        *,
        resume: Path | bool | None = None,
        evaluate: Path | None = None,
        weights: Path | None = None,
        **changes: Any,
    ) -> list[str]:
        if isinstance(resume, Path):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "last_checkpoint").write_text(str(resume))
        if evaluate or weights:
            changes["MODEL.WEIGHTS"] = evaluate or weights
        switches = ["--resume"] * bool(resume) + ["--eval-only"] * bool(evaluate)
        return [*switches, *self.options(folder, **changes)]

    def checkpoint_of_epoch(self, folder: Path, epoch: int, *, last: bool = False) -> Path:
        return folder / ("model_final.pth" if last else f"model_{epoch - 1:04d}.pth")

    def checkpoint(self, folder: Path, epoch: int | None = None) -> Path:
        if epoch is not None:
            return folder / f"model_{epoch - 1:04d}.pth"
        return folder / (folder / "last_checkpoint").read_text().strip()

    def parameters(self, checkpoint: Path) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = load(checkpoint, "")["model"]
        return state

    def best(self, folder: Path) -> Path:
        return folder / "model_best.pth"

    def epoch(self, checkpoint: Path) -> int:
        return int(load(checkpoint, "")["epoch"]) + 1

    def way_on(self, checkpoint: Path) -> str:
        return f"--resume goes on from {checkpoint}"

    def log(self, folder: Path) -> str:
        return (folder / "log.txt").read_text()

    @property
    def package(self) -> ModuleType:
        return importlib.import_module("fastreid")

    @property
    def data_set(self) -> type:
        found: type = self.package.data.datasets.Market1501
        return found

    @property
    def random_patch(self) -> type:
        found: type = self.package.data.transforms.transforms.RandomPatch
        return found

    def distances(self, queries: Tensor, gallery: Tensor) -> Tensor:
        return 1 - torch.nn.functional.normalize(queries) @ torch.nn.functional.normalize(gallery).T

    def told_step(self, before: int, step: int) -> int:
        return before + step

    def alter_images(self, patch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> None:
        architecture = self.package.modeling.meta_arch.Baseline
        prepare = architecture.preprocess_image

        def altered(model: Any, inputs: Any) -> Tensor:
            images: Tensor = prepare(model, inputs)
            return change(images) if model.training else images

        patch.setattr(architecture, "preprocess_image", altered)

    def score(self, patch: pytest.MonkeyPatch, *scores: float | BaseException) -> None:
        left, evaluator = iter(scores), self.package.evaluation.ReidEvaluator
        evaluate = evaluator.evaluate

        def scored(self: Any) -> Any:
            found = taken(left)
            results = evaluate(self)
            results["metric"] = found
            return results

        patch.setattr(evaluator, "evaluate", scored)


def taken(scores: Iterator[float | BaseException]) -> float:
    """The next score, unless it is an error."""
    score = next(scores)
    if isinstance(score, BaseException):
        raise score
    return score


HOSTS: dict[str, Callable[[Path], Host]] = {kind.name: kind for kind in (Torchreid, FastReID)}


@contextlib.contextmanager
def interrupted(step: int, reason: type[BaseException] = KeyboardInterrupt) -> Iterator[None]:
    """Stop a training as Ctrl-C would, after a step counted from 1, before its row is written."""
    register = getattr(importlib.import_module("torch.optim.optimizer"), "register_optimizer_step_post_hook", None)
    if register is None:
        pytest.skip("this torch has no hook after the steps of all optimizers")
    taken = 0

    def after(*_: Any) -> None:
        nonlocal taken
        taken += 1
        if taken == step:
            raise reason

    handle = register(after)
    try:
        yield
    finally:
        handle.remove()
