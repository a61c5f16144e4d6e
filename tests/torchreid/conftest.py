from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from drsl_plugin.data import render_demo

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


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered Market-1501: 8 identities to train on and 8 to test on, 2 cameras, 2 images from each."""
    return render_demo(tmp_path_factory.mktemp("demo"), identities=8, cameras=2, images=2)


@pytest.fixture(scope="session")
def small_options() -> Callable[..., list[str]]:
    """``small_options(root, save_dir, **{"train.lr": 0.1})``: the arguments of the smallest run, with changes."""

    def options(root: Path, save_dir: Path, **changes: Any) -> list[str]:
        settings = {**SMALLEST, "data.root": root, "data.save_dir": save_dir, **changes}
        return [str(word) for pair in settings.items() for word in pair]

    return options
