"""``drsl reproduce``: run what a table file asks for and is not there yet, and write the table."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from drsl_plugin.errors import SettingError, nearest
from drsl_plugin.presets import table_path
from drsl_plugin.reproduce.cells import result_table
from drsl_plugin.reproduce.checks import check_runs
from drsl_plugin.reproduce.display import show_progress
from drsl_plugin.reproduce.locks import hold
from drsl_plugin.reproduce.runs import Run, table_runs
from drsl_plugin.reproduce.scheduling import RunQueue
from drsl_plugin.reproduce.table_files import Table, read_table
from drsl_plugin.reproduce.tables import runs_to_csv, to_csv, to_latex, to_markdown
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.toolbox import toolboxes
from drsl_plugin.toolbox.merging import UnpairedError
from drsl_plugin.toolbox.rendering import render_with_progress

_FILES = {"table.md": to_markdown, "table.csv": to_csv, "table.tex": to_latex, "runs.csv": runs_to_csv}


@dataclass(frozen=True)
class Options:
    """How to run a table."""

    root: Path | None = None
    """The folder of data sets; None: ``reid-data``, or the rendered set of a table that has one."""
    output: Path | None = None
    """The table's folder; None: ``drsl-tables/`` and the file's name."""
    jobs: int | None = None
    """Runs at once; None: one, or one for each of ``gpus``."""
    gpus: str | None = None
    """Numbers of GPUs, separated by commas."""
    only: Sequence[str] = ()
    """Names of the rows to run, or how they begin, up to a comma; the table shows what is there of the others, too."""
    data: Sequence[str] = ()
    """Data sets to run, likewise."""
    dry_run: bool = False
    """Print the commands, and run none."""


def reproduce(name: str, changes: Sequence[str] = (), options: Options = Options()) -> int:
    """Run a table, print it and leave it in its folder as ``table.md``, ``.csv`` and ``.tex``, seeds in ``runs.csv``.

    Args:
        name: a table file, or the name of a shipped table.
        changes: ``key value`` pairs, each for all rows of the toolbox whose key it is.
        options: how.

    Returns:
        The exit code: 1 where a run failed.

    Raises:
        DRSLError: bad input, or no space on the disk.
    """
    path = table_path(name)
    table = _change(read_table(path), changes)
    output = (options.output or Path("drsl-tables", path.stem)).expanduser()
    cuda = options.gpus is not None or torch.cuda.is_available()
    slots = _slots(options)
    if table.demo is not None and options.root is not None:
        raise SettingError("--root", "", f"{path.name} renders its data set into {output / 'data'}; leave --root out")
    root = output / "data" if table.demo is not None else (options.root or Path("reid-data")).expanduser()
    runs = _select(table_runs(table, output), table, options)
    if options.dry_run:
        _list_runs(runs, root, cuda=cuda)
        return 0
    if table.demo is not None:
        with hold(output / "data.lock", wait=True):
            render_with_progress(root, dict(table.demo))
    slots = [{**_build_environment(runs, root), **slot} for slot in slots]
    check_runs(runs, root, cuda=cuda)
    schedule = RunQueue(runs, lambda run: _build_command(run, root, cuda), slots)
    try:
        with show_progress(schedule):
            schedule.run()
    finally:
        _write(table, output, schedule)
    return 1 if schedule.failed else 0


def _write(table: Table, output: Path, schedule: RunQueue) -> None:
    """Write the table as it stands, and print it."""
    failed = {folder: reason for folder, (_, reason) in schedule.failed.items()}
    results = result_table(table, output, failed)
    with hold(output / "table.lock", wait=True):
        for name, write in _FILES.items():
            RunFolder(output).write_text(name, write(results))
    print(to_markdown(results))
    print(f"{output / 'table.md'}, .csv, .tex; seed by seed: {output / 'runs.csv'}; the runs lie in {output / 'runs'}")


def _select(runs: Sequence[Run], table: Table, options: Options) -> list[Run]:
    """Keep the runs of the rows and data sets that were asked for, each once: rows that are alike share theirs."""
    rows, data = [row.name for row in table.rows], [column.data for column in table.columns]
    for option, asked, known in (("--only", options.only, rows), ("--data", options.data, data)):
        for each in asked:
            if not any(_matches(each, name) for name in known):
                names = ", ".join(repr(name) for name in dict.fromkeys(known))
                hint = nearest(each, known) or f"; there are {names}"
                raise SettingError(option, each, f"the table has none of this name{hint}")
    kept = [
        run
        for run in runs
        if any(_matches(each, run.row.name) for each in options.only or rows) and run.data in (options.data or data)
    ]
    if not kept:
        raise SettingError("--only, --data", "", "no row that was named is of a data set that was named")
    return list({run.folder: run for run in kept}.values())


def _matches(asked: str, name: str) -> bool:
    """Tell whether a row is meant: by its name, or by how it begins, up to a comma, as all rows of a grid do."""
    return name == asked or name.startswith(f"{asked}, ")


def _change(table: Table, changes: Sequence[str]) -> Table:
    """Lay ``key value`` pairs over the overrides of all rows of the toolbox whose keys they are."""
    for word in changes[::2]:
        if word.startswith("-"):
            raise SettingError(word, "", "no such option, or one without its value")
    if len(changes) % 2:
        raise UnpairedError(changes[-1], "key value")
    by_toolbox: dict[str, dict[str, Any]] = {row.toolbox: {} for row in table.rows}
    for key, value in zip(changes[::2], changes[1::2], strict=True):
        owner = next((each.name for each in toolboxes() if each.has_key(key)), None)
        if owner not in by_toolbox:
            whose = f"drsl {owner}" if owner else "no toolbox"
            raise SettingError(key, "", f"a key of {whose}, and the table has no row of it")
        by_toolbox[owner][key] = value
    rows = (replace(row, overrides={**row.overrides, **by_toolbox[row.toolbox]}) for row in table.rows)
    return replace(table, rows=tuple(rows))


def _slots(options: Options) -> list[dict[str, str]]:
    """Return what each of the processes that run at once has in its environment: its GPU, or its share of the cores."""
    if options.jobs is not None and options.jobs < 1:
        raise SettingError("--jobs", options.jobs, "must be 1 or above")
    if options.gpus is None:
        jobs = options.jobs or 1
        share = str(max(1, (os.cpu_count() or 1) // jobs))
        threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", share)} if jobs > 1 else {}
        return [threads] * jobs
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = options.gpus.split(",")
    if not all(gpu.isdecimal() and int(gpu) < found for gpu in gpus) or len(set(gpus)) < len(gpus):
        have = f"0 to {found - 1}" if found else "none"
        needs = f"different numbers of GPUs, commas between them; torch finds {have} here"
        raise SettingError("--gpus", options.gpus, needs)
    return [{"CUDA_VISIBLE_DEVICES": gpus[job % len(gpus)]} for job in range(options.jobs or len(gpus))]


def _build_environment(runs: Sequence[Run], root: Path) -> dict[str, str]:
    """Return what the toolboxes of some runs need in their environment."""
    return {name: value for run in runs for name, value in run.toolbox.build_environment(root).items()}


def _build_command(run: Run, root: Path, cuda: bool) -> list[str]:
    return [sys.executable, "-m", "drsl_plugin", *run.command(root, cuda)]


def _list_runs(runs: Sequence[Run], root: Path, *, cuda: bool) -> None:
    """Print what has become of each run, and its command."""
    for run in runs:
        state = "finished" if run.is_finished() else "to go on" if run.checkpoint() else "to do"
        command = ["drsl", *run.command(root, cuda)]
        print(f"# {run.title}: {state}\n{shlex.join(command)}")
