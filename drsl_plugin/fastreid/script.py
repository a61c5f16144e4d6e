"""Runs a team's unmodified FastReID script, ``tools/train_net.py`` or one like it, with DRSL known to FastReID."""

from __future__ import annotations

import contextlib
import importlib
import pickle
import runpy
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from drsl_plugin.errors import raise_all
from drsl_plugin.fastreid.compat import keep_gradient_buffers, use_plain_loaders
from drsl_plugin.fastreid.config import add_drsl_config
from drsl_plugin.fastreid.evaluation import FeatureEvaluator
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.images import tell_of_errors
from drsl_plugin.fastreid.keys import SKIP
from drsl_plugin.fastreid.meta_arch import build_model
from drsl_plugin.fastreid.problems import config_problems
from drsl_plugin.fastreid.processes import launch
from drsl_plugin.fastreid.shims import make_importable
from drsl_plugin.fastreid.trainer import DRSLTrainer
from drsl_plugin.fastreid.training import silence_old_warnings
from drsl_plugin.runs.reading import is_trusting
from drsl_plugin.toolbox import main_program
from drsl_plugin.toolbox.guarding import guarded_reading
from drsl_plugin.toolbox.main_program import as_main_program
from drsl_plugin.toolbox.patching import Owner, replaced_all
from drsl_plugin.toolbox.readers import naming_the_key
from drsl_plugin.toolbox.types import ConfigNode
from drsl_plugin.toolbox.workers import prepared_workers


def run_script(script: Path, argv: Sequence[str]) -> None:
    """Run a script as ``python SCRIPT ARGV…`` would, with DRSL known to FastReID for that long.

    While it runs, ``get_cfg()`` has the DRSL node, ``DefaultTrainer`` is :class:`~drsl_plugin.fastreid.DRSLTrainer`,
    ``build_model`` knows DRSL, and ``launch`` gives each process that it starts the same.

    Args:
        script: the script.
        argv: its arguments.

    Raises:
        DRSLError: bad settings.
    """
    script = script.resolve()
    with _make_drsl_known(script, argv, is_trusting()), plain_config_errors():
        runpy.run_path(str(script), run_name="__main__")


def plain_config_errors(command: str = "drsl run") -> contextlib.AbstractContextManager[None]:
    """Turn what yacs raises of a script's options, and a file that FastReID's reader does not find, into one line.

    Args:
        command: begins the line.

    Raises:
        SettingError: on leaving the block; in yacs' own words, or with the file's name.

    Example:
        >>> from fastreid.config import get_cfg
        >>> with plain_config_errors("train_net.py"):
        ...     get_cfg().merge_from_list(["SOLVER.OPTIMIZER", "Adam"])
        Traceback (most recent call last):
            ...
        drsl_plugin.errors.SettingError: train_net.py: Non-existent key: SOLVER.OPTIMIZER
    """
    return main_program.plain_config_errors(command, reader="fastreid.utils.file_io")


@contextlib.contextmanager
def _make_drsl_known(script: Path, argv: Sequence[str], trust: bool) -> Iterator[None]:
    engine, defaults = fastreid.engine, sys.modules["fastreid.engine.defaults"]
    meta_arch, evaluation = fastreid.modeling.meta_arch, fastreid.evaluation
    stock_setup, stock_optimizer = defaults.default_setup, fastreid.solver.build_optimizer

    def default_setup(cfg: ConfigNode, args: object) -> None:
        processes = fastreid.utils.comm.get_world_size()
        raise_all(config_problems(cfg, processes, evaluate_only=getattr(args, "eval_only", False)))
        stock_setup(cfg, args)

    def build_optimizer(*args: object, **kwargs: object) -> tuple[torch.optim.Optimizer, object]:
        optimizer, wrapper = stock_optimizer(*args, **kwargs)
        keep_gradient_buffers(optimizer)
        return optimizer, wrapper

    replacements: list[tuple[Owner, str, object]] = [
        (engine, "DefaultTrainer", DRSLTrainer),
        (defaults, "DefaultTrainer", DRSLTrainer),
        (engine, "default_setup", default_setup),
        (defaults, "default_setup", default_setup),
        (engine, "launch", _make_launch(script, argv)),
        (sys.modules["fastreid.engine.launch"], "launch", _make_launch(script, argv)),
        (fastreid.modeling, "build_model", build_model),
        (meta_arch, "build_model", build_model),
        (fastreid.solver, "build_optimizer", build_optimizer),
        (evaluation, "ReidEvaluator", FeatureEvaluator),
        (defaults, "ReidEvaluator", FeatureEvaluator),
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(as_main_program(script, argv))
        stack.enter_context(silence_old_warnings())
        stack.enter_context(naming_the_key(SKIP))
        stack.enter_context(guarded_reading(trust))
        stack.enter_context(prepared_workers(make_importable))
        stack.enter_context(_add_drsl_to_defaults())
        if not torch.cuda.is_available():
            stack.enter_context(use_plain_loaders("cpu", workers=sys.maxsize))
        stack.enter_context(tell_of_errors())
        stack.enter_context(replaced_all(*replacements))
        yield


@contextlib.contextmanager
def _add_drsl_to_defaults() -> Iterator[None]:
    """Add the DRSL node to the defaults that ``get_cfg()`` copies."""
    defaults = importlib.import_module("fastreid.config.defaults")._C
    add_drsl_config(defaults)
    try:
        yield
    finally:
        del defaults.MODEL.LOSSES["DRSL"], defaults["SEED"], defaults.DATASETS["SKIP_UNREADABLE"]


def _make_launch(script: Path, argv: Sequence[str]) -> Callable[..., Any]:
    """Return a ``launch`` whose processes know DRSL before they import the script."""

    def launch_script(
        main_func: Callable[..., object],
        num_gpus_per_machine: int,
        num_machines: int = 1,
        machine_rank: int = 0,
        dist_url: str | None = None,
        args: tuple[Any, ...] = (),
    ) -> object:
        if num_gpus_per_machine * num_machines <= 1:
            return main_func(*args)
        work = pickle.dumps((main_func, args))  # now, while the script is the main module
        with _keep_main_from_import():
            call = (script, tuple(argv), work, is_trusting())
            return launch(_call_in_process, num_gpus_per_machine, num_machines, machine_rank, dist_url, call)

    return launch_script


@contextlib.contextmanager
def _keep_main_from_import() -> Iterator[None]:
    """Keep new processes from importing the main module before anything of ours: FastReID cannot be imported yet."""
    main = sys.modules["__main__"]
    file = main.__dict__.pop("__file__", None)
    try:
        yield
    finally:
        if file is not None:
            main.__file__ = file


def _call_in_process(script: Path, argv: tuple[str, ...], work: bytes, trust: bool) -> None:
    """Import the script as :mod:`multiprocessing` would, with DRSL known, and call its function."""
    with _make_drsl_known(script, argv, trust):
        main = types.ModuleType("__mp_main__")
        main.__dict__.update(runpy.run_path(str(script), run_name="__mp_main__"))
        sys.modules["__main__"] = sys.modules["__mp_main__"] = main
        main_func, args = pickle.loads(work)
        with plain_config_errors():
            main_func(*args)
