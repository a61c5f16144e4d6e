"""The processes of one run and the store at which they meet; knows nothing of trainings.

What they tell one another outside a step goes through the store, not through the process group: no timeout runs while
the main process evaluates, and a process that fails can still say so to those that wait for it.
"""

from __future__ import annotations

import datetime
import itertools
import os
import time
from collections.abc import Callable
from typing import Any

import torch.distributed

from drsl_plugin.errors import DRSLError

dist: Any = torch.distributed  # typed as not exporting what it is for
TIMEOUT = datetime.timedelta(hours=2)
"""Of a step: how long the others wait for a process that reads its data or writes a checkpoint."""
MEETING = datetime.timedelta(minutes=10)
"""How long the first wait for the last to start."""
PATIENCE = 5.0
"""Seconds for which a process that ends lets another have its say."""
PARTING = 60.0
"""Seconds for which the main process, whose store it is without ``torchrun``, waits for the others at the end."""

_meetings = itertools.count()


class World:
    """The processes of one run, as each of them sees them.

    Args:
        store: where they met, and may meet again.
        rank: which of them this is; 0 is the main process.
        size: how many they are.
    """

    def __init__(self, store: Any, rank: int, size: int) -> None:
        """Keep them."""
        self.store = dist.PrefixStore(f"drsl {next(_meetings)}", store)
        self.rank, self.size = rank, size
        self.local_rank = int(os.environ.get("LOCAL_RANK", rank))
        self.outlived = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # the store is torchrun's
        self._waits = 0

    def next_key(self) -> str:
        """Return the key of the next wait, the same in every process."""
        self._waits += 1
        return f"wait {self._waits}"

    def tell(self, what: str) -> None:
        """Tell all processes that something is so."""
        self.store.add(what, 1)

    def is_told(self, what: str) -> bool:
        """Tell whether any process has told it; a store of torch before 2.1 can only be asked for what it counts."""
        return bool(self.store.add(what, 0))

    def wait(self, ready: Callable[[], bool], timeout: datetime.timedelta | None = None) -> None:
        """Wait until something is so.

        Raises:
            RuntimeError: another process has ended.
            DRSLError: it took too long.
        """
        end = None if timeout is None else time.monotonic() + timeout.total_seconds()
        while not ready():
            if self.is_told("ended"):
                raise RuntimeError("another process has ended")
            if end is not None and time.monotonic() > end:
                raise DRSLError(f"process {self.rank} of {self.size}: no word from the others for {timeout}")
            time.sleep(0.02)

    def first_to_end(self, how: str) -> tuple[int, str]:
        """Tell the others that, and how, this process ends; return who was the first to end, and how."""
        told = self.store.compare_set("end", "", f"{self.rank} {how}").decode()
        self.tell("ended")
        rank, _, first = told.partition(" ")
        return int(rank), first


def met() -> World:
    """Meet the other processes, where ``torchrun``'s settings say.

    Raises:
        DRSLError: a setting is missing, or the processes do not meet.
    """
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise DRSLError(
            f"WORLD_SIZE {os.environ['WORLD_SIZE']}: {', '.join(missing)} missing from the environment; start with "
            "`torchrun --nproc-per-node N -m drsl_plugin torchreid …`, or unset WORLD_SIZE"
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
