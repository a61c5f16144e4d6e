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

from drsl_plugin.errors import DRSLError, SettingError
from drsl_plugin.torchreid import world as waiting
from drsl_plugin.torchreid.world import INTERRUPTED, TIMEOUT, World, meet

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
def join() -> Iterator[None]:
    """Be one of several processes where ``WORLD_SIZE``, which ``torchrun`` sets, is above 1; else change nothing.

    Only the main process prints. The first process to fail says why; the others end without a word.

    Raises:
        DRSLError: ``torchrun``'s other settings are missing, or the processes do not meet.
    """
    global _world
    if _world is not None or int(os.environ.get("WORLD_SIZE") or 1) < 2:
        yield
        return
    _world = meet()
    failed = True
    try:
        with _silence(_world.rank > 0), end_together():
            yield
        failed = False
    finally:
        try:
            _leave_group(failed)
            _world.leave(waiting.PATIENCE if failed else waiting.PARTING)
        finally:
            _world = None


@contextlib.contextmanager
def end_together() -> Iterator[None]:
    """End this process where another has ended, and let the first one to fail be the only one that says why.

    An interruption is told by the main process, which knows from where to go on. ``record`` of torch's launcher leaves
    it to each process whether and when it says why; it puts the traceback of bad input into ``torchrun``'s report and
    makes a return of the exit of ``--help`` (``test_help_is_no_failure``).

    Raises:
        SystemExit: another process says why: with exit code 2, or 130 after an interruption.
        KeyboardInterrupt: in the main process, where another was interrupted.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if _world is None:
            raise
        interrupted = isinstance(error, KeyboardInterrupt)
        first, how = _world.end(INTERRUPTED if interrupted else "failed")
        if interrupted or (how == INTERRUPTED and first != _world.rank):
            if _world.rank > 0:
                raise SystemExit(130) from None
            raise error if interrupted else KeyboardInterrupt from None
        if first != _world.rank:
            if _world.is_outlived:  # torchrun ends all processes at the end of one: not before that one has said why
                _world.hear("said", 1, waiting.PATIENCE)
            raise SystemExit(2) from None
        if _world.is_outlived:
            atexit.register(_world.tell, "said")
        if _world.has_lost_one(error):
            reason = str(error).strip().splitlines()[0]
            text = f"process {_world.rank} of {_world.size}: another ended without a word ({reason})"
            raise DRSLError(text) from error
        raise


def start(use_gpu: bool) -> None:
    """Make the process group, once all processes have come this far: NCCL on CUDA devices, gloo else.

    Args:
        use_gpu: whether each process is to have a CUDA device, its local rank's.

    Raises:
        SettingError: more processes on this machine than CUDA devices.
    """
    if _world is None:
        return
    if use_gpu:
        devices = torch.cuda.device_count()
        if _world.local_rank >= devices:
            needs = f"torch finds {devices} CUDA device{'s' * (devices != 1)} on this machine; use --nproc-per-node "
            raise SettingError("LOCAL_RANK", _world.local_rank, f"{needs}{devices}, or use_gpu False")
        torch.cuda.set_device(_world.local_rank)
    elif "OMP_NUM_THREADS" not in os.environ:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", _world.size))
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // here))
    _world.wait_for_all()
    place = {"store": dist.PrefixStore("group", _world.store), "rank": _world.rank, "world_size": _world.size}
    dist.init_process_group("nccl" if use_gpu else "gloo", timeout=TIMEOUT, **place)


@contextlib.contextmanager
def let_main_go_first() -> Iterator[None]:
    """Let the main process do something first, such as a download, and the others after it."""
    if rank() > 0:
        wait_for_main()
    yield
    if rank() == 0:
        wait_for_main()


def wait_for_main() -> None:
    """Wait until the main process has come here, however long it takes."""
    if _world is not None:
        _world.wait_for_main()


@contextlib.contextmanager
def _silence(silent: bool) -> Iterator[None]:
    if not silent:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _leave_group(failed: bool) -> None:
    if not dist.is_initialized():
        return
    abort = getattr(dist.distributed_c10d, "_abort_process_group", None)
    if failed and abort is not None and dist.get_backend() == "nccl":
        abort()  # it does not wait for the steps of those that have failed
    else:
        dist.destroy_process_group()
