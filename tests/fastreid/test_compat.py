"""What keeps FastReID from training on today's torch or without a GPU, and the way round it.

When the half of a test fails that asks the stock toolbox, FastReID or torch has mended the fault, and the function that
the docstring names can go.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from toys import Toy, batches, build_test_loader, config, take_steps

from drsl_plugin.fastreid import compat
from drsl_plugin.fastreid.compat import (
    keep_gradient_buffers,
    use_plain_loaders,
)
from drsl_plugin.fastreid.config import get_cfg
from drsl_plugin.fastreid.host import fastreid

NEEDS_NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="the fault is one of machines without CUDA")
TORCH = tuple(int(number) for number in torch.__version__.split(".")[:2])


@pytest.mark.skipif(TORCH < (2, 0), reason="zero_grad drops the gradients since torch 2.0")
@pytest.mark.parametrize("clip", [False, True], ids=["plain", "clipped"])
@pytest.mark.parametrize("opt", ["SGD", "Adam"])
def test_stock_trainer_moves_no_parameter(opt: str, clip: bool) -> None:
    """When the first half fails, FastReID trains on torch 2, and ``compat.keep_gradient_buffers`` can go."""
    cfg = config("SOLVER.OPT", opt, "SOLVER.CLIP_GRADIENTS.ENABLED", clip, "SOLVER.WEIGHT_DECAY", 0.0)
    model = Toy()
    before = model.weights()
    take_steps(model, *fastreid.solver.build_optimizer(cfg, model))
    assert all(torch.equal(*pair) for pair in zip(before, model.weights(), strict=True))

    model = Toy()
    optimizer, wrapper = fastreid.solver.build_optimizer(cfg, model)
    keep_gradient_buffers(optimizer)
    take_steps(model, optimizer, wrapper)
    assert all(not torch.equal(*pair) for pair in zip(before, model.weights(), strict=True))


@pytest.mark.parametrize("opt", ["SGD", "Adam"])
def test_training_is_what_torch_makes_of_it(opt: str) -> None:
    """Each step's gradient alone counts, as where the gradients are dropped between two steps."""
    cfg = config("SOLVER.OPT", opt, "SOLVER.WEIGHT_DECAY", 0.0, "SOLVER.WEIGHT_DECAY_BIAS", 0.0)
    ours = Toy()
    optimizer, wrapper = fastreid.solver.build_optimizer(cfg, ours)
    keep_gradient_buffers(optimizer)
    take_steps(ours, optimizer, wrapper)

    truth = Toy()
    settings = {"momentum": cfg.SOLVER.MOMENTUM, "nesterov": cfg.SOLVER.NESTEROV} if opt == "SGD" else {}
    reference = getattr(torch.optim, opt)(truth.parameters(), lr=0.1, **settings)
    for data in batches(3):
        reference.zero_grad()
        sum(truth(data).values()).backward()
        reference.step()
    for mine, theirs in zip(ours.weights(), truth.weights(), strict=True):
        torch.testing.assert_close(mine, theirs)


@NEEDS_NO_CUDA
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_stock_loader_needs_cuda() -> None:
    """When the first half fails, FastReID loads images without CUDA, and ``compat.use_plain_loaders`` can go."""
    stock = fastreid.data.build.DataLoaderX
    with pytest.raises((RuntimeError, AssertionError)):
        build_test_loader()
    with use_plain_loaders("cpu", workers=0):
        loader = build_test_loader()
    assert fastreid.data.build.DataLoaderX is stock
    assert (loader.num_workers, loader.pin_memory) == (0, False)
    for _ in range(2):
        assert [batch["targets"].tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5]]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("asked", "started"), [(0, 0), (1, 1), (9, 4)])
def test_no_more_workers_are_started_than_asked_for(asked: int, started: int) -> None:
    with use_plain_loaders("cpu", workers=asked):
        assert build_test_loader(workers=4).num_workers == started


def test_loaders_on_cuda_are_fastreids_own() -> None:
    stock = fastreid.data.build.DataLoaderX
    with use_plain_loaders("cuda:0", workers=0):
        assert fastreid.data.build.DataLoaderX is stock


def test_loaders_are_put_back_after_an_error() -> None:
    stock = fastreid.data.build.DataLoaderX
    with pytest.raises(ZeroDivisionError), use_plain_loaders("cpu", workers=0):
        raise ZeroDivisionError
    assert fastreid.data.build.DataLoaderX is stock


def test_stock_model_changes_its_images() -> None:
    """When the first half fails, FastReID leaves the images of a batch alone, and ``compat.keep_images`` can go."""
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.DEPTH", "18x", "MODEL.BACKBONE.FEAT_DIM", 512])
    model = fastreid.modeling.build_model(cfg).eval()
    images = torch.full((1, 3, 32, 32), 200.0)
    with torch.no_grad(), compat.keep_images(model):
        kept = model({"images": images})
    assert images.eq(200).all()
    with torch.no_grad():
        torch.testing.assert_close(model({"images": images}), kept)
    assert not images.eq(200).any()


def test_stock_trainer_evaluates_before_it_saves() -> None:
    """When it fails, FastReID saves before it evaluates, and ``safekeeping.kept_while_evaluated`` can go."""
    model = Toy()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parts = {"model": model, "optimizer": optimizer, "scheduler": {}, "checkpointer": None, "build_writers": list}
    hooks = fastreid.engine.DefaultTrainer.build_hooks(SimpleNamespace(cfg=get_cfg(), **parts))
    kinds = [type(hook).__name__ for hook in hooks]
    assert kinds.index("EvalHook") < kinds.index("PeriodicCheckpointer")
