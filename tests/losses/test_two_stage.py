"""A step in two stages, against one graph over the same sub-batches and, where it is the same, over the whole batch."""

from __future__ import annotations

import copy
import random
import weakref
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from drsl_plugin import DRSLoss
from drsl_plugin.losses import TwoStage, distributed_drsl_loss, replay
from drsl_plugin.losses.replay import keep_buffers
from drsl_plugin.losses.two_stage import indivisible_batch

LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 3, 3, 0, 1, 2, 3])
IMAGES = torch.randn(12, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Dropped(nn.Module):
    """Drops features by Python's and by numpy's random numbers, as some re-ID layers drop stripes of an image."""

    def forward(self, features: Tensor) -> Tensor:
        mask = torch.ones_like(features)
        mask[:, random.randrange(features.shape[1])] = 0
        mask[:, np.random.randint(features.shape[1])] = 0
        return features * mask


class Counted(nn.Module):
    """Has a buffer that each pass replaces by another tensor, and one that its output depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("absent", None)

    def forward(self, features: Tensor) -> Tensor:
        self.passes = self.passes + 1
        self.scale *= 1.5
        return features * self.scale.clone()


class Network(nn.Module):
    """Logits, two embeddings and a row number for each image, nested; its middle is given."""

    def __init__(self, *middle: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.middle = nn.Sequential(*middle)
        self.embed = nn.Linear(6, 5)
        self.classifier = nn.Linear(5, 4)
        self.unused = nn.Linear(5, 2)
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Any:
        if torch.is_grad_enabled():
            self.sizes.append(len(images))
        features = self.embed(self.middle(self.stem(images)).mean(dim=(2, 3)))
        logits = self.classifier(features)
        return {
            "logits": (logits, torch.arange(len(images))),
            "features": [features, features.sin()],
            "unused": self.unused(features),
            "detached": features.detach(),
        }


ALONE = {  # a sample's output depends on no other
    "group norm": lambda: [nn.GroupNorm(2, 6), nn.Tanh()],
    "batch norm in eval": lambda: [nn.BatchNorm2d(6).eval(), nn.Tanh()],
    "instance norm": lambda: [nn.InstanceNorm2d(6), nn.Tanh()],
}
TOGETHER = {  # it depends on the sub-batch, on random numbers, on the passes before
    "dropout": lambda: [nn.Dropout(0.3), nn.Tanh(), nn.Dropout2d(0.3)],
    "batch norm": lambda: [nn.BatchNorm2d(6), nn.Tanh()],
    "batch norm and dropout": lambda: [nn.BatchNorm2d(6), nn.Dropout(0.5)],
    "cumulative statistics": lambda: [nn.BatchNorm2d(6, momentum=None)],
    "no running statistics": lambda: [nn.BatchNorm2d(6, track_running_stats=False)],
    "instance norm with statistics": lambda: [nn.InstanceNorm2d(6, track_running_stats=True), nn.Tanh()],
    "spectral norm": lambda: [nn.utils.parametrizations.spectral_norm(nn.Conv2d(6, 6, 1))],
    "other random numbers": lambda: [Dropped(), nn.Dropout(0.3)],
    "other buffers": lambda: [Counted(), nn.BatchNorm2d(6)],
}


def network(make: Callable[[], list[nn.Module]]) -> Network:
    torch.manual_seed(2)
    return Network(*make()).double()


def total(outputs: Any) -> Tensor:
    """A loss in which everything depends on everything, of all but one of the outputs."""
    (logits, rows), (first, second) = outputs["logits"], outputs["features"]
    assert logits.shape == (12, 4)
    assert rows.shape == (12,)
    ranking = DRSLoss(temperature=0.3)(first, LABELS) + DRSLoss("euclidean", 0.4)(second, LABELS)
    return ranking + nn.functional.cross_entropy(logits, LABELS) + 0.1 * (outputs["detached"] * second.detach()).sum()


def seed() -> None:
    torch.manual_seed(5)
    random.seed(6)
    np.random.seed(7)


def drawn() -> list[float]:
    """What comes next of each kind of random numbers."""
    return [torch.rand(()).item(), random.random(), float(np.random.rand())]


def two_stages(model: nn.Module, size: int, images: Tensor = IMAGES) -> float:
    step = TwoStage(model, images.split(size))
    loss = total(step.outputs)
    loss.backward()
    step.backward()
    return loss.item()


def one_graph(model: nn.Module, size: int) -> float:
    parts = [model(images) for images in IMAGES.split(size)]
    outputs = {
        "logits": tuple(torch.cat([part["logits"][i] for part in parts]) for i in range(2)),
        "features": [torch.cat([part["features"][i] for part in parts]) for i in range(2)],
        "detached": torch.cat([part["detached"] for part in parts]),
    }
    loss = total(outputs)
    loss.backward()
    return loss.item()


def assert_same(found: nn.Module, expected: nn.Module) -> None:
    """Gradients, and what of the buffers is left."""
    for (name, tensor), other in zip(found.named_parameters(), expected.parameters(), strict=True):
        assert (tensor.grad is None) == (other.grad is None), name
        if other.grad is not None:
            torch.testing.assert_close(tensor.grad, other.grad, rtol=1e-10, atol=1e-12, msg=name)
    assert dict(found.named_buffers()).keys() == dict(expected.named_buffers()).keys()
    for (name, tensor), other in zip(found.named_buffers(), expected.buffers(), strict=True):
        assert torch.equal(tensor, other), name
    assert any(tensor.grad is not None and tensor.grad.abs().max() > 1e-4 for tensor in expected.parameters())


@pytest.mark.parametrize("size", [1, 3, 4, 12])
@pytest.mark.parametrize("make", ALONE.values(), ids=ALONE)
def test_gradient_is_that_of_the_whole_batch(make: Callable[[], list[nn.Module]], size: int) -> None:
    model = network(make)
    expected = copy.deepcopy(model)
    loss = total(expected(IMAGES))
    loss.backward()
    assert two_stages(model, size) == pytest.approx(loss.item(), rel=1e-12)
    assert_same(model, expected)
    assert model.sizes == [size] * (12 // size)
    assert model.unused.weight.grad is None


@pytest.mark.parametrize("size", [2, 6, 12])
@pytest.mark.parametrize("make", TOGETHER.values(), ids=TOGETHER)
def test_gradient_and_buffers_are_those_of_one_graph(make: Callable[[], list[nn.Module]], size: int) -> None:
    """Running statistics, their counts, and the random states afterwards are those of one pass."""
    model = network(make)
    expected = copy.deepcopy(model)
    for _ in range(2):  # another step, from the buffers that the first leaves
        seed()
        loss, then = two_stages(model, size), drawn()
        seed()
        assert one_graph(expected, size) == pytest.approx(loss, rel=1e-12)
        assert then == drawn()
        assert_same(model, expected)


def test_statistics_are_not_updated_twice() -> None:
    model = network(TOGETHER["batch norm"])
    two_stages(model, 3)
    assert model.middle[0].num_batches_tracked == 4


def test_random_numbers_of_the_loss_stay_drawn() -> None:
    model = network(TOGETHER["dropout"])
    step = TwoStage(model, IMAGES.split(4))
    between = drawn()
    total(step.outputs).backward()
    step.backward()
    assert drawn() != between


def test_a_loss_that_stops_the_step_leaves_the_model_as_it_was() -> None:
    model = network(TOGETHER["other buffers"])
    before = copy.deepcopy(model.state_dict())
    owned = model.middle[0].passes
    TwoStage(model, IMAGES.split(4))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.middle[0].passes is owned


def test_frozen_parts_get_nothing() -> None:
    model = network(TOGETHER["batch norm and dropout"])
    model.stem.requires_grad_(False)
    model.middle[0].eval()
    before = copy.deepcopy(model.middle[0].state_dict())
    two_stages(model, 4)
    assert model.stem.weight.grad is None
    assert model.middle[0].weight.grad.abs().max() > 0
    assert all(torch.equal(before[name], tensor) for name, tensor in model.middle[0].state_dict().items())


def test_gradients_add_to_what_is_there() -> None:
    model = network(ALONE["group norm"])
    two_stages(model, 4)
    once = model.embed.weight.grad.clone()
    two_stages(model, 4)
    torch.testing.assert_close(model.embed.weight.grad, 2 * once, rtol=1e-10, atol=1e-12)


def test_no_more_than_a_sub_batch_is_kept_for_backward() -> None:
    model = network(TOGETHER["batch norm and dropout"])
    kept: dict[int, int] = {}

    def bytes_kept(size: int) -> int:
        held, peak = 0, 0

        class Held:
            def __init__(self, tensor: Tensor) -> None:
                nonlocal held, peak
                self.tensor, self.size = tensor, tensor.element_size() * tensor.nelement()
                held += self.size
                peak = max(peak, held)

            def __del__(self) -> None:
                nonlocal held
                held -= self.size

        with torch.autograd.graph.saved_tensors_hooks(Held, lambda each: each.tensor):
            step = TwoStage(model, IMAGES.split(size))
            assert peak == 0
            sum(each.sum() for each in step.outputs["features"]).backward()
            peak = 0
            step.backward()
        return peak

    for size in (2, 4, 12):
        kept[size] = bytes_kept(size)
    weights = sum(each.element_size() * each.nelement() for each in model.parameters())
    assert kept[2] < kept[4] < kept[12]
    assert kept[12] - weights > 5 * (kept[2] - weights) > 0


def test_an_output_that_is_not_used_is_not_kept_either() -> None:
    """Its graph, of which no backward pass frees anything, is gone when the next sub-batch is forwarded."""
    model = network(ALONE["group norm"])
    alive: list[int] = []
    kept: list[weakref.ref[Tensor]] = []

    def look(_module: nn.Module, inputs: Any, outputs: Tensor) -> None:
        if torch.is_grad_enabled():
            alive.append(sum(each() is not None for each in kept))
            kept.append(weakref.ref(outputs))

    model.unused.register_forward_hook(look)
    two_stages(model, 3)
    assert alive == [0, 0, 0, 0]


def test_a_stage_out_of_its_turn_is_an_error() -> None:
    layer = nn.Sequential(nn.Flatten(), nn.LazyLinear(2, dtype=IMAGES.dtype))
    layer(IMAGES)
    step = TwoStage(layer, iter(IMAGES.split(4)))
    with pytest.raises(RuntimeError, match="after the loss's own backward"):
        step.backward()
    step.outputs.sum().backward()
    step.backward()
    before = layer[1].bias.grad.clone()
    with pytest.raises(RuntimeError, match="added twice"):
        step.backward()
    assert torch.equal(layer[1].bias.grad, before)


@pytest.mark.parametrize(("sub_batches", "got"), [([], "got none"), (IMAGES, "got a tensor of shape")])
def test_no_sub_batches_are_named(sub_batches: Any, got: str) -> None:
    with pytest.raises(ValueError, match=f"sub_batches must be .* {got}"):
        TwoStage(nn.Flatten(), sub_batches)


def test_the_memory_of_a_loss_in_the_model_is_left_alone() -> None:
    """As FastReID's architectures hold their losses; it may be large, and a pass does not change it."""
    model = nn.Sequential(nn.BatchNorm1d(3), DRSLoss(memory_size=4))
    memory = model[1].memory
    memory.store(torch.zeros(4, 3), torch.arange(4))
    with keep_buffers(model):
        model[0].running_mean += 1
        memory.embeddings += 1
    assert model[0].running_mean.tolist() == [0, 0, 0]
    assert (memory.embeddings == 1).all()


def test_random_states_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two devices, of which each draw of the model moves the one: played by numbers."""
    states = {0: 10, 1: 20}
    drawn_from: list[tuple[int, int]] = []

    class Drawing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            drawn_from.append((states[0], states[1]))
            states[1] += 1
            return images

    monkeypatch.setattr(replay, "_list_cuda_devices", lambda model: [0, 1])
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.tensor(states[device]))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: states.update({device: int(state)}))
    step = TwoStage(Drawing(), IMAGES.split(4))
    states[0] += 5  # by the loss
    step.outputs.sum().backward()
    step.backward()
    assert drawn_from == [(10, 20), (10, 21), (10, 22)] * 2
    assert states == {0: 15, 1: 23}


@pytest.mark.skipif(torch.__version__.startswith("1."), reason="torch 1 normalises no bfloat16 on the CPU")
@pytest.mark.parametrize("where", ["around all", "in each pass"])
def test_autocast(where: str) -> None:
    """Weights that autocast has cast without a graph, or in one that is gone, are not taken again."""
    model = network(ALONE["group norm"]).float()
    expected = copy.deepcopy(model)
    images = IMAGES.float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = total(expected(images))
    loss.backward()
    if where == "around all":
        with torch.autocast("cpu", torch.bfloat16):
            two_stages(model, 4, images)
    else:
        step = TwoStage(model, images.split(4), lambda: torch.autocast("cpu", torch.bfloat16))
        assert step.outputs["features"][0].dtype == torch.bfloat16
        assert model.stem(images).dtype == torch.float32
        total(step.outputs).backward()
        step.backward()
    for (name, tensor), other in zip(model.named_parameters(), expected.named_parameters(), strict=True):
        if other[1].grad is not None:
            assert (tensor.grad - other[1].grad).norm() <= 0.1 * other[1].grad.norm(), name


def test_one_tensor_and_data_parallel() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 5)).double()
    wrapped = nn.DataParallel(copy.deepcopy(model))
    for each in (model, wrapped):
        torch.manual_seed(1)
        step = TwoStage(each, IMAGES.split(3))
        DRSLoss()(step.outputs, LABELS).backward()
        step.backward()
    assert torch.equal(model[2].weight.grad, wrapped.module[2].weight.grad)
    assert wrapped.module[2].weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("model", "shapes"),
    [
        (lambda images: images.sum(), r"\(\)"),
        (lambda images: (images, images[:1]), r"\(3, 3, 4, 4\), \(1, 3, 4, 4\)"),
        (lambda images: None, ""),
    ],
    ids=["a loss", "a row less", "nothing"],
)
def test_outputs_without_a_row_for_each_sample_are_refused(model: Any, shapes: str) -> None:
    class Model(nn.Module):
        def forward(self, images: Tensor) -> Any:
            return model(images)

    with pytest.raises(ValueError, match=f"a row for each sample, got shapes {shapes}"):
        TwoStage(Model(), IMAGES.split(3))


@pytest.mark.parametrize(
    ("size", "problem"),
    [
        (0, ""),
        (1, ""),
        (12, ""),
        (-1, "must be 0 (off) or above"),
        (5, "does not divide a batch; 4 or 6 would do (0 is off)"),
        (7, "does not divide a batch; 6 or 12 would do (0 is off)"),
        (13, "does not divide a batch; 12 would do (0 is off)"),
    ],
)
def test_sizes_that_do_not_divide_are_told(size: int, problem: str) -> None:
    found = [str(error) for error in indivisible_batch(size, 12, "a batch")]
    assert found == ([f"sub_batch {size}: {problem}"] if problem else [])


# Two processes


class Wide(Network):
    """The one embedding or the logits too, so that what is unused differs."""

    def forward(self, images: Tensor) -> Any:
        outputs = super().forward(images)
        return outputs["features"][0], outputs["logits"][0]


PROCESSES = {"all parameters": (True, False), "looks for unused": (True, True), "no classes": (False, True)}


def loss_of(outputs: tuple[Tensor, Tensor], labels: Tensor, classes: bool) -> Tensor:
    share, _ = distributed_drsl_loss(DRSLoss(temperature=0.3), outputs[0], labels)
    return share + classes * nn.functional.cross_entropy(outputs[1], labels) if classes else share


def wide() -> Wide:
    torch.manual_seed(2)
    model = Wide(nn.GroupNorm(2, 6), nn.Dropout(0.0)).double()
    model.unused.requires_grad_(False)
    return model


def counted_reduction(reduced, bucket):  # torch looks at annotations, which are strings here
    reduced.append(bucket.index())
    return default_hooks.allreduce_hook(dist.group.WORLD, bucket)


def in_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    gradients = {}
    for name, (classes, find_unused) in PROCESSES.items():
        model = DistributedDataParallel(wide(), find_unused_parameters=find_unused)
        reduced = []
        model.register_comm_hook(reduced, counted_reduction)
        for _ in range(2):  # a second step shows whether the first was finished
            model.zero_grad()
            step = TwoStage(model, IMAGES.chunk(2)[rank].split(2))
            loss_of(step.outputs, LABELS.chunk(2)[rank], classes).backward()
            step.backward()
        gradients[name] = {key: tensor.grad for key, tensor in model.module.named_parameters()}
        assert model.module.sizes == [2] * 6
        assert len(reduced) == 2  # once a step
    torch.save(gradients, f"{folder}/{rank}.pth")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(in_process, (str(tmp_path),), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pth") for rank in range(2)]
    for name, (classes, _) in PROCESSES.items():
        model = wide()
        loss_of(model(IMAGES), LABELS, classes).backward()
        for key, tensor in model.named_parameters():
            for each in found:
                gradient = each[name][key]
                assert (gradient is None) == (tensor.grad is None), (name, key)
                if gradient is not None:
                    torch.testing.assert_close(gradient, tensor.grad, rtol=1e-9, atol=1e-12, msg=f"{name} {key}")
