"""A report of Market-1501's size: the page stays small, and memory within bounds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drsl_plugin.runs.folder import RunFolder

PROGRAM = r"""
import re, sys
import torch
from drsl_plugin.report.main import main
from pathlib import Path
torch.set_num_threads(1)
main([Path(sys.argv[1])], Path(sys.argv[2]))
print(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])  # ru_maxrss counts the parent's, too
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of its memory")
def test_a_page_of_market1501_is_under_five_megabytes(tmp_path: Path) -> None:
    """3,368 queries, 19,732 gallery images, 60 epochs of 200 steps; images of noise, which JPEG packs worst."""
    rng = np.random.default_rng(0)
    images = []
    for place in range(200):
        images.append(tmp_path / f"{place}.jpg")
        Image.fromarray(rng.integers(0, 256, (128, 64, 3), dtype=np.uint8)).save(images[-1])
    arrays = {}
    for part, count in (("query", 3368), ("gallery", 19732)):
        pids = rng.integers(1 if part == "query" else -1, 751, count)
        arrays[f"{part}_features"] = rng.normal(size=(count, 64)).astype(np.float32)
        arrays[f"{part}_pids"], arrays[f"{part}_camids"] = pids, rng.integers(0, 6, count)
        arrays[f"{part}_paths"] = np.array(list(map(str, images)))[rng.integers(0, len(images), count)]
    folder = RunFolder(tmp_path / "run")
    folder.save_features("market1501", arrays)
    lines = (f'{{"step": {step}, "loss_drsl": {rng.random()}, "ap": {rng.random()}}}\n' for step in range(12_000))
    folder.write_text("metrics.jsonl", "".join(lines))

    output = tmp_path / "page.html"
    command = [sys.executable, "-c", PROGRAM, str(folder.path), str(output)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)

    assert len(set(re.findall(r'data-picture="(\d+)"', output.read_text(encoding="utf-8")))) > 60
    assert output.stat().st_size < 5e6
    assert int(run.stdout.split()[-1]) * 1024 < 2 * 2**30
