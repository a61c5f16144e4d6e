"""What needs no toolbox works where none is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from drsl_plugin.runs.folder import RunFolder

NONE_INSTALLED = """
import sys
sys.modules.update(torchreid=None, fastreid=None, yacs=None)
from drsl_plugin.cli import main
main()
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = RunFolder(tmp_path / "run")
    folder.start("TEST: {METRIC: euclidean}\n", {"seed": 1}, epochs_done=0)
    rng = np.random.default_rng(0)
    parts = {}
    for part, images in (("query", 12), ("gallery", 48)):
        pids = np.arange(images) % 6
        parts[f"{part}_features"] = (np.eye(6)[pids] + 0.1 * rng.normal(size=(images, 6))).astype(np.float32)
        parts |= {f"{part}_pids": pids, f"{part}_camids": np.full(images, int(part == "gallery"))}
    folder.save_features("Market1501", parts)
    return folder.path


@pytest.mark.parametrize("words", [["evaluate", "RUN"], ["report", "RUN", "-o", "page.html"], ["presets"], ["--help"]])
def test_it_works(tmp_path: Path, run: Path, words: list[str]) -> None:
    words = [str(run) if word == "RUN" else word for word in words]
    done = subprocess.run(
        [sys.executable, "-c", NONE_INSTALLED, *words], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    if words[0] == "evaluate":
        assert "euclidean" in done.stdout
