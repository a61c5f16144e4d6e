"""Run folders as both toolboxes leave them: random features, tiny images, a few steps of training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from drsl_plugin.cli import app
from drsl_plugin.runs.folder import RunFolder

TORCHREID = {"loss": {"name": "drsl", "drsl": {"weight": 1.0}}, "train": {"lr": 0.1}, "test": {"dist_metric": "cosine"}}
MakeRun = Callable[..., Path]


def report(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def made_features(seed: int, images: Path | None = None, queries: int = 24, gallery: int = 120) -> dict[str, Any]:
    """Six identities, junk and distractors; every image is a file of its own below ``images``."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for part, count in (("query", queries), ("gallery", gallery)):
        pids = rng.integers(1 if part == "query" else -1, 7, count)
        arrays[f"{part}_features"] = (np.eye(8)[pids] + 0.5 * rng.normal(size=(count, 8))).astype(np.float32)
        arrays[f"{part}_pids"], arrays[f"{part}_camids"] = pids, rng.integers(0, 3, count)
        if images is not None:
            (images / part).mkdir(parents=True, exist_ok=True)
            paths = [images / part / f"{place}.jpg" for place in range(count)]
            for path in paths:
                Image.fromarray(rng.integers(0, 256, (32, 16, 3), dtype=np.uint8)).resize((32, 64)).save(path)
            arrays[f"{part}_paths"] = np.array(list(map(str, paths)))
    return arrays


def make_run_folder(
    path: Path, seed: int = 0, config: dict[str, Any] | None = None, targets: dict[str, dict[str, Any]] | None = None
) -> Path:
    folder = RunFolder(path)
    environment = {"python": "3.11", "versions": {"torch": f"2.{seed}"}, "device": "cpu", "seed": seed, "argv": ["-s"]}
    folder.start(yaml.safe_dump(TORCHREID if config is None else config), environment, 0)
    for step in range(1, 41):
        folder.log(step=step, epoch=1 + step // 20, loss_x=4 / step + seed, lr=0.1 / step)
        if seed == 0:
            folder.log(step=step, epoch=1 + step // 20, loss_drsl=1 / step, ap=1 - 1 / step)
        if step % 20 == 0:
            folder.log(step=step, epoch=step // 20, target="market1501", mAP=0.01 * step, mINP=0.1, rank1=0.5)
    for name, arrays in (targets or {"market1501": made_features(seed)}).items():
        folder.save_features(name, arrays)
    return path
