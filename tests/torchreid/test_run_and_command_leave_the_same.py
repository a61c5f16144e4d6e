"""``drsl run`` with a main of upstream's shape leaves what ``drsl torchreid`` leaves: files and what is in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from drsl_plugin import run
from drsl_plugin.runs.checkpoint_files import load
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.torchreid.main import main

Options = Callable[..., list[str]]

DEFAULT_CONFIG = """
from yacs.config import CfgNode
from drsl_plugin.torchreid.config import DEFAULTS

def get_default_config():
    return CfgNode(DEFAULTS).clone()
"""

# What upstream's scripts/main.py does, in its order.
MAIN = """
import sys
import torchreid
from torchreid.utils import compute_model_complexity, load_pretrained_weights, resume_from_checkpoint, set_random_seed
from default_config import get_default_config
from drsl_plugin.torchreid.kwargs import data_kwargs, optimizer_kwargs, run_kwargs, scheduler_kwargs

cfg = get_default_config()
cfg.use_gpu = False
cfg.merge_from_list(sys.argv[1:])
set_random_seed(cfg.train.seed)
data = torchreid.data.ImageDataManager(**data_kwargs(cfg))
model = torchreid.models.build_model(cfg.model.name, data.num_train_pids, cfg.loss.name, cfg.model.pretrained, False)
compute_model_complexity(model, (1, 3, cfg.data.height, cfg.data.width))
if cfg.model.load_weights:
    load_pretrained_weights(model, cfg.model.load_weights)
optimizer = torchreid.optim.build_optimizer(model, **optimizer_kwargs(cfg))
scheduler = torchreid.optim.build_lr_scheduler(optimizer, **scheduler_kwargs(cfg))
if cfg.model.resume:
    cfg.train.start_epoch = resume_from_checkpoint(cfg.model.resume, model, optimizer, scheduler)
engine = torchreid.engine.ImageTripletEngine(data, model, optimizer, scheduler=scheduler, use_gpu=False)
engine.run(**run_kwargs(cfg))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "default_config.py").write_text(DEFAULT_CONFIG)
    (folder / "main.py").write_text(MAIN)
    return folder / "main.py"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, demo_root: Path, small_options: Options) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    main(small_options(demo_root, folder, **{"loss.drsl.memory_size": 16}))
    return folder / "model" / "model.pth.tar-1"


def left_in(folder: Path) -> dict[str, Any]:
    """What a run left, by the files' names, but for its log, its TensorBoard files and its own place."""
    left: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if "tfevents" in name or ".log-" in name:
            continue
        if path.suffix == ".npz":
            left[name] = dict(np.load(path))
        elif path.suffix == ".json":
            left[name] = json.loads(path.read_text())
            left[name].pop("argv")
        elif path.suffix == ".yaml":
            left[name] = yaml.safe_load(path.read_text())
            left[name]["data"].pop("save_dir")
        elif path.suffix == ".jsonl":
            left[name] = RunFolder(folder).rows()
        else:
            left[name] = load(path, "")
    return left


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(each, other[name]) for name, each in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


KINDS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "training": lambda checkpoint: {"train.max_epoch": 2, "test.eval_freq": 1},
    "resumed": lambda checkpoint: {
        "train.max_epoch": 2,
        "loss.drsl.memory_size": 16,
        "model.resume": checkpoint,
    },
    "evaluation of weights": lambda checkpoint: {"test.evaluate": True, "model.load_weights": checkpoint},
    "evaluation of a checkpoint": lambda checkpoint: {"test.evaluate": True, "model.resume": checkpoint},
}


@pytest.mark.parametrize("kind", KINDS)
def test_both_leave_the_same(
    kind: str, trained: Path, script: Path, demo_root: Path, tmp_path: Path, small_options: Options
) -> None:
    options = KINDS[kind](trained)
    main(small_options(demo_root, tmp_path / "command", **options))
    run.main([str(script), *small_options(demo_root, tmp_path / "script", **options)])
    command, by_script = left_in(tmp_path / "command"), left_in(tmp_path / "script")
    assert {"config.yaml", "environment.json", "metrics.jsonl", "features-market1501.npz"} <= command.keys()
    assert command.keys() == by_script.keys()
    for name, content in command.items():
        assert same(content, by_script[name]), name
    if "evaluation" in kind:
        assert [row["weights"] for row in by_script["metrics.jsonl"]] == [str(trained)]
