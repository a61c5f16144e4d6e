from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hosts import Torchreid

SMALLEST = {
    "use_gpu": False,
    "model.name": "osnet_x0_25",
    "model.pretrained": False,
    "data.height": 64,
    "data.width": 32,
    "data.workers": 0,
    "sampler.train_sampler": "RandomIdentitySampler",
    "sampler.num_instances": 2,
    "train.batch_size": 8,
    "train.max_epoch": 1,
    "train.print_freq": 1,
    "test.batch_size": 32,
    "loss.name": "drsl",
}


@pytest.fixture(scope="session")
def small_options() -> Callable[..., list[str]]:
    """``small_options(root, save_dir, **{"train.lr": 0.1})``: the arguments of the smallest run, with changes."""

    def options(root: Path, save_dir: Path, **changes: Any) -> list[str]:
        settings = {**SMALLEST, "data.root": root, "data.save_dir": save_dir, **changes}
        return [str(word) for pair in settings.items() for word in pair]

    return options


@pytest.fixture(scope="session")
def host(demo_root: Path) -> Torchreid:
    """The toolbox as the tests of both see it."""
    return Torchreid(demo_root)
