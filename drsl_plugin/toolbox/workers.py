"""The workers of loaders where they are spawned, and know nothing of what this process has changed."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import sys
from collections.abc import Callable, Iterator
from multiprocessing import reduction, spawn
from typing import Any

import torch.multiprocessing

from drsl_plugin.toolbox.patching import replaced

_ABSENT = object()


@contextlib.contextmanager
def prepared_workers(*prepare: Callable[[], object]) -> Iterator[None]:
    """Let the workers of loaders that start within the block call functions before they do anything else.

    Cause: by ``spawn``, the start method of macOS and Windows, and ``forkserver``, that of Linux from Python 3.14 on, a
    worker imports the main module before all else, which by ``drsl run`` is the script: that imports its toolbox, which
    today can be imported with our help alone. To see it gone: ``test_scripts_cannot_be_imported_by_themselves``.

    Args:
        *prepare: functions of modules; a worker that is a fork needs none and calls none.
    """

    class Worker(multiprocessing.Process):
        def start(self) -> None:
            with _main_left_out() as main:
                self._main = main
                super().start()

        def __reduce__(self) -> tuple[Any, ...]:
            state = reduction.ForkingPickler.dumps(vars(self))
            return _make_worker, (prepare, self._main, bytes(state))

    with replaced(torch.multiprocessing, "Process", Worker):
        yield


def _make_worker(
    prepare: tuple[Callable[[], object], ...], main: dict[str, str], state: bytes
) -> multiprocessing.Process:
    """Do in a worker what is to be done first, import the main module, and only then what the worker works with."""
    for each in prepare:
        each()
    spawn.prepare(main)
    worker = multiprocessing.Process()
    worker.__dict__.update(pickle.loads(state))
    return worker


@contextlib.contextmanager
def _main_left_out() -> Iterator[dict[str, str]]:
    """Keep a new process from importing the main module by itself; yields what has it imported."""
    if multiprocessing.get_start_method() == "fork":
        yield {}
        return
    prepared = spawn.get_preparation_data("")
    main = sys.modules["__main__"]
    kept = {name: main.__dict__.get(name, _ABSENT) for name in ("__file__", "__spec__")}
    main.__dict__.pop("__file__", None)
    main.__spec__ = None
    try:
        yield {key: value for key, value in prepared.items() if key.startswith("init_main")}
    finally:
        for name, value in kept.items():
            if value is not _ABSENT:
                setattr(main, name, value)
