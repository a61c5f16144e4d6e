"""Torchreid as the tests of both toolboxes see it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hosting import OF_DRSL, PARTS, Host, Samples, flat, taken
from torch import Tensor

from drsl_plugin.runs.checkpoint_files import load


class Torchreid(Host):
    """``drsl torchreid``."""

    name, title, target = "torchreid", "Torchreid", "market1501"
    triplet = "loss_t"
    data_folder = "market1501"
    market = "market1501/Market-1501-v15.09.15"
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
    schedules = {"cosine": {"train.lr_scheduler": "cosine"}, "steps": {"train.lr_scheduler": "multi_step"}}  # noqa: RUF012
    frozen = {"train.fixbase_epoch": 1, "train.open_layers": ["classifier"]}  # noqa: RUF012
    columns = {  # noqa: RUF012
        "drsl": {*PARTS, "loss_drsl", "loss_x", "acc"},
        "drsl alone": {*PARTS, "loss_drsl"},
        "triplet": {"loss_t", "loss_x", "acc"},
        "classes": {"loss", "acc"},
    }
    blamed = columns
    several_sources = "data.sources"
    ranks = (1, 5, 10, 20)
    other_states = (
        ("optimizer", "sgd", "SGD"),
        ("optimizer", "amsgrad", "Adam"),
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
        "skip": "data.skip_unreadable",
        "eval_every": "test.eval_freq",
        "sampler": "sampler.train_sampler",
        "resume": "model.resume",
        "weights": "model.load_weights",
        "pretrained": "model.pretrained",
        "schedule": "train.lr_scheduler",
        "gamma": "train.gamma",
        "milestones": "train.stepsize",
        "momentum": "sgd.momentum",
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

    @property
    def typed(self) -> dict[str, Any]:
        from drsl_plugin.torchreid.config import get_default_config

        keys = flat(get_default_config())
        return {key: value for key, value in keys.items() if key not in ("use_gpu", "data.root", "data.save_dir")}

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

    @property
    def data_sets(self) -> dict[str, Any]:
        from drsl_plugin.torchreid.host import registry

        return registry(self.package.data.datasets, "__image_datasets")

    def evaluated_on(self, *names: str) -> dict[str, Any]:
        return {"data.targets": list(names)}

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

    def register(self, patch: pytest.MonkeyPatch, name: str, read: Callable[[Any], Samples]) -> None:
        from drsl_plugin.torchreid.host import registry, torchreid

        class Own(torchreid.data.ImageDataset):  # type: ignore[misc]
            def __init__(self, root: str = "", **kwargs: Any) -> None:
                super().__init__(**read(self), **kwargs)

        patch.setitem(registry(torchreid.data.datasets, "__image_datasets"), name, Own)

    def sets(self, sources: Sequence[str], targets: Sequence[str]) -> dict[str, Any]:
        return {"data.sources": list(sources), "data.targets": list(targets)}

    def score(self, patch: pytest.MonkeyPatch, *scores: float | BaseException) -> None:
        from drsl_plugin.torchreid.recording import RecordedRun

        left, record = iter(scores), RecordedRun._record_ranking

        def scored(self: Any, target: str, arguments: Any, cmc: Any, mean_ap: float) -> None:
            record(self, target, arguments, cmc, taken(left))

        patch.setattr(RecordedRun, "_record_ranking", scored)
