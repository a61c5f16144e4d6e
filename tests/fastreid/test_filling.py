"""``MODEL.LOSSES.DRSL.MEMORY_FILL``: MGN's five features, the thread that reads ahead on CUDA, unfit architectures."""

from __future__ import annotations

import contextlib
import copy
import itertools
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, Dataset
from toys import config

from drsl_plugin import DRSLoss
from drsl_plugin.errors import DRSLError
from drsl_plugin.fastreid.filling import FillingHook, build_filling_hooks
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.meta_arch import build_model
from drsl_plugin.losses import FeatureLosses

LABELS = torch.tensor([0, 0, 1, 1])
MGN_TERMS = [("b1",), ("b2",), ("b3",), ("b21", "b22"), ("b31", "b32", "b33")]
FRESH = ("MODEL.LOSSES.NAME", ("DRSLoss",), "MODEL.LOSSES.DRSL.MEMORY_SIZE", 6)
FRESH = *FRESH, "MODEL.LOSSES.DRSL.MEMORY_FILL", "fresh"
data_utils: Any = fastreid.data.data_utils


def fill(model: nn.Module, losses: FeatureLosses, loader: Any, sub_batch: int = 0) -> None:
    """Begin a step as FastReID's trainer does."""
    hook = FillingHook(losses, sub_batch)
    hook.trainer = SimpleNamespace(_trainer=SimpleNamespace(model=model.train(), data_loader=loader))
    hook.before_step()


class Pictures:
    """A loader of two batches, made anew each time: the models normalise their images in place."""

    dataset = range(8)

    def __iter__(self) -> Any:
        for seed in range(2):
            pictures = torch.rand(4, 3, 96, 32, generator=torch.Generator().manual_seed(seed)) * 255
            yield {"images": pictures, "targets": LABELS + 2 * seed, "camids": LABELS, "img_paths": ["a.jpg"] * 4}


# Several features


@pytest.mark.slow
@pytest.mark.parametrize("sub_batch", [0, 2])
def test_each_of_mgns_five_features_has_its_memory_filled(sub_batch: int) -> None:
    cfg = config(*FRESH, "MODEL.META_ARCHITECTURE", "MGN", "MODEL.BACKBONE.NAME", "build_resnet_backbone")
    cfg.merge_from_list(
        ["MODEL.BACKBONE.PRETRAIN", False, "MODEL.HEADS.NUM_CLASSES", 4, "MODEL.HEADS.NECK_FEAT", "after"]
    )
    cfg.merge_from_list(["MODEL.HEADS.EMBEDDING_DIM", 16, "MODEL.HEADS.WITH_BNNECK", True])
    model = build_model(cfg).train()
    before, twin = copy.deepcopy(model.state_dict()), copy.deepcopy(model)

    outputs: dict[str, list[Tensor]] = {}
    for name in itertools.chain(*MGN_TERMS):
        kept = outputs.setdefault(name, [])
        head = getattr(twin, f"{name}_head")
        head.register_forward_hook(lambda *args, kept=kept: kept.append(args[2]["features"].detach()))
    with fastreid.utils.events.EventStorage(0):
        for data in Pictures():
            pieces = range(0, 4, sub_batch or 4)
            for at in pieces:
                twin({key: value[at : at + len(LABELS) // len(pieces)] for key, value in data.items()})

    assert len(build_filling_hooks(cfg, model, Pictures())) == 1
    fill(model, model.drsl_features, Pictures(), sub_batch)
    memories = model.drsl_features.memory_state()
    assert len(memories) == 5
    for memory, names in zip(memories, MGN_TERMS, strict=True):
        expected = torch.cat([torch.cat(outputs[name]) for name in names], dim=1)[:6]
        torch.testing.assert_close(memory["embeddings"], expected, rtol=1e-4, atol=1e-5)
        assert memory["labels"].tolist() == [0, 0, 1, 1, 2, 2]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# The loader on CUDA, which reads ahead in a thread


class Numbers(Dataset[Any]):
    """A set whose images are their numbers."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> dict[str, Any]:
        time.sleep(0.001)
        return {"images": torch.tensor([float(index)]), "targets": int(index)}


class Drawing:
    """A sampler that draws as FastReID's do, but for each image anew."""

    _seed = 3

    def __iter__(self) -> Iterator[int]:
        np.random.seed(self._seed)
        while True:
            yield int(np.random.randint(100))


class Small(nn.Module):
    """An architecture with DRSL."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 2)
        self.drsl_features = FeatureLosses(DRSLoss(memory_size=10))

    def forward(self, data: dict[str, Tensor]) -> Any:
        return self._drsl_losses({"loss_drsl": self.layer(data["images"])}, data["targets"], 1.0)

    def _drsl_losses(self, features: dict[str, Tensor], labels: Tensor, weight: float) -> Any:
        raise AssertionError("a filling computes no loss")


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Any:
    """FastReID's loader on CUDA, without CUDA."""
    for name in ("set_device", "Stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(wait_stream=lambda *_: None))
    batches: Any = BatchSampler(Drawing(), 4, True)
    return data_utils.DataLoaderX(
        "cpu", dataset=Numbers(), batch_sampler=batches, collate_fn=fastreid.data.build.fast_batch_collator
    )


def labels_of(loader: Any, filled_at: int) -> list[list[int]]:
    """The labels of the batches of a training that fills a memory in between."""
    stream, found = iter(loader), []
    for step in range(40):
        if step == filled_at:
            model = Small()
            fill(model, model.drsl_features, loader)
            assert model.drsl_features.memory_state()[0]["filled"] == 10
        found.append(next(stream)["targets"].tolist())
    loader.shutdown()
    return found


@pytest.mark.parametrize("step", [0, 1, 17])
def test_the_order_of_the_training_stays(loader: Any, step: int) -> None:
    threads = threading.active_count()
    expected = labels_of(loader, filled_at=-1)
    assert labels_of(loader, filled_at=step) == expected
    assert threading.active_count() == threads, threading.enumerate()
    assert loader.batch_sampler.sampler._seed == 3


def test_its_images_are_not_those_that_the_epoch_begins_with(loader: Any) -> None:
    model = Small()
    fill(model, model.drsl_features, loader)
    drawn = model.drsl_features.memory_state()[0]["labels"].tolist()
    first = iter(loader)
    assert drawn != [*next(first)["targets"].tolist(), *next(first)["targets"].tolist(), *next(first)["targets"]][:10]
    loader.shutdown()


def test_stock_loader_draws_in_a_thread(loader: Any) -> None:
    stream = iter(loader)
    assert isinstance(stream.iter, threading.Thread)
    loader.shutdown()


# Unfit architectures


def test_an_architecture_without_drsl_is_one_line() -> None:
    with pytest.raises(DRSLError) as caught:
        build_filling_hooks(config(*FRESH), nn.Linear(2, 2), Pictures())
    assert str(caught.value) == (
        "MODEL.LOSSES.DRSL.MEMORY_FILL fresh: Linear hands DRSL no features; derive it from DRSLBaseline or DRSLMGN, "
        "or set stored"
    )


def test_an_architecture_that_computes_no_drsl_is_one_line() -> None:
    class Forgetful(Small):
        def forward(self, data: dict[str, Tensor]) -> Any:
            return {}

    model = Forgetful()
    with pytest.raises(DRSLError, match=r"MEMORY_FILL fresh: Forgetful hands DRSL no features"):
        fill(model, model.drsl_features, Pictures())


def test_without_drsl_nothing_is_filled() -> None:
    assert build_filling_hooks(config("MODEL.LOSSES.NAME", ("CrossEntropyLoss",)), nn.Linear(2, 2), Pictures()) == []
