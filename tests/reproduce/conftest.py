from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from drsl_plugin.reproduce.runs import Run
from drsl_plugin.reproduce.table_files import Row

# What stands in for a toolbox: it writes down that it began, waits, and leaves what a run leaves.
STAND_IN = """
import json, os, pathlib, signal, sys, time
import numpy as np
folder, seconds = pathlib.Path(sys.argv[1]), float(sys.argv[2])
with open(folder.parent / "began.txt", "a") as file:
    file.write(folder.name + "\\n")
folder.mkdir(parents=True, exist_ok=True)
(folder / "config.yaml").write_text("train:\\n  max_epoch: 2\\ntest:\\n  dist_metric: cosine\\n")
print("epoch 1")
(folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "epoch": 1, "loss_x": 1.0}) + "\\n")
(folder / "environment.txt").write_text(os.environ.get("SLOT", ""))
time.sleep(seconds)
rng = np.random.default_rng(0)
labels = np.arange(6) % 3
arrays = {"features": rng.normal(size=(6, 4)), "pids": labels}
parts = {f"{p}_{k}": v for p in ("query", "gallery") for k, v in arrays.items()}
parts |= {"query_camids": np.zeros(6, int), "gallery_camids": np.ones(6, int)}
np.savez(folder / "features-market1501.npz", **parts)
with open(folder / "metrics.jsonl", "a") as file:
    file.write(json.dumps({"step": 2, "epoch": 2, "target": "market1501", "mAP": 0.5}) + "\\n")
"""


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    script = tmp_path_factory.mktemp("stand-in") / "toolbox.py"
    script.write_text(STAND_IN, encoding="utf-8")
    return script


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Four runs that are to lie in the test's own folder."""
    row = Row("row", "torchreid", "osnet_x1_0_drsl_256x128_{data}", {}, ("market1501",), None, {}, tmp_path)
    return [Run(row, "market1501", seed, tmp_path / "runs" / f"run-{seed}") for seed in range(4)]


@pytest.fixture
def takes(stand_in: Path) -> Callable[[float], Callable[[Run], list[str]]]:
    """The command of a run that takes some seconds."""
    return lambda seconds: lambda run: [sys.executable, str(stand_in), str(run.folder), str(seconds)]
