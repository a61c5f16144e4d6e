"""``loss.drsl.sub_batch``: a step in sub-batches is the step on one graph, and it reaches the engine from a command."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchreid
from torch import Tensor, nn

from drsl_plugin import DRSLoss
from drsl_plugin.errors import DRSLError
from drsl_plugin.torchreid import ImageDRSLEngine, VideoDRSLEngine

Options = Callable[..., list[str]]
PIDS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])
IMAGES = torch.randn(8, 3, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Model(nn.Module):
    """Logits and features; ``several`` gives a list or tuple of each, as PCB and HACNN do."""

    def __init__(self, several: bool = False, norm: type[nn.Module] = nn.Identity, dropout: float = 0.0) -> None:
        super().__init__()
        self.several = several
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(24, 5), norm(5), nn.Tanh(), nn.Dropout(dropout))
        self.classifier = nn.Linear(5, 3)
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Any:
        self.sizes.append(len(images))
        features = self.body(images)
        logits = self.classifier(features)
        if self.several:
            return [logits, 2 * logits], (features, features.pow(2) - features)
        return logits, features


class InPieces(nn.Module):
    """The oracle: one graph over the sub-batches of a model."""

    def __init__(self, model: nn.Module, size: int) -> None:
        super().__init__()
        self.model, self.size = model, size

    def forward(self, images: Tensor) -> Any:
        return joined([self.model(piece) for piece in images.split(self.size)])


def joined(outputs: Any) -> Any:
    if isinstance(outputs[0], Tensor):
        return torch.cat(outputs)
    return tuple(joined(each) for each in zip(*outputs, strict=True))


def engine(model: nn.Module, kind: type = ImageDRSLEngine, **settings: Any) -> Any:
    datamanager = SimpleNamespace(train_loader=[], test_loader={}, num_train_pids=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return kind(datamanager, model, optimizer, DRSLoss(temperature=0.2), **{"use_gpu": False, **settings})


def steps(engine: Any, data: dict[str, Tensor] | None = None, count: int = 3) -> list[dict[str, float]]:
    torch.manual_seed(4)
    return [engine.forward_backward(data or {"img": IMAGES, "pid": PIDS}) for _ in range(count)]


def assert_same(found: nn.Module, expected: nn.Module, start: nn.Module) -> None:
    assert [name for name, _ in found.state_dict().items()] == [name for name, _ in expected.state_dict().items()]
    for (name, tensor), other in zip(found.state_dict().items(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(tensor, other, rtol=1e-9, atol=1e-11, msg=name)
    moved = [not torch.equal(a, b) for a, b in zip(found.parameters(), start.parameters(), strict=True)]
    assert any(moved)


@pytest.mark.parametrize("size", [1, 2, 8])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 0.0), (0.0, 2.0)])
@pytest.mark.parametrize("several", [False, True])
def test_step_is_that_of_the_whole_batch(several: bool, weights: tuple[float, float], size: int) -> None:
    model = Model(several).double()
    expected, start = copy.deepcopy(model), copy.deepcopy(model)
    settings = {"weight": weights[0], "weight_x": weights[1]}
    found = steps(engine(model, sub_batch=size, **settings))
    for one, other in zip(found, steps(engine(expected, **settings)), strict=True):
        assert one == pytest.approx(other, rel=1e-9)
    assert_same(model, expected, start)
    assert model.sizes == [size] * (3 * 2 * 8 // size)


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("several", [False, True])
def test_step_and_statistics_are_those_of_one_graph(several: bool, size: int) -> None:
    model = Model(several, nn.BatchNorm1d, 0.3).double()
    start = copy.deepcopy(model)
    expected = InPieces(copy.deepcopy(model), size)
    found, then = steps(engine(model, sub_batch=size)), torch.rand(3)
    for one, other in zip(found, steps(engine(expected)), strict=True):
        assert one == pytest.approx(other, rel=1e-9)
    assert torch.equal(then, torch.rand(3))
    assert_same(model, expected.model, start)
    assert model.body[2].num_batches_tracked == 3 * 8 // size


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_sub_batch_in_video_is_of_tracklets(size: int) -> None:
    model = Model(norm=nn.BatchNorm1d).double()
    start = copy.deepcopy(model)
    expected = InPieces(copy.deepcopy(model), 2 * size)
    clips = {"img": IMAGES.view(4, 2, 3, 4, 2), "pid": torch.tensor([0, 1, 0, 2])}  # four tracklets of two frames
    found = steps(engine(model, VideoDRSLEngine, sub_batch=size), clips)
    assert found[-1] == pytest.approx(steps(engine(expected, VideoDRSLEngine), clips)[-1], rel=1e-9)
    assert_same(model, expected.model, start)
    assert set(model.sizes) == {2 * size}


@pytest.mark.parametrize(("name", "input_size"), [("hacnn", (160, 64)), ("pcb_p4", (64, 32))])
def test_torchreids_models_with_several_outputs(name: str, input_size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = torchreid.models.build_model(name, 3, loss="triplet", pretrained=False, use_gpu=False).train()
    start = copy.deepcopy(model)
    expected = InPieces(copy.deepcopy(model), 2)
    data = {"img": torch.randn(6, 3, *input_size), "pid": PIDS[:6]}
    (summary,) = steps(engine(model, sub_batch=2), data, count=1)
    (other,) = steps(engine(expected), data, count=1)
    assert summary == pytest.approx(other, rel=1e-4)
    for (key, tensor), truth, before in zip(
        model.state_dict().items(), expected.model.state_dict().values(), start.state_dict().values(), strict=True
    ):
        if tensor.is_floating_point():
            assert (tensor - truth).norm() <= 1e-2 * (truth - before).norm() + 1e-5, key
        else:
            assert tensor == truth > before, key


def test_nan_stops_before_the_step_and_leaves_the_model_as_it_was() -> None:
    model = Model(norm=nn.BatchNorm1d).double()
    before = copy.deepcopy(model.state_dict())
    images = IMAGES.clone()
    images[5, 0, 0, 0] = float("nan")
    made = engine(model, sub_batch=2)
    made.epoch = 0
    with pytest.raises(DRSLError, match="epoch 1, step 1: NaN"):
        made.forward_backward({"img": images, "pid": PIDS})
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_batch_that_it_does_not_divide() -> None:
    with pytest.raises(DRSLError, match=r"loss\.drsl\.sub_batch 3: does not divide a batch of 8; 2 or 4 would do"):
        steps(engine(Model().double(), sub_batch=3))


def test_a_single_sample_and_batch_norm() -> None:
    with pytest.raises(DRSLError, match=r"^loss\.drsl\.sub_batch 1: .*more than 1 value per channel"):
        steps(engine(Model(norm=nn.BatchNorm1d).double(), sub_batch=1))


@pytest.mark.parametrize("value", [-1, 2.0, None])
def test_bad_values_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=f"sub_batch must be an integer, 0 .* got {value}"):
        engine(Model(), sub_batch=value)
