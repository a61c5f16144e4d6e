"""One run of Torchreid from a configuration: data, model, optimizer, engine, as upstream's ``scripts/main.py`` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from drsl_plugin.errors import DRSLError
from drsl_plugin.runs.checkpoint_files import load, numpy_scalars_allowed
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.toolbox.pretrained import explained_download
from drsl_plugin.torchreid import checkpoints, processes
from drsl_plugin.torchreid.building import engine_class, engine_kwargs
from drsl_plugin.torchreid.checks import check_config, datasets
from drsl_plugin.torchreid.host import torchreid
from drsl_plugin.torchreid.kwargs import data_kwargs, optimizer_kwargs, run_kwargs, scheduler_kwargs
from drsl_plugin.torchreid.log import RunLog
from drsl_plugin.torchreid.recording import Evaluation, recorded, run_facts, was_evaluated
from drsl_plugin.torchreid.sharing import check_shares, data_parallel, seed_apart, share_batches


def train(
    cfg: Any,
    *,
    preset: str | None = None,
    argv: Sequence[str] = (),
    quiet: bool = False,
    on_step: Callable[[int, int, int], None] | None = None,
) -> dict[str, Evaluation]:
    """Train and evaluate, or evaluate only, as the configuration says; leaves the run folder ``cfg.data.save_dir``.

    Everything is checked and loaded before the first file is written.

    Args:
        cfg: the configuration, merged.
        preset: the name of the preset it came from, for ``environment.json``.
        argv: the command's arguments, for ``environment.json``.
        quiet: print to the run's log only.
        on_step: called after each training step with the epoch, the step in it and the number of steps in it, from 1.

    Returns:
        The last evaluation of each target.

    Raises:
        DRSLError: bad input, or a loss that is not finite.
    """
    check_config(cfg)
    check_shares(cfg)
    processes.start(cfg.use_gpu)
    torchreid.utils.set_random_seed(cfg.train.seed)
    torch.backends.cudnn.benchmark = bool(cfg.use_gpu)
    with RunLog(echo=not quiet) as log:
        print(f"Show configuration\n{cfg}\n")
        with processes.main_first():  # some data sets write a file when they are first read
            datamanager = _build_datamanager(cfg)
        share_batches(datamanager)
        engine = _build_engine(cfg, datamanager)
        engine.on_step = on_step
        engine.facts = run_facts(cfg, argv, preset)
        if engine.resumed is None and not cfg.test.evaluate and RunFolder(cfg.data.save_dir).metrics.exists():
            print(f"data.save_dir {cfg.data.save_dir} holds an earlier run: its metrics, features and best model go")
        if processes.rank() == 0:
            log.open(Path(cfg.data.save_dir), "test" if cfg.test.evaluate else "train")
        seed_apart()
        engine.run(**run_kwargs(cfg))
        evaluations: dict[str, Evaluation] = engine.evaluations
        return evaluations


def _build_datamanager(cfg: Any) -> Any:
    manager = torchreid.data.ImageDataManager if cfg.data.type == "image" else torchreid.data.VideoDataManager
    try:
        datamanager = manager(**data_kwargs(cfg))
    except (RuntimeError, ValueError) as error:  # a folder or a split that is not there
        raise DRSLError(f"--sources, --targets: {error} (--root is {cfg.data.root})") from error
    except AssertionError as error:
        _check_identities(cfg)
        reason = str(error) or f"Torchreid's own check of it failed with train.batch_size {cfg.train.batch_size}"
        raise DRSLError(f"sampler.train_sampler {cfg.sampler.train_sampler}: {reason}") from error
    if len(datamanager.train_loader) == 0 and not cfg.test.evaluate:
        images = len(datamanager.train_loader.dataset)
        raise DRSLError(
            f"train.batch_size {cfg.train.batch_size}: no batch can be filled from {images} training images"
        )
    for name in cfg.data.targets:
        _check_matches(name, *datamanager.fetch_test_loaders(name))
    return datamanager


def _check_matches(target: str, query: list[Any], gallery: list[Any]) -> None:
    """Find out before the training that Torchreid's evaluator would fail after it."""
    cameras: dict[int, set[int]] = {}
    for _, pid, camid, *_ in gallery:
        cameras.setdefault(pid, set()).add(camid)
    if not any(cameras.get(pid, set()) - {camid} for _, pid, camid, *_ in query):
        raise DRSLError(f"--targets {target}: no query has a match in the gallery from another camera")


def _check_identities(cfg: Any) -> None:
    """Say that there are too few identities for a batch; Torchreid's sampler only asserts it."""
    if cfg.sampler.train_sampler != "RandomIdentitySampler":
        return
    needed = cfg.train.batch_size // cfg.sampler.num_instances
    options = data_kwargs(cfg)
    names = options.pop("sources")
    sets = (datasets(cfg)[n](**options, transform=lambda i: i, mode="train", verbose=False) for n in names)
    found = sum(each.num_train_pids for each in sets)
    if found < needed:
        raise DRSLError(
            f"train.batch_size {cfg.train.batch_size}: needs {needed} identities (sampler.num_instances "
            f"{cfg.sampler.num_instances} images of each), and {', '.join(names)} has {found}; "
            f"at most {found * cfg.sampler.num_instances} would do"
        )


def _build_engine(cfg: Any, datamanager: Any) -> Any:
    print(f"Building model: {cfg.model.name}")
    download = explained_download("model.pretrained", cfg.model.name, enabled=cfg.model.pretrained)
    with processes.main_first(), download:
        model = torchreid.models.build_model(
            name=cfg.model.name,
            num_classes=datamanager.num_train_pids,
            loss="softmax" if cfg.loss.name == "softmax" else "triplet",
            pretrained=cfg.model.pretrained,
            use_gpu=cfg.use_gpu,
        )
    parameters, operations = torchreid.utils.compute_model_complexity(model, (1, 3, cfg.data.height, cfg.data.width))
    print(f"Model complexity: params={parameters:,} flops={operations:,}")
    if cfg.model.load_weights:
        _load_weights(model, cfg.model.load_weights)
    _check_open_layers(cfg, model)
    if cfg.use_gpu:
        model = data_parallel(model)
    optimizer = torchreid.optim.build_optimizer(model, **optimizer_kwargs(cfg))
    scheduler = torchreid.optim.build_lr_scheduler(optimizer, **scheduler_kwargs(cfg))
    resumed = None
    if cfg.model.resume:
        checkpoint = checkpoints.resume(cfg.model.resume, model, optimizer, scheduler)
        resumed = Path(cfg.model.resume).expanduser(), checkpoint
        cfg.train.start_epoch = checkpoint["epoch"]
        left = cfg.train.max_epoch - checkpoint["epoch"]
        if not cfg.test.evaluate and (left < 0 or (left == 0 and was_evaluated(checkpoint))):
            raise DRSLError(
                f"model.resume {cfg.model.resume}: has {checkpoint['epoch']} epochs behind it and train.max_epoch is "
                f"{cfg.train.max_epoch}; a larger one trains on, test.evaluate True with model.load_weights "
                "evaluates"
            )
    print(f"Building {cfg.loss.name}-engine for {cfg.data.type}-reid")
    engine = recorded(engine_class(cfg))(datamanager, model, optimizer, scheduler=scheduler, **engine_kwargs(cfg))
    engine.resumed = resumed
    if resumed and not cfg.test.evaluate:
        checkpoints.resume_memory(*resumed, engine)
    engine.weights = cfg.model.resume or cfg.model.load_weights
    return engine


def _load_weights(model: nn.Module, path: str) -> None:
    """Load weights as Torchreid does, leaving out layers of another shape; fitting less than half is an error here."""
    weights = load(path, "model.load_weights")
    weights = weights.get("state_dict", weights)
    own = {key: value.shape for key, value in model.state_dict().items() if value.is_floating_point()}
    found = {key.removeprefix("module."): getattr(value, "shape", None) for key, value in weights.items()}
    fitting = sum(found.get(key) == shape for key, shape in own.items())
    if 2 * fitting < len(own):  # a classifier for other identities is no other model
        raise DRSLError(
            f"model.load_weights {path}: weights of another model, {fitting} of the {len(own)} tensors of "
            f"{type(model).__name__} are in it with their shape"
        )
    with numpy_scalars_allowed():
        torchreid.utils.load_pretrained_weights(model, path)


def _check_open_layers(cfg: Any, model: nn.Module) -> None:
    if cfg.train.fixbase_epoch < 1:
        return
    for layer in cfg.train.open_layers:
        if not hasattr(model, layer):
            known = ", ".join(name for name, _ in model.named_children())
            raise DRSLError(f"train.open_layers {layer}: {cfg.model.name} has no such layer; it has {known}")
