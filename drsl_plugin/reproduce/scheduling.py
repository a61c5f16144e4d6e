"""Starts a table's runs, each in a process of its own, as many at once as there are slots, until none is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from drsl_plugin.errors import SettingError
from drsl_plugin.reproduce.locks import hold
from drsl_plugin.reproduce.runs import Run, describe

POLL = 0.5
"""Seconds between two looks at the processes."""
ENDING_PATIENCE = 30.0
"""Seconds that an interrupted process has to end by itself."""
LEAST_SPACE = 100 * 2**20
"""Bytes that have to be free before a run starts, where nothing is known of the size of this table's runs."""


@dataclass
class Active:
    """A run that a process of ours is busy with."""

    run: Run
    process: subprocess.Popen[bytes]
    slot: int
    stack: ExitStack


@dataclass
class RunQueue:
    """What is to be run, where, and what came of it.

    Args:
        runs: in the order to run them, each once.
        command: gives the command that starts a run, or goes on with it.
        slots: what each process gets in its environment beside the rest; as many run at once.
        on_change: called at each look at the processes, for a display.
    """

    runs: Sequence[Run]
    command: Callable[[Run], Sequence[str]]
    slots: Sequence[Mapping[str, str]]
    on_change: Callable[[RunQueue], None] = lambda schedule: None
    active: list[Active] = field(default_factory=list)
    done: list[Run] = field(default_factory=list)
    failed: dict[Path, tuple[Run, str]] = field(default_factory=dict)
    """Each run that failed and its last line, by its folder."""

    def run(self) -> None:
        """Run all that is not finished; what another process has in hand is waited for.

        Raises:
            SettingError: no space on the disk.
            KeyboardInterrupt: interrupted; the processes have ended.
        """
        self.done = [run for run in self.runs if run.is_finished()]
        left = [run for run in self.runs if run not in self.done]
        self.on_change(self)
        try:
            with _interrupt_on_sigterm():
                while left or self.active:
                    self._collect()
                    for run in list(left):
                        if len(self.active) < len(self.slots) and self._begin(run):
                            left.remove(run)
                    self.on_change(self)
                    if left or self.active:
                        time.sleep(POLL)
        finally:
            self._end()

    def _begin(self, run: Run) -> bool:
        """Start a run that nobody else has in hand, in a slot that is free; tell whether it is off the list."""
        slot = min(set(range(len(self.slots))) - {each.slot for each in self.active})
        with ExitStack() as stack:
            lock = stack.enter_context(hold(run.lock))
            if lock is None:
                return False
            if run.is_finished():  # by the process that had it a moment ago
                self.done.append(run)
                return True
            self._check_space(run.folder.parent)
            describe(run)
            log = stack.enter_context(run.log.open("ab"))
            process = subprocess.Popen(
                self.command(run),
                env={**os.environ, **self.slots[slot]},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us to pass on, once
                pass_fds=[lock],  # the lock is held as long as the run lives, whatever becomes of this process
            )
            self.active.append(Active(run, process, slot, stack.pop_all()))
        return True

    def _collect(self) -> None:
        """Take what has ended off the list."""
        for each in [each for each in self.active if each.process.poll() is not None]:
            self.active.remove(each)
            each.stack.close()
            if each.run.is_finished():
                self.done.append(each.run)
                continue
            self.failed[each.run.folder] = each.run, _find_last_line(each.run.log)

    def _check_space(self, folder: Path) -> None:
        sizes = [_measure(run.folder) for run in self.done]
        needed = max([LEAST_SPACE, *sizes])
        free = shutil.disk_usage(folder).free
        if free < needed:
            sizes_text = f"{free / 2**20:,.0f} MiB free, and a run needs {needed / 2**20:,.0f}"
            needs = f"{sizes_text}; what is done stays, and with more space the same command goes on"
            raise SettingError(str(folder), "", needs)

    def _end(self) -> None:
        """End the processes that still run; the next command goes on from their last checkpoints."""
        for each in self.active:
            each.process.send_signal(signal.SIGINT)
        for each in self.active:
            try:
                each.process.wait(ENDING_PATIENCE)
            except subprocess.TimeoutExpired:
                each.process.kill()
                each.process.wait()
            each.stack.close()
        self.active.clear()


@contextmanager
def _interrupt_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that every process ends with it."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _find_last_line(log: Path) -> str:
    """Return the error line that a log ends with, or its last line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines[-20:] if line.startswith("drsl: error: ")]
    return (errors or lines or ["ended without a word"])[-1].removeprefix("drsl: error: ")


def _measure(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
