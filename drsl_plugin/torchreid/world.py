"""The processes of one run: where they meet, and how they hear of one another; knows nothing of trainings.

Meeting, store and connections are torch's. A process that ends closes its connections, and who waits hears of it.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import time
from typing import TYPE_CHECKING, Any

import torch
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

_ENDLESS = datetime.timedelta(days=10_000)
_MAIN, _PROBE = 1, 2  # tags of what is sent
_meetings = itertools.count()


class World:
    """The processes of one run, as each of them sees them; connected before anything can fail.

    Args:
        store: where they met, and leave word.
        rank: which of them this is; 0 is the main process.
        size: how many they are.
    """

    def __init__(self, store: Store, rank: int, size: int) -> None:
        """Connect with the others."""
        self.store: Store = dist.PrefixStore(f"drsl {next(_meetings)}", store)
        self.rank, self.size = rank, size
        self.local_rank = int(os.environ.get("LOCAL_RANK", rank))
        self.is_outlived = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # the store is torchrun's
        self._connections = dist.ProcessGroupGloo(dist.PrefixStore("connections", self.store), rank, size, MEETING)

    def wait_for_all(self) -> None:
        """Wait until all processes have come here; a RuntimeError where one has ended."""
        self._connections.barrier().wait()

    def wait_for_main(self) -> None:
        """Wait until the main process has come here, however long it takes; a RuntimeError where it has ended.

        Only newer versions of torch can tell ``barrier`` another timeout than its group's; ``monitored_barrier``
        writes to stderr where a process ends (``test_a_monitored_barrier_writes_a_line_of_its_own``).
        """
        word = torch.zeros(1)
        if self.rank > 0:
            self._connections.recv([word], 0, _MAIN).wait(_ENDLESS)
            return
        for other in range(1, self.size):
            self._connections.send([word], other, _MAIN).wait(_ENDLESS)

    def has_lost_one(self, error: BaseException) -> bool:
        """Return whether an error is that of an exchange with a process that is gone.

        NCCL's errors have a type of their own. Gloo's have none (``test_gloo_has_no_type_for_its_errors``), but where
        a connection is closed, to ask for something from its other end fails at once.
        """
        if isinstance(error, getattr(dist, "DistBackendError", ())):
            return True
        if type(error) is not RuntimeError:
            return False
        time.sleep(0.5)  # not all connections of a process that is gone close at one moment
        try:
            for other in set(range(self.size)) - {self.rank}:
                self._connections.recv([torch.zeros(1)], other, _PROBE)
        except RuntimeError:
            return True
        return False

    def end(self, how: str) -> tuple[int, str]:
        """Tell the others that, and how, this process ends; return who was the first to end, and how.

        Where the store has gone with the process that kept it, that is another, and it failed.
        """
        try:
            rank, _, first = self.store.compare_set("end", "", f"{self.rank} {how}").decode().partition(" ")
        except RuntimeError:
            return -1, "failed"
        return int(rank), first

    def tell(self, word: str) -> None:
        """Leave word for the others, where the store is still there."""
        with contextlib.suppress(RuntimeError):
            self.store.add(word, 1)

    def hear(self, word: str, times: int, patience: float) -> None:
        """Wait until a word was left so many times, or so many seconds.

        ``Store.wait`` writes to stderr where it waits in vain (``test_a_store_writes_lines_of_its_own``).
        """
        end = time.monotonic() + patience
        with contextlib.suppress(RuntimeError):
            while self.store.add(word, 0) < times and time.monotonic() < end:
                time.sleep(0.02)

    def leave(self, patience: float) -> None:
        """Close the connections; a main process that keeps the store waits until the others have done without it.

        Torch writes to stderr in a process whose store is gone (``test_bad_input_is_one_line_and_exit_code_2``).

        Args:
            patience: for how many seconds it waits.
        """
        self._connections = None
        if not self.is_outlived:
            self.tell("left")
            if self.rank == 0:
                self.hear("left", self.size, patience)


def meet() -> World:
    """Meet the other processes, where ``torchrun``'s settings say.

    Raises:
        DRSLError: a setting is missing, or the processes do not meet.
    """
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        needs = f"{', '.join(missing)} missing from the environment; start with `torchrun --nproc-per-node N -m "
        needs += "drsl_plugin torchreid …`, or unset WORLD_SIZE"
        raise SettingError("WORLD_SIZE", os.environ["WORLD_SIZE"], needs)
    try:
        return World(*next(dist.rendezvous("env://", timeout=MEETING)))
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise DRSLError(f"the processes did not meet at {where}: {str(error).strip().splitlines()[0]}") from error
