"""``MODEL.LOSSES.DRSL.SUB_BATCH``: FastReID's step in sub-batches, against its own and against one graph over them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from loops import ALONE, HEADS, NAME, TOGETHER, loop_of, small_mgn, taken
from torch import Tensor

from drsl_plugin.errors import DRSLError
from drsl_plugin.fastreid.config import get_cfg
from drsl_plugin.fastreid.problems import config_problems
from drsl_plugin.fastreid.sub_batches import step_in_sub_batches

Options = Callable[..., list[str]]
SUB_BATCH = "MODEL.LOSSES.DRSL.SUB_BATCH"


def assert_same(found: Any, expected: Any, start: Any) -> None:
    assert found.state_dict().keys() == expected.state_dict().keys()
    for (name, tensor), other in zip(found.state_dict().items(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(tensor, other, rtol=1e-9, atol=1e-11, msg=name)
    for (name, tensor), other in zip(found.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(tensor.grad, other.grad, rtol=1e-9, atol=1e-11, msg=f"gradient of {name}")
    assert any(not torch.equal(a, b) for a, b in zip(found.parameters(), start.parameters(), strict=True))


@pytest.mark.parametrize("size", [1, 4, 8])
@pytest.mark.parametrize("changes", HEADS.values(), ids=HEADS)
def test_step_and_logs_are_fastreids_own(changes: dict[str, Any], size: int) -> None:
    found, expected = loop_of(**ALONE, **changes), loop_of(**ALONE, **changes)
    start = copy.deepcopy(found.model)
    forwarded: list[tuple[int, bool]] = []
    found.model.backbone.register_forward_pre_hook(
        lambda _, inputs: forwarded.append((len(inputs[0]), torch.is_grad_enabled()))
    )
    logs = taken(lambda: step_in_sub_batches(found, size))
    for one, other in zip(logs, taken(expected.run_step), strict=True):
        assert one == pytest.approx(other, rel=1e-9)
    assert {"total_loss", "drsl_ap", "drsl_above_all", "cls_accuracy"} <= logs[0].keys()
    assert_same(found.model, expected.model, start)
    assert forwarded == 2 * [(size, graph) for graph in (False, True) for _ in range(8 // size)]
    assert "losses" not in vars(found.model)


def one_graph(loop: Any, size: int) -> None:
    """The oracle: the losses of sub-batches that are forwarded one by one and kept, each on its graph."""
    model, data = loop.model, next(loop._data_loader_iter)
    images = (data["images"] - model.pixel_mean) / model.pixel_std
    pieces = zip(images.split(size), data["targets"].split(size), strict=True)
    outputs = [heads_of(model, piece, targets) for piece, targets in pieces]
    whole = [{key: torch.cat([each[key] for each in of_head]) for key in of_head[0]} for of_head in zip(*outputs)]  # noqa: B905
    losses = model.losses(*whole, data["targets"])
    loop.optimizer.zero_grad()
    sum(losses.values()).backward()
    loop._write_metrics(losses, 0.0)
    loop.optimizer.step()


def heads_of(model: Any, images: Tensor, targets: Tensor) -> list[dict[str, Tensor]]:
    features = model.backbone(images)
    if not hasattr(model, "b1_head"):
        return [model.heads(features, targets)]
    b1, b2, b3 = model.b1(features), model.b2(features), model.b3(features)
    parts = {"b1": b1, "b2": b2}
    parts.update(zip(("b21", "b22"), b2.chunk(2, dim=2), strict=True))
    parts["b3"] = b3
    parts.update(zip(("b31", "b32", "b33"), b3.chunk(3, dim=2), strict=True))
    return [getattr(model, f"{name}_head")(part, targets) for name, part in parts.items()]


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("changes", HEADS.values(), ids=HEADS)
def test_step_and_statistics_are_those_of_one_graph(changes: dict[str, Any], size: int) -> None:
    found, expected = loop_of(**TOGETHER, **changes), loop_of(**TOGETHER, **changes)
    start = copy.deepcopy(found.model)
    logs, then = taken(lambda: step_in_sub_batches(found, size)), torch.rand(3)
    for one, other in zip(logs, taken(lambda: one_graph(expected, size)), strict=True):
        assert one == pytest.approx(other, rel=1e-9)
    assert torch.equal(then, torch.rand(3))
    assert_same(found.model, expected.model, start)
    assert found.model.backbone[1].num_batches_tracked == 2 * 8 // size
    assert found.model.heads.bottleneck[0].num_batches_tracked == 2 * 8 // size


@pytest.mark.parametrize("size", [2, 4])
def test_mgn(size: int) -> None:
    settings = {**TOGETHER, NAME: ("CrossEntropyLoss", "TripletLoss", "DRSLoss"), "MODEL.LOSSES.DRSL.SCALE": 3.0}
    found, expected = loop_of(small_mgn, **settings), loop_of(small_mgn, **settings)
    start = copy.deepcopy(found.model)
    logs = taken(lambda: step_in_sub_batches(found, size))
    for one, other in zip(logs, taken(lambda: one_graph(expected, size)), strict=True):
        assert one == pytest.approx(other, rel=1e-9)
    assert {"loss_drsl_b33", "loss_triplet_b1", "loss_cls_b21", "drsl_ap"} <= logs[0].keys()
    assert_same(found.model, expected.model, start)


def test_frozen_layers_stay() -> None:
    loop = loop_of(**TOGETHER)
    loop.model.backbone.eval()
    before = copy.deepcopy(loop.model.state_dict())
    taken(lambda: step_in_sub_batches(loop, 4))
    after = loop.model.state_dict()
    assert {key for key in after if "running" in key and not torch.equal(after[key], before[key])} == {
        "heads.bottleneck.0.running_mean",
        "heads.bottleneck.0.running_var",
    }


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize("scale", [1024.0, 3.0])
def test_gradients_are_scaled_as_the_loss_is(scale: float) -> None:
    """Mixed precision's scaler, on the CPU and without its casts."""
    scaler_class = getattr(torch.amp, "GradScaler", None)
    if scaler_class is None:
        pytest.skip("this torch has a scaler for CUDA alone")
    found, expected = loop_of(**ALONE), loop_of(**ALONE)
    found.grad_scaler = scaler_class("cpu", init_scale=scale)
    start = found.model.backbone[0].weight.detach().clone()
    (logs, *_) = taken(lambda: step_in_sub_batches(found, 2))
    assert logs == pytest.approx(taken(expected.run_step)[0], rel=1e-9)
    for one, other in zip(found.model.parameters(), expected.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-6, atol=1e-9)  # unscaled for the step
    assert not torch.equal(start, found.model.backbone[0].weight)


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
def test_gradients_that_overflow_skip_the_step() -> None:
    scaler_class = getattr(torch.amp, "GradScaler", None)
    if scaler_class is None:
        pytest.skip("this torch has a scaler for CUDA alone")
    loop = loop_of(**ALONE)
    loop.grad_scaler = scaler_class("cpu", init_scale=float("inf"))
    before = copy.deepcopy(loop.model.state_dict())
    taken(lambda: step_in_sub_batches(loop, 2), count=1)
    assert all(torch.equal(before[key], value) for key, value in loop.model.state_dict().items())


# Bad input


def problems(processes: int = 1, evaluate_only: bool = False, **changes: Any) -> list[str]:
    cfg = get_cfg()
    settings = {
        "MODEL.DEVICE": "cpu",
        "DATALOADER.SAMPLER_TRAIN": "NaiveIdentitySampler",
        NAME: ("DRSLoss",),
        **changes,
    }
    cfg.merge_from_list([word for pair in settings.items() for word in pair])
    lines = map(str, config_problems(cfg, processes, evaluate_only=evaluate_only))
    return [line for line in lines if SUB_BATCH in line]


def test_sizes_that_do_not_divide_are_told() -> None:
    batch = {"SOLVER.IMS_PER_BATCH": 64}
    (line,) = problems(**batch, **{SUB_BATCH: 24})
    assert line == f"{SUB_BATCH} 24: does not divide SOLVER.IMS_PER_BATCH 64; 16 or 32 would do (0 is off)"
    (line,) = problems(2, **batch, **{SUB_BATCH: 64})
    assert line == (
        f"{SUB_BATCH} 64: does not divide the 32 images of each of 2 processes (SOLVER.IMS_PER_BATCH 64); "
        "32 would do (0 is off)"
    )
    assert problems(**batch, **{SUB_BATCH: -1}) == [f"{SUB_BATCH} -1: must be 0 (off) or above"]
    for fitting in (0, 1, 16, 32):
        assert problems(2, **batch, **{SUB_BATCH: fitting}) == []
    assert problems(**batch, **{SUB_BATCH: 24}, evaluate_only=True) == []
    assert problems(**batch, **{SUB_BATCH: 24, NAME: ("TripletLoss",)}) == []


def test_an_architecture_without_losses_of_outputs() -> None:
    loop = loop_of(**ALONE)
    loop.model.forward = lambda inputs: {"loss_drsl": inputs["images"].sum()}
    with pytest.raises(DRSLError, match=f"^{SUB_BATCH} 4: .*a row for each sample"):
        taken(lambda: step_in_sub_batches(loop, 4))
    assert "losses" not in vars(loop.model)
