"""The way of a batch from an engine to the backend: few modules, and one check of the batch."""

from __future__ import annotations

import dataclasses
import typing
from types import SimpleNamespace

import pytest
import torch
from cases import follow_calls, uneven

from drsl_plugin import DRSLoss, drsl_loss
from drsl_plugin.losses import distributed_drsl_loss
from drsl_plugin.losses.settings import DRSLOptions, DRSLSettings, LossOptions

NAMES_ITS_PATHS = True
BACKENDS = {"unfused": "compute_unfused", "chunked": "compute_loss_and_gradients"}
WAYS = {
    "function": lambda batch, backend: drsl_loss(*batch, backend=backend),
    "module": lambda batch, backend: DRSLoss(backend=backend)(*batch),
    "module with a memory": lambda batch, backend: DRSLoss(backend=backend, memory_size=11)(*batch),
    "one process": lambda batch, backend: distributed_drsl_loss(DRSLoss(backend=backend), *batch[:2]),
    "one process with a memory": lambda batch, backend: distributed_drsl_loss(
        DRSLoss(backend=backend, memory_size=11), *batch[:2]
    ),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("way", WAYS)
def test_a_batch_is_checked_once(way: str, backend: str) -> None:
    with follow_calls() as calls:
        WAYS[way](uneven(refs=True), backend)
    assert [call.function for call in calls].count("check_batch") == 1
    assert [call.function for call in calls].count(BACKENDS[backend]) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_from_an_engine_to_the_backend_are_five_modules(backend: str) -> None:
    torchreid = pytest.importorskip("torchreid")
    from drsl_plugin.torchreid import ImageDRSLEngine

    class Model(torch.nn.Linear):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            features = super().forward(images.flatten(1))
            return features[:, :3], features

    model = Model(3 * 4, 8)
    datamanager = SimpleNamespace(train_loader=[], test_loader={}, num_train_pids=3)
    optimizer = torchreid.optim.build_optimizer(model, optim="sgd")
    engine = ImageDRSLEngine(datamanager, model, optimizer, use_gpu=False)
    engine.criterion.backend = backend
    with follow_calls() as calls:
        engine.forward_backward({"img": torch.randn(6, 3, 2, 2), "pid": torch.arange(6) // 2})
    assert [call.function for call in calls].count("check_batch") == 1
    (arrival,) = [call for call in calls if call.function == BACKENDS[backend]]
    assert [module.removeprefix("drsl_plugin.") for module in arrival.through] == [
        "torchreid.engines",
        "losses.distributed",
        "losses.module",
        "losses.backends.choice",
        f"losses.backends.{backend}",
    ]


def test_the_options_are_the_settings() -> None:
    options, hints = typing.get_type_hints(DRSLOptions), typing.get_type_hints(DRSLSettings)
    assert options == {field.name: hints[field.name] for field in dataclasses.fields(DRSLSettings)}
    assert options.keys() - typing.get_type_hints(LossOptions).keys() == {
        "memory_size",
        "memory_share",
        "memory_warmup",
    }


def test_what_a_function_does_not_take_is_named() -> None:
    embeddings, labels, *_ = uneven()
    for name in ("memory_size", "memory_warmup", "temprature"):
        with pytest.raises(TypeError, match=name):
            drsl_loss(embeddings, labels, **{name: 1})
    with pytest.raises(TypeError, match="temprature"):
        DRSLoss(temprature=1)


def test_settings_of_a_module() -> None:
    settings = DRSLSettings(distance="euclidean", sort_weight=0.3, memory_size=20, memory_warmup=2)
    criterion = DRSLoss.from_settings(settings)
    assert criterion.settings == settings
    assert (criterion.distance, criterion.sort_weight, criterion.memory_size) == ("euclidean", 0.3, 20)
    assert (criterion.memory.size, criterion.memory.warmup) == (20, 2)
    criterion.temperature = 0.2
    assert criterion.settings.temperature == criterion.temperature == 0.2
    batch = uneven()
    assert torch.equal(criterion(*batch), drsl_loss(*batch, distance="euclidean", sort_weight=0.3, temperature=0.2))
    with pytest.raises(ValueError, match="temperature must be a finite number above 0, got 0"):
        criterion.temperature = 0
    with pytest.raises(AttributeError, match="memory_size cannot be set anew"):
        criterion.memory_size = 5
    with pytest.raises(AttributeError, match="nothing"):
        criterion.nothing  # noqa: B018
