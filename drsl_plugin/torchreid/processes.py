"""The processes of ``torchrun``: they meet, wait for one another, and end together, with one message."""

from __future__ import annotations

import atexit
import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed

from drsl_plugin.errors import DRSLError
from drsl_plugin.torchreid import world as waiting
from drsl_plugin.torchreid.world import TIMEOUT, World, met, wait_at_most

dist: Any = torch.distributed  # typed as not exporting what it is for

_world: World | None = None


def count() -> int:
    """Return the number of processes of this run, 1 without ``torchrun``."""
    return 1 if _world is None else _world.size


def rank() -> int:
    """Return which of them this is, from 0."""
    return 0 if _world is None else _world.rank


def local_rank() -> int:
    """Return which of the processes of this machine this is, from 0."""
    return 0 if _world is None else _world.local_rank


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Be one of several processes where ``WORLD_SIZE``, which ``torchrun`` sets, is above 1; else change nothing.

    Only the main process prints. The first process to fail says why; the others end without a word.

    Raises:
        DRSLError: ``torchrun``'s other settings are missing, or the processes do not meet.
    """
    global _world
    if _world is not None or int(os.environ.get("WORLD_SIZE") or 1) < 2:
        yield
        return
    _world = met()
    failed = True
    try:
        with _silent(rank() > 0), ending_together():
            yield
        failed = False
    finally:
        try:
            _leave(_world, failed)
        finally:
            _world = None


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """End this process where another has ended, and let the first one to fail be the only one that says why.

    An interruption is told by the main process, which knows from where to go on.

    Raises:
        SystemExit: another process says why: with exit code 2, or 130 after an interruption.
        KeyboardInterrupt: in the main process, where another was interrupted.
    """
    if _world is None:
        yield
        return
    try:
        yield
    except KeyboardInterrupt:
        with contextlib.suppress(RuntimeError):  # the store has gone with the process that kept it
            _world.first_to_end("interrupted")
        if _world.rank == 0:
            raise
        raise SystemExit(130) from None
    except Exception as error:
        _end(_world, error)


def start(use_gpu: bool) -> None:
    """Make the process group, once all processes have come this far: NCCL on CUDA devices, gloo else.

    Args:
        use_gpu: whether each process is to have a CUDA device, its local rank's.

    Raises:
        DRSLError: more processes on this machine than CUDA devices.
    """
    if _world is None:
        return
    if use_gpu:
        devices = torch.cuda.device_count()
        if _world.local_rank >= devices:
            raise DRSLError(
                f"LOCAL_RANK {_world.local_rank}: torch finds {devices} CUDA device{'s' * (devices != 1)} on this "
                f"machine; use --nproc-per-node {devices}, or use_gpu False"
            )
        torch.cuda.set_device(_world.local_rank)
    elif "OMP_NUM_THREADS" not in os.environ:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", _world.size))
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // here))
    world, key = _world, _world.next_key()
    world.tell(key)
    world.wait(lambda: world.store.add(key, 0) == world.size, TIMEOUT)
    group = dist.PrefixStore("group", world.store)
    backend = "nccl" if use_gpu else "gloo"
    dist.init_process_group(backend, store=group, rank=world.rank, world_size=world.size, timeout=TIMEOUT)


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Let the main process do something first, such as a download, and the others after it."""
    if rank() > 0:
        after_main()
    yield
    if rank() == 0:
        after_main()


def after_main() -> None:
    """Wait until the main process has come here, however long it takes; it goes on at once."""
    if _world is None:
        return
    world, key = _world, _world.next_key()
    if world.rank == 0:
        world.tell(key)
    else:
        world.wait(lambda: world.is_told(key))


@contextlib.contextmanager
def _silent(silent: bool) -> Iterator[None]:
    if not silent:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _end(world: World, error: Exception) -> None:
    """Raise the error where this process is the first to end, else leave the word to the one that is."""
    try:
        first, how = world.first_to_end("failed")
        if first == world.rank:
            if world.outlived:
                atexit.register(_said, world)
            if _of_a_lost_process(error):
                reason = str(error).strip().splitlines()[0]
                message = f"process {world.rank} of {world.size}: another ended without a word ({reason})"
                raise DRSLError(message) from error
            raise error
        if how == "interrupted":
            if world.rank == 0:
                raise KeyboardInterrupt
            raise SystemExit(130)
        if world.outlived:  # torchrun ends all processes at the end of one: not before the other has said why
            wait_at_most(waiting.PATIENCE, lambda: world.is_told("said"))
    except RuntimeError as lost:
        if lost is error:
            raise
    raise SystemExit(2) from None


def _said(world: World) -> None:
    with contextlib.suppress(Exception):
        world.tell("said")


def _of_a_lost_process(error: Exception) -> bool:
    backend = getattr(dist, "DistBackendError", ())
    return isinstance(error, backend) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _leave(world: World, failed: bool) -> None:
    if dist.is_initialized():
        abort = getattr(dist.distributed_c10d, "_abort_process_group", None)
        if failed and abort is not None and dist.get_backend() == "nccl":
            abort()  # it does not wait for the steps of those that have failed
        else:
            dist.destroy_process_group()
    if world.outlived:
        return
    with contextlib.suppress(RuntimeError):
        left = world.store.add("left", 1)
        if world.rank == 0 and left < world.size:  # the store goes with this process
            wait_at_most(
                waiting.PATIENCE if failed else waiting.PARTING, lambda: world.store.add("left", 0) == world.size
            )
