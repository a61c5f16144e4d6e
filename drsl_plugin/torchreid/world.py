"""The processes of one run and the store at which they meet; knows nothing of trainings.

The store is torch's, and so is the meeting. What is told there goes on where a process group cannot: its collectives
time out while the main process evaluates, and a process that fails has no way to say so to those that wait in one.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch.distributed

from drsl_plugin.errors import DRSLError, SettingError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

dist: Any = torch.distributed  # typed as not exporting what it is for
TIMEOUT = datetime.timedelta(hours=2)
"""Of a step: how long the others wait for a process that reads its data or writes a checkpoint."""
MEETING = datetime.timedelta(minutes=10)
"""How long the first wait for the last to start."""
PATIENCE = 5.0
"""Seconds for which a process that ends lets another have its say."""
PARTING = 60.0
"""Seconds for which the main process, whose store it is without ``torchrun``, waits for the others at the end."""
INTERRUPTED = "interrupted"

_meetings = itertools.count()


class World:
    """The processes of one run, as each of them sees them.

    Args:
        store: where they met, and may meet again.
        rank: which of them this is; 0 is the main process.
        size: how many they are.
    """

    def __init__(self, store: Store, rank: int, size: int) -> None:
        """Keep them."""
        self.store: Store = dist.PrefixStore(f"drsl {next(_meetings)}", store)
        self.rank, self.size = rank, size
        self.local_rank = int(os.environ.get("LOCAL_RANK", rank))
        self.is_outlived = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # the store is torchrun's
        self._waits = 0
        self._probe: Any = None

    def tell(self, what: str) -> None:
        """Tell all processes that something is so."""
        self.store.add(what, 1)

    def is_told(self, what: str, times: int = 1) -> bool:
        """Return whether so many have told it; a store of torch before 2.1 can only be asked for what it counts."""
        return self.store.add(what, 0) >= times

    def wait_for_all(self) -> None:
        """Wait until all processes have come here.

        Raises:
            RuntimeError: another process has ended.
            DRSLError: it took too long.
        """
        self.tell("here")
        self._wait(lambda: self.is_told("here", self.size), TIMEOUT)

    def wait_for_main(self) -> None:
        """Wait until the main process has come here, however long it takes; it goes on at once.

        Raises:
            RuntimeError: another process has ended.
        """
        self._waits += 1
        key = f"main {self._waits}"
        if self.rank == 0:
            self.tell(key)
        else:
            self._wait(lambda: self.is_told(key), datetime.timedelta.max)

    def end(self, how: str) -> tuple[int, str]:
        """Tell the others that, and how, this process ends; return who was the first to end, and how."""
        told = self.store.compare_set("end", "", f"{self.rank} {how}").decode()
        self.tell("ended")
        rank, _, first = told.partition(" ")
        return int(rank), first

    def make_probe(self) -> None:
        """Make a process group of gloo in which nothing is exchanged, so that a process that is gone shows there."""
        self._probe = dist.new_group(timeout=datetime.timedelta(seconds=PATIENCE))

    def has_lost_one(self, error: Exception) -> bool:
        """Return whether an error is that of an exchange with a process that is gone.

        NCCL's errors have a type of their own. Gloo's have none (torch 1.13 to 2.14; to see it gone:
        ``test_gloo_has_no_type_for_its_errors``), but where a connection is closed, whatever is tried on it fails at
        once, and among living processes a barrier that not all have come to waits.
        """
        if isinstance(error, getattr(dist, "DistBackendError", ())):
            return True
        if type(error) is not RuntimeError or self._probe is None:
            return False
        try:
            work = dist.barrier(group=self._probe, async_op=True)
            wait_at_most(1.0, work.is_completed)
            if work.is_completed():
                work.wait()
        except RuntimeError:
            return True
        return False

    def leave(self, patience: float) -> None:
        """Leave; where the store goes with the main process, it does so once the others have left.

        Args:
            patience: for how many seconds it waits.
        """
        if self.is_outlived:
            return
        with contextlib.suppress(RuntimeError):
            self.tell("left")
            if self.rank == 0:
                wait_at_most(patience, lambda: self.is_told("left", self.size))

    def _wait(self, ready: Callable[[], bool], patience: datetime.timedelta) -> None:
        wait_at_most(patience.total_seconds(), lambda: ready() or self.is_told("ended"))
        if not ready():
            if self.is_told("ended"):
                raise RuntimeError("another process has ended")
            raise DRSLError(f"process {self.rank} of {self.size}: no word from the others for {patience}")


def meet() -> World:
    """Meet the other processes, where ``torchrun``'s settings say.

    Raises:
        DRSLError: a setting is missing, or the processes do not meet.
    """
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        needs = f"{', '.join(missing)} missing from the environment; start with `torchrun --nproc-per-node N -m "
        raise SettingError(
            "WORLD_SIZE", os.environ["WORLD_SIZE"], f"{needs}drsl_plugin torchreid …`, or unset WORLD_SIZE"
        )
    try:
        return World(*next(dist.rendezvous("env://", timeout=MEETING)))
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise DRSLError(f"the processes did not meet at {where}: {str(error).strip().splitlines()[0]}") from error


def wait_at_most(seconds: float, ready: Callable[[], bool]) -> None:
    """Wait until something is so, or so many seconds."""
    end = time.monotonic() + seconds
    while not ready() and time.monotonic() < end:
        time.sleep(0.02)
