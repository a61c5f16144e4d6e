"""Runs an unmodified copy of upstream's ``scripts/main.py`` with ``loss.name: drsl`` understood."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from drsl_plugin.errors import SettingError, raise_all
from drsl_plugin.runs.checkpoint_files import load
from drsl_plugin.toolbox.guarding import guarded_reading
from drsl_plugin.toolbox.main_program import as_main_program, plain_config_errors
from drsl_plugin.toolbox.patching import replaced, replaced_all
from drsl_plugin.toolbox.types import ConfigNode
from drsl_plugin.toolbox.workers import prepared_workers
from drsl_plugin.torchreid.building import build_engine
from drsl_plugin.torchreid.checkpoints import RESUME, resume
from drsl_plugin.torchreid.config import add_drsl_config
from drsl_plugin.torchreid.dataset_problems import dataset_problems
from drsl_plugin.torchreid.flat_modules import add_flat_modules, flat_modules
from drsl_plugin.torchreid.going_on import describe, keep_what_is_saved
from drsl_plugin.torchreid.host import torchreid
from drsl_plugin.torchreid.log import Console
from drsl_plugin.torchreid.ranking import rank_any_gallery
from drsl_plugin.torchreid.reading import checked_sets, loaders, prepare_worker, reading_images
from drsl_plugin.torchreid.record import describe_run
from drsl_plugin.torchreid.registration import register, unregister
from drsl_plugin.torchreid.targets import prepare_targets
from drsl_plugin.torchreid.training_problems import training_problems


def run_script(script: Path, argv: Sequence[str]) -> None:
    """Run a script as ``python SCRIPT ARGV…`` would, with DRSL known to Torchreid for that long.

    Upstream's main builds a triplet engine for any loss that is not softmax; while the script runs, building one gives
    a DRSL engine where the script's configuration says ``loss.name: drsl``. The configuration is the one that the
    ``default_config.py`` beside the script makes, with ``loss.drsl`` added.

    Args:
        script: the script; its ``default_config.py`` lies beside it.
        argv: its arguments.

    Raises:
        DRSLError: no ``default_config.py`` with ``get_default_config`` beside the script, or bad settings.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(as_main_program(script, argv))
        stack.enter_context(replaced(sys, "stdout", Console(sys.stdout)))  # upstream's Logger closes what it gets
        stack.enter_context(flat_modules())
        stack.enter_context(prepared_workers(add_flat_modules))
        configs = stack.enter_context(_drsl_in_default_config(script))
        stack.enter_context(rank_any_gallery())
        stack.enter_context(guarded_reading())
        register()
        stack.callback(unregister)
        stack.enter_context(_drsl_for_triplet(configs, argv))
        stack.enter_context(_checked_data(configs))
        stack.enter_context(reading_images())
        stack.enter_context(_exact_resume(configs))
        stack.enter_context(plain_config_errors())
        runpy.run_path(str(script), run_name="__main__")


@contextlib.contextmanager
def _drsl_in_default_config(script: Path) -> Iterator[list[ConfigNode]]:
    """Add the DRSL node to the configuration that the script makes; yields the configurations made, last one last."""
    before = sys.modules.pop("default_config", None)
    try:
        module = importlib.import_module("default_config")
        original = module.get_default_config
    except (ModuleNotFoundError, AttributeError) as error:
        needs = f"needs upstream's default_config.py with get_default_config beside it ({error})"
        raise SettingError("drsl run", script, needs) from error
    made: list[ConfigNode] = []

    def get_default_config() -> ConfigNode:
        cfg: ConfigNode = original()
        if "drsl" not in cfg.loss:
            add_drsl_config(cfg)
        made.append(cfg)
        return cfg

    try:
        with replaced(module, "get_default_config", get_default_config):
            yield made
    finally:
        sys.modules.pop("default_config", None)
        if before is not None:
            sys.modules["default_config"] = before


def _replaced_classes(
    module: ModuleType, names: Sequence[str], replacement: Callable[[Any], type]
) -> contextlib.AbstractContextManager[None]:
    """Put a replacement of each class in its place in a module, for as long as the script runs."""
    put = {name: replacement(getattr(module, name)) for name in names}
    for name, each in put.items():
        each.__name__ = each.__qualname__ = getattr(module, name).__name__
    return replaced_all(*((module, name, each) for name, each in put.items()))


def _checked_data(configs: list[ConfigNode]) -> contextlib.AbstractContextManager[None]:
    """Check the data when the script builds its data manager, the first thing that it builds.

    A configuration that says drsl is checked before, and any targets once they are read.
    """
    names = ("ImageDataManager", "VideoDataManager")
    return _replaced_classes(torchreid.data, names, lambda manager: _checked(manager, configs))


def _checked(manager: type, configs: list[ConfigNode]) -> type:
    class Checked(manager):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            if configs and configs[-1].loss.name == "drsl":
                raise_all([*dataset_problems(configs[-1]), *training_problems(configs[-1])])
            with checked_sets(configs[-1]) if configs else contextlib.nullcontext():
                super().__init__(*args, **kwargs)
            prepare_targets(self, self.targets, trains=not (configs and configs[-1].test.evaluate))
            for loader in loaders(self):
                loader.worker_init_fn = prepare_worker

    return Checked


def _exact_resume(configs: list[ConfigNode]) -> contextlib.AbstractContextManager[None]:
    """Let the script go on from a checkpoint as ``drsl torchreid`` does.

    Cause: Torchreid's ``resume_from_checkpoint`` loads the scheduler's state, in which the cosine's length is that of
    the run before, and the optimizer's, in which its rate is: new ``train.max_epoch`` and ``train.lr`` change nothing.
    All distributions. To see it gone: ``test_the_stock_toolbox_keeps_the_old_schedule``.
    """
    stock = torchreid.utils.resume_from_checkpoint

    def resume_from_checkpoint(fpath: str, model: Any, optimizer: Any = None, scheduler: Any = None) -> int:
        if optimizer is None:
            start: int = stock(fpath, model, optimizer, scheduler)
            return start
        cfg = configs[-1] if configs else None
        if cfg is not None and cfg.test.evaluate:
            optimizer = scheduler = None
        checkpoint = resume(fpath, model, optimizer, scheduler, None if cfg is None else describe(cfg))
        if cfg is not None:
            keep_what_is_saved(cfg, checkpoint)
        return int(checkpoint["epoch"])

    return replaced(torchreid.utils, "resume_from_checkpoint", resume_from_checkpoint)


def _drsl_for_triplet(configs: list[ConfigNode], argv: Sequence[str]) -> contextlib.AbstractContextManager[None]:
    """Build a DRSL engine wherever the script builds a triplet engine for a configuration that says drsl."""
    names = ("ImageTripletEngine", "VideoTripletEngine")
    return _replaced_classes(torchreid.engine, names, lambda triplet: _triplet_or_drsl(triplet, configs, argv))


def _triplet_or_drsl(triplet: type, configs: list[ConfigNode], argv: Sequence[str]) -> type:
    class TripletOrDRSL(triplet):
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            cfg = configs[-1] if configs else None
            if cfg is None or cfg.loss.name != "drsl":
                return super().__new__(cls)
            given = inspect.signature(triplet).bind(*args, **kwargs).arguments
            checkpoint = load(cfg.model.resume, RESUME) if cfg.model.resume else None
            return build_engine(
                cfg,
                given["datamanager"],
                given["model"],
                given["optimizer"],
                given.get("scheduler"),
                describe_run(cfg, argv, checkpoint=checkpoint),
            )

    return TripletOrDRSL
