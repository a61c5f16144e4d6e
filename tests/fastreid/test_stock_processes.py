"""What keeps FastReID from training in several processes without a GPU, and the way round it.

When the half of a test fails that asks the stock toolbox, FastReID or torch has mended the fault, and the function that
the docstring names can go.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed as dist
from torch import nn
from toys import Images, Toy, batches, config

from drsl_plugin.fastreid import compat
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.processes import _do_with_gloo, _Job, launch

NEEDS_NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="the fault is one of machines without CUDA")


@pytest.fixture
def one_process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", world_size=1, rank=0)
    yield
    dist.destroy_process_group()


class ToyLoader(list[Any]):
    """Batches, and the set that they are of."""

    dataset: Any = Images()


class ToyTrainer(fastreid.engine.DefaultTrainer):  # type: ignore[misc]
    """FastReID's own trainer, of the toy."""

    @classmethod
    def build_model(cls, cfg: Any) -> Any:
        return Toy()

    @classmethod
    def build_train_loader(cls, cfg: Any) -> Any:
        return ToyLoader(batches(2))

    def build_hooks(self) -> list[Any]:
        return []


@NEEDS_NO_CUDA
@pytest.mark.usefixtures("one_process_group", "log_handlers")
def test_stock_wrapper_takes_no_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the first half fails, FastReID wraps a model on the CPU, and ``compat.wrap_without_cuda`` can go."""
    monkeypatch.setattr(fastreid.utils.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(fastreid.utils.comm, "get_local_rank", lambda: 0)
    cfg = config("SOLVER.IMS_PER_BATCH", 2)
    with pytest.raises(ValueError, match="device_ids"):
        ToyTrainer(cfg)
    stock = fastreid.engine.defaults.DistributedDataParallel
    with compat.wrap_without_cuda(cfg):
        model = ToyTrainer(cfg).model
    assert isinstance(model, nn.parallel.DistributedDataParallel)
    assert isinstance(model.module, Toy)
    assert fastreid.engine.defaults.DistributedDataParallel is stock


@pytest.mark.usefixtures("one_process_group")
@pytest.mark.parametrize(
    ("names", "unused"), [(("CrossEntropyLoss", "DRSLoss"), False), (("DRSLoss",), True), (("TripletLoss",), True)]
)
def test_a_classifier_without_gradient_is_allowed_for(names: tuple[str, ...], unused: bool) -> None:
    with compat.wrap_without_cuda(config("MODEL.LOSSES.NAME", names)):
        wrapped = fastreid.engine.defaults.DistributedDataParallel(Toy(), device_ids=[0], broadcast_buffers=False)
    assert wrapped.find_unused_parameters is unused
    assert wrapped.broadcast_buffers is False


def test_on_cuda_the_wrapper_gets_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "DistributedDataParallel", lambda model, **kwargs: kwargs)
    with compat.wrap_without_cuda(config("MODEL.DEVICE", "cuda")):
        kwargs = fastreid.engine.defaults.DistributedDataParallel(None, device_ids=[1], broadcast_buffers=False)
    assert kwargs == {"device_ids": [1], "broadcast_buffers": False, "find_unused_parameters": False}


@NEEDS_NO_CUDA
def test_stock_launch_needs_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the first half fails, FastReID starts processes on CPUs, and ``processes._do_with_gloo`` can go."""
    stock = importlib.import_module("fastreid.engine.launch")
    meeting = f"file://{tmp_path}/meeting"
    with pytest.raises(AssertionError, match="cuda is not available"):
        stock._distributed_worker(0, print, 1, 1, 0, meeting, ())
    assert not dist.is_initialized()

    comm = fastreid.utils.comm
    monkeypatch.setattr(comm, "_LOCAL_PROCESS_GROUP", None)
    seen: list[Any] = []

    def main_func(word: str) -> None:
        seen.append((word, dist.get_backend(), comm.get_rank(), comm.get_local_rank(), comm.get_local_size()))

    _do_with_gloo(0, _Job(main_func, ("word",), None), 1, 1, 0, meeting)
    assert seen == [("word", "gloo", 0, 0, 1)]
    assert not dist.is_initialized()


def test_one_process_is_this_one() -> None:
    assert launch(lambda *numbers: (os.getpid(), sum(numbers)), 1, args=(1, 2)) == (os.getpid(), 3)


def test_no_gpu_is_one_process() -> None:
    """As in FastReID, where ``--num-gpus 0`` trains in this process."""
    done: list[int] = []
    fastreid.engine.launch(done.append, 0, args=(1,))
    launch(done.append, 0, args=(2,))
    assert done == [1, 2]


def test_stock_processes_keep_their_own_buffers() -> None:
    """When this fails, FastReID's processes share their buffers, and ``compat.share_buffers`` can go.

    That it works, ``test_the_evaluation_of_a_training_is_of_what_it_saves`` shows.
    """
    assert "broadcast_buffers=False" in inspect.getsource(fastreid.engine.defaults.DefaultTrainer.__init__)
