from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from drsl_plugin.data import render_demo

if TYPE_CHECKING:
    from hosts import Host

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, which other packages do too


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


# Of a toolbox: the fixture ``host`` of a folder says which


@pytest.fixture(scope="session")
def trainings() -> dict[tuple[str, str], Path]:
    """The folders of runs by their toolbox and settings."""
    return {}


@pytest.fixture(scope="module")  # not longer: folders have hosts of their own
def trained(
    host: Host, trainings: dict[tuple[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """``trained(epochs=2)``: the folder of a run with these changes, trained once; copy it to write there."""

    def folder(**changes: Any) -> Path:
        key = host.name, str(sorted(host.settings(**changes).items()))
        if key not in trainings:
            path = tmp_path_factory.mktemp(f"{host.name}-trained") / "run"
            host.train(path, **changes)
            trainings[key] = path
        return trainings[key]

    return folder


@pytest.fixture
def unread(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that must not be read: what is wrong is known before."""

    def read(*args: Any, **kwargs: Any) -> None:
        pytest.fail("data were read")

    monkeypatch.setattr(host.data_set, "__init__", read)
