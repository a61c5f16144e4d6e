"""What a table looks like while it runs: runs done, the epoch of those in hand, time left."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from drsl_plugin.errors import DRSLError
from drsl_plugin.reproduce.cells import evaluate_run
from drsl_plugin.reproduce.runs import Run
from drsl_plugin.reproduce.scheduling import RunQueue


@contextmanager
def show_progress(schedule: RunQueue) -> Iterator[None]:
    """Show a schedule while the block runs it: bars on a terminal, and anywhere a line for each run that ends.

    Args:
        schedule: what is about to run.
    """
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}")
    with Progress(*columns, console=console) as progress:
        schedule.on_change = _Display(progress, len(schedule.runs)).update
        yield


class _Display:
    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._table = progress.add_task("runs", total=total, left="")
        self._bars: dict[Path, TaskID] = {}
        self._told: set[Path] | None = None
        self._start = time.monotonic()
        self._earlier = 0.0

    def update(self, schedule: RunQueue) -> None:
        """Bring the bars up to date, and tell of what has ended since the last look."""
        shares = {each.run.folder: each.run.epochs() for each in schedule.active}
        done = len(schedule.done) + len(schedule.failed)
        under_way = sum(max(epoch - 1, 0) / total for epoch, total in shares.values() if total)
        if self._told is None:
            self._told = {run.folder for run in schedule.done}
            self._earlier = done + under_way
            if done:
                self._progress.console.print(f"{done} of {self._total} runs are finished already")
        left = _estimate_time(
            time.monotonic() - self._start, done + under_way - self._earlier, self._total - done - under_way
        )
        self._progress.update(self._table, completed=done, left=left)
        for run in schedule.done:
            self._tell(run, _describe_result(run), done, left)
        for run, reason in schedule.failed.values():
            anew = f"; to begin it anew, delete {run.folder}" if run.checkpoint() else ""
            self._tell(run, f"failed: {reason} ({run.log}{anew})", done, left)
        for each in schedule.active:
            bar = self._bars.get(each.run.folder)
            if bar is None:
                bar = self._bars[each.run.folder] = self._progress.add_task(f"  {each.run.title}", total=None, left="")
            epoch, epochs = shares[each.run.folder]
            self._progress.update(bar, completed=epoch, total=epochs or None, left="epochs")
        for folder in self._bars.keys() - shares.keys():
            self._progress.remove_task(self._bars.pop(folder))

    def _tell(self, run: Run, what: str, done: int, left: str) -> None:
        assert self._told is not None
        if run.folder in self._told:
            return
        self._told.add(run.folder)
        line = f"{done}/{self._total} {run.title}: {what}" + (f" ({left})" if left else "")
        self._progress.console.print(line, soft_wrap=True, highlight=False, markup=False)


def _describe_result(run: Run) -> str:
    try:
        ranking = evaluate_run(run.folder).ranking
    except DRSLError as error:
        return f"finished, but {error}"
    return f"mAP {100 * ranking.mAP:.1f}, Rank-1 {100 * ranking.cmc[0]:.1f}"


def _estimate_time(seconds: float, runs: float, left: float) -> str:
    """Estimate from the share of runs done here; nothing before the first tenth of a run."""
    if runs < 0.1 or left <= 0:
        return ""
    return f"about {datetime.timedelta(seconds=round(seconds / runs * left))} left"
