from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from hypothesis import settings

from drsl_plugin.losses.backends import choice, chunked

# Same examples on every machine, nothing written to disk, no deadline on a busy one.
settings.register_profile("drsl", deadline=None, derandomize=True, database=None, max_examples=25)
settings.load_profile("drsl")

CHOOSE_BACKEND, CHUNK_SIZE = choice.choose_backend, chunked._choose_chunk_size
HAS_TRITON = importlib.util.find_spec("triton") is not None


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_generate_tests(metafunc: Any) -> None:
    """Every test of the loss runs on every path; the kernel, slow where it is interpreted, takes those marked so."""
    paths = ["unfused", "chunked"]
    if HAS_TRITON and (torch.cuda.is_available() or metafunc.definition.get_closest_marker("kernel")):
        paths.append("triton")
    if getattr(metafunc.module, "NAMES_ITS_PATHS", False):
        paths = ["auto"]
    if "path" in metafunc.fixturenames:
        metafunc.parametrize("path", paths, indirect=True)


@pytest.fixture(autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Send every loss that leaves its backend open down this path; the chunked one three queries at a time."""
    wanted: str = request.param
    if wanted == "auto":
        return wanted
    if wanted == "chunked":
        monkeypatch.setattr(chunked, "_choose_chunk_size", lambda *_: 3)
    if wanted == "triton" and not torch.cuda.is_available():  # where there is none, Triton interprets its kernels
        monkeypatch.setattr(choice, "kernels_run_on", lambda kind: True)

    def choose_backend(backend: str, device: torch.device, scores: int) -> str:
        on_path = wanted if wanted != "triton" or choice.kernels_run_on(device.type) else "chunked"
        return on_path if backend == "auto" else CHOOSE_BACKEND(backend, device, scores)

    monkeypatch.setattr(choice, "choose_backend", choose_backend)
    return wanted


@pytest.fixture
def own_chunks(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks as the loss chooses them."""
    monkeypatch.setattr(chunked, "_choose_chunk_size", CHUNK_SIZE)
