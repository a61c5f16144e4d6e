"""What keeps FastReID from training on today's torch or without a GPU; one function a cause.

The numbers F1, F5, … are those of the table in the README's "When something is wrong" and of ``drsl doctor``.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from drsl_plugin.errors import DRSLError
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.toolbox.patching import replaced
from drsl_plugin.toolbox.types import ConfigNode


def keep_gradient_buffers(optimizer: torch.optim.Optimizer) -> None:
    """Let ``zero_grad`` fill the gradients with zeros instead of dropping them (F1).

    Cause: FastReID's ``ContiguousParams`` bends the gradients of all parameters into a few buffers that the optimizer
    steps on, and its loop calls ``zero_grad()``, which since torch 2.0 drops them: the parameters never move. All
    distributions. To see it gone: ``test_stock_trainer_moves_no_parameter``.

    Args:
        optimizer: of ``fastreid.solver.build_optimizer``.
    """
    zero_grad = functools.partial(type(optimizer).zero_grad, optimizer, set_to_none=False)
    optimizer.zero_grad = zero_grad  # type: ignore[method-assign]


@contextlib.contextmanager
def use_plain_loaders(device: str, workers: int) -> Iterator[None]:
    """Build loaders that need no CUDA (F5).

    Cause: ``DataLoaderX`` makes a CUDA stream when it is built; all distributions. To see it gone:
    ``test_stock_loader_needs_cuda``. On the CPU ``build_reid_test_loader`` starts no more workers than asked for, where
    FastReID starts four whatever ``DATALOADER.NUM_WORKERS`` says.

    Args:
        device: ``MODEL.DEVICE``; on CUDA nothing changes.
        workers: ``DATALOADER.NUM_WORKERS``.
    """
    if not is_cpu(device):
        yield
        return

    class PlainLoader(DataLoader[Any]):
        def __init__(self, local_rank: int, **kwargs: Any) -> None:
            kwargs.update(pin_memory=False, num_workers=min(kwargs.get("num_workers", 0), workers))
            super().__init__(**kwargs)

        def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
            yield from super().__iter__()  # workers start with the first batch, not before

    with replaced(fastreid.data.build, "DataLoaderX", PlainLoader):
        yield


@contextlib.contextmanager
def wrap_without_cuda(cfg: ConfigNode) -> Iterator[None]:
    """Let the trainer wrap a model that is on the CPU, or whose classifier gets no gradient (F13).

    Cause: ``DefaultTrainer`` gives ``DistributedDataParallel`` the process's rank as ``device_ids``, a ValueError on
    the CPU; and that expects a gradient for every parameter, which the classifier has only with ``CrossEntropyLoss``.
    All distributions. To see it gone: ``test_stock_wrapper_takes_no_cpu``.
    """

    def wrap(model: torch.nn.Module, **kwargs: Any) -> DistributedDataParallel:
        if is_cpu(cfg.MODEL.DEVICE):
            kwargs.pop("device_ids", None)
        kwargs["find_unused_parameters"] = "CrossEntropyLoss" not in cfg.MODEL.LOSSES.NAME
        return DistributedDataParallel(model, **kwargs)

    with replaced(fastreid.engine.defaults, "DistributedDataParallel", wrap):
        yield


def share_buffers(model: torch.nn.Module) -> None:
    """Give every process the buffers of the first one, whose checkpoint holds them.

    Cause: FastReID's processes keep batch norm's running statistics each for itself (``broadcast_buffers=False``), and
    each evaluates its share of the images with its own: the result is not that of the model that is saved. All
    distributions. To see it gone: ``test_stock_processes_keep_their_own_buffers``.
    """
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


@contextlib.contextmanager
def keep_images(model: torch.nn.Module) -> Iterator[None]:
    """Keep a model from normalising the images of a batch in place.

    Cause: ``Baseline`` and ``MGN`` do, so that with ``TEST.FLIP.ENABLED`` the flipped images are normalised twice. All
    distributions. To see it gone: ``test_stock_model_changes_its_images``.
    """

    def give_a_copy(module: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if args and isinstance(args[0], dict) and "images" in args[0]:
            return ({**args[0], "images": args[0]["images"].clone()}, *args[1:])
        return None

    handle = model.register_forward_pre_hook(give_a_copy)
    try:
        yield
    finally:
        handle.remove()


class FrozenSteps:
    """The number of steps for which ``MODEL.FREEZE_LAYERS`` have been frozen, for checkpoints to hold (F12).

    Cause: ``fastreid.solver.build`` counts them in a variable of a closure around the optimizer's ``step``, so that a
    resumed run freezes the layers once more. All distributions. To see it gone: ``test_stock_resume_freezes_again``.

    Args:
        optimizer: of ``fastreid.solver.build_optimizer``.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        """Find the variable; none where nothing is ever frozen."""
        step: Any = type(optimizer).step
        while step is not None and "freeze_iters" not in step.__code__.co_freevars:
            step = getattr(step, "__wrapped__", None)  # torch wraps `step`, to profile it
        self._cell = step and step.__closure__[step.__code__.co_freevars.index("cnt")]

    def state_dict(self) -> dict[str, int]:
        """Return the number, 0 where nothing is ever frozen."""
        return {"steps": int(self._cell.cell_contents) if self._cell else 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Set the number."""
        if self._cell:
            self._cell.cell_contents = state["steps"]


@contextlib.contextmanager
def hide_known_errors() -> Iterator[None]:
    """Keep an error that will be printed as one line out of the log, where it would stand with its traceback (F14).

    Cause: ``TrainerBase.train`` logs every exception that it passes on. All distributions. To see it gone:
    ``test_stock_loop_logs_tracebacks``.
    """
    logger = logging.getLogger("fastreid.engine.train_loop")

    def keep(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], DRSLError))

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def is_cpu(device: str) -> bool:
    """Tell whether ``MODEL.DEVICE`` is the CPU."""
    return torch.device(device).type == "cpu"


def is_cpu_run(cfg: ConfigNode) -> bool:
    """Tell whether the run is on the CPU; a device that torch does not know is not."""
    try:
        return is_cpu(cfg.MODEL.DEVICE)
    except RuntimeError:
        return False
