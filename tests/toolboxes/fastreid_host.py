"""FastReID as the tests of both toolboxes see it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hosting import OF_DRSL, PARTS, Host, Samples, flat, taken
from torch import Tensor

from drsl_plugin.runs.checkpoint_files import load


class FastReID(Host):
    """``drsl fastreid``."""

    name, title, target = "fastreid", "FastReID", "Market1501"
    triplet = "loss_triplet"
    data_folder = "Market-1501-v15.09.15"
    market = "Market-1501-v15.09.15"
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
    schedules = {"cosine": {"SOLVER.SCHED": "CosineAnnealingLR"}, "steps": {"SOLVER.SCHED": "MultiStepLR"}}  # noqa: RUF012
    frozen = {"MODEL.FREEZE_LAYERS": '("backbone",)', "SOLVER.FREEZE_ITERS": 3}  # noqa: RUF012
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
    several_sources = "DATASETS.NAMES"
    ranks = (1, 5, 10)
    other_states = (
        ("optimizer", "SGD", "SGD"),
        ("optimizer", "RMSprop", "RMSprop"),
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
        "skip": "DATASETS.SKIP_UNREADABLE",
        "eval_every": "TEST.EVAL_PERIOD",
        "sampler": "DATALOADER.SAMPLER_TRAIN",
        "resume": "--resume",
        "weights": "MODEL.WEIGHTS",
        "pretrained": "MODEL.BACKBONE.PRETRAIN",
        "schedule": "SOLVER.SCHED",
        "gamma": "SOLVER.GAMMA",
        "milestones": "SOLVER.STEPS",
        "momentum": "SOLVER.MOMENTUM",
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
    def typed(self) -> dict[str, Any]:
        from drsl_plugin.fastreid.config import get_cfg

        return {key: value for key, value in flat(get_cfg()).items() if key not in ("MODEL.DEVICE", "OUTPUT_DIR")}

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
        from drsl_plugin.fastreid.host import fastreid

        found: ModuleType = fastreid
        return found

    @property
    def data_set(self) -> type:
        found: type = self.package.data.datasets.Market1501
        return found

    @property
    def random_patch(self) -> type:
        found: type = self.package.data.transforms.transforms.RandomPatch
        return found

    @property
    def data_sets(self) -> dict[str, Any]:
        return self.package.data.datasets.DATASET_REGISTRY._obj_map  # type: ignore[no-any-return]

    def evaluated_on(self, *names: str) -> dict[str, Any]:
        return {"DATASETS.TESTS": str(names)}

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

    def register(self, patch: pytest.MonkeyPatch, name: str, read: Callable[[Any], Samples]) -> None:
        sets = self.package.data.datasets

        class Own(sets.bases.ImageDataset):  # type: ignore[misc, name-defined]
            def __init__(self, root: str = "", **kwargs: Any) -> None:
                super().__init__(**read(self), **kwargs)

        patch.setitem(sets.DATASET_REGISTRY._obj_map, name, Own)

    def sets(self, sources: Sequence[str], targets: Sequence[str]) -> dict[str, Any]:
        return {"DATASETS.NAMES": str(tuple(sources)), "DATASETS.TESTS": str(tuple(targets))}

    def score(self, patch: pytest.MonkeyPatch, *scores: float | BaseException) -> None:
        left, evaluator = iter(scores), self.package.evaluation.ReidEvaluator
        evaluate = evaluator.evaluate

        def scored(self: Any) -> Any:
            found = taken(left)
            results = evaluate(self)
            results["metric"] = found
            return results

        patch.setattr(evaluator, "evaluate", scored)
