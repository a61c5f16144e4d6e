"""Several processes: FastReID's own launch on GPUs, gloo on CPUs; bad input in any of them ends in one line."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import distributed as dist

from drsl_plugin.errors import ConfigError, DRSLError, SettingError
from drsl_plugin.fastreid.host import fastreid

_fastreid_launch = fastreid.engine.launch  # its own, also while `drsl run` has put another in its place
multiprocessing: Any = torch.multiprocessing  # typed as not exporting what it is for


Returned = TypeVar("Returned")


class ErrorQueue(Protocol):
    """Carries errors from one process to another."""

    def put(self, errors: list[DRSLError], /) -> None:
        """Send them."""


def launch(
    main_func: Callable[..., Returned],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: Sequence[Any] = (),
    *,
    cpu: bool | None = None,
) -> Returned | None:
    """Run a function in one process or several, as ``fastreid.engine.launch`` does, with or without GPUs.

    Args:
        main_func: called as ``main_func(*args)`` in each process; importable by name in a new one.
        num_gpus_per_machine: how many processes on this machine: GPUs, or processes on the CPU.
        num_machines: how many machines.
        machine_rank: which of them this is, from 0.
        dist_url: where the processes meet, ``tcp://HOST:PORT``; ``"auto"`` or None for a free port of one machine.
        args: the function's arguments.
        cpu: run on CPUs with gloo (F8: FastReID knows NCCL alone; to see it gone: ``test_stock_launch_needs_cuda``);
            by default where there is no CUDA.

    Returns:
        What the function returns, where this is the only process; otherwise None.

    Raises:
        DRSLError: what a process raises as one.

    Example:
        >>> launch(max, 1, args=(2, 3))
        3
    """
    cpu = not torch.cuda.is_available() if cpu is None else cpu
    processes = num_gpus_per_machine * num_machines
    if processes <= 1:
        return main_func(*args)
    if dist_url in (None, "auto"):
        if num_machines > 1:
            raise no_meeting_place()
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    errors = multiprocessing.get_context("spawn").SimpleQueue()
    job = _Job(main_func, tuple(args), errors)
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # that it ends the others is no news
    try:
        if cpu:
            meeting = (num_gpus_per_machine, num_machines, machine_rank, dist_url)
            multiprocessing.spawn(_do_with_gloo, nprocs=num_gpus_per_machine, args=(job, *meeting))
        else:
            _fastreid_launch(job, num_gpus_per_machine, num_machines, machine_rank, dist_url)
    except (multiprocessing.ProcessRaisedException, multiprocessing.ProcessExitedException):
        if not errors.empty():
            raise ConfigError(errors.get()) from None
        raise
    return None


def no_meeting_place() -> SettingError:
    """Return the error of several machines that are not told where to meet."""
    return SettingError("--dist-url", "auto", "finds a port for one machine; for several name one, tcp://HOST:PORT")


class _Job:
    """The function and its arguments, on their way to another process; a :class:`DRSLError` is sent back.

    Args:
        main_func: the function.
        args: its arguments.
        errors: where to send an error; a queue of the processes.
    """

    def __init__(self, main_func: Callable[..., object], args: tuple[Any, ...], errors: ErrorQueue) -> None:
        """Keep them."""
        self._main_func, self._args, self._errors = main_func, args, errors

    def __call__(self) -> None:
        """Call the function."""
        try:
            self._main_func(*self._args)
        except DRSLError as error:
            self._errors.put(error.errors)
            raise SystemExit(2) from None


def _do_with_gloo(local_rank: int, job: _Job, processes: int, machines: int, machine_rank: int, dist_url: str) -> None:
    """Join the others, tell FastReID which of them are on this machine, and do the job."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    dist.init_process_group(
        "gloo", init_method=dist_url, world_size=processes * machines, rank=machine_rank * processes + local_rank
    )
    for machine in range(machines):
        group = dist.new_group(list(range(machine * processes, (machine + 1) * processes)))
        if machine == machine_rank:
            fastreid.utils.comm._LOCAL_PROCESS_GROUP = group
    job()
    dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
