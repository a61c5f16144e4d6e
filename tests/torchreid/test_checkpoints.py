"""Checkpoints: written whole, exact after a resume, and old ones read."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchreid
from torch import nn

from drsl_plugin.errors import DRSLError
from drsl_plugin.runs.checkpoint_files import load
from drsl_plugin.torchreid import ImageDRSLEngine, checkpoints, generators


def make_engine(model: nn.Module, scheduled: bool = True) -> ImageDRSLEngine:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1) if scheduled else None
    datamanager = SimpleNamespace(train_loader=[], test_loader={}, num_train_pids=3)
    return ImageDRSLEngine(datamanager, model, optimizer, scheduler=scheduler, use_gpu=False)


@pytest.mark.parametrize("scheduled", [True, False])
def test_engine_saves_what_stock_torchreid_resumes(tmp_path: Path, scheduled: bool) -> None:
    """A plain float as rank1, so that upstream's own function reads it on torch >= 2.6; None as scheduler."""
    engine = make_engine(nn.Linear(2, 3), scheduled)
    engine.save_model(4, np.float64(0.25), str(tmp_path), is_best=True)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model-best.pth.tar", "model.pth.tar-5"]
    other = make_engine(nn.Linear(2, 3), scheduled)
    for name in ("model.pth.tar-5", "model-best.pth.tar"):
        start = torchreid.utils.resume_from_checkpoint(
            str(tmp_path / "model" / name), other.model, other.optimizer, other.scheduler
        )
        assert start == 5
    torch.testing.assert_close(other.model.state_dict(), engine.model.state_dict())
    torch.testing.assert_close(other.optimizer.state_dict(), engine.optimizer.state_dict())


def stock_checkpoint(folder: Path, engine: Any) -> Path:
    torchreid.engine.Engine.save_model(engine, 2, np.float64(0.5), str(folder))
    return folder / "model" / "model.pth.tar-3"


def test_checkpoints_of_older_torchreid_are_resumed(tmp_path: Path) -> None:
    engine = make_engine(nn.Linear(2, 3))
    path = stock_checkpoint(tmp_path, engine)
    other = make_engine(nn.Linear(2, 3))
    assert checkpoints.resume(path, other.model, other.optimizer, other.scheduler)["epoch"] == 3
    torch.testing.assert_close(other.model.state_dict(), engine.model.state_dict())


@pytest.mark.skipif(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6), reason="torch < 2.6 reads any pickle")
def test_old_checkpoint_needs_the_allow_list(tmp_path: Path) -> None:
    """When this fails, Torchreid or torch has mended it and ``numpy_scalars_allowed`` can go."""
    path = stock_checkpoint(tmp_path, make_engine(nn.Linear(2, 3)))
    with pytest.raises(Exception, match="weights_only"):
        torch.load(path)


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numpy_scalars_of_either_numpy_are_read(tmp_path: Path, module: str) -> None:
    """The scalar's module moved in numpy 2: rename it inside the saved pickle."""
    import zipfile

    source, target = tmp_path / "saved", tmp_path / "renamed"
    torch.save({"rank1": np.float32(0.5)}, source)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("data.pkl"):
                here = np.float64(0).__reduce__()[0].__module__.encode()
                data = data.replace(b"c" + here + b"\n", b"c" + module.encode() + b"\n")
            new.writestr(name, data)
    assert load(target, "model.resume")["rank1"] == 0.5


@pytest.mark.parametrize("saved_parallel", [True, False])
@pytest.mark.parametrize("parallel", [True, False])
def test_the_prefix_of_data_parallel_does_not_matter(tmp_path: Path, saved_parallel: bool, parallel: bool) -> None:
    wrap: Callable[[nn.Module], nn.Module] = nn.DataParallel
    engine = make_engine(wrap(nn.Linear(2, 3)) if saved_parallel else nn.Linear(2, 3))
    engine.save_model(0, 0.0, str(tmp_path))
    model = nn.Linear(2, 3)
    other = make_engine(wrap(model) if parallel else model)
    checkpoints.resume(tmp_path / "model/model.pth.tar-1", other.model, other.optimizer, other.scheduler)
    expected = {key.removeprefix("module."): value for key, value in engine.model.state_dict().items()}
    torch.testing.assert_close(model.state_dict(), expected, check_stride=False)


def test_resume_of_another_model_names_the_layers(tmp_path: Path) -> None:
    make_engine(nn.Linear(2, 3)).save_model(0, 0.0, str(tmp_path))
    other = make_engine(nn.Linear(2, 4))
    with pytest.raises(DRSLError, match=r"model.resume .*weight has shape \(3, 2\) there and \(4, 2\) in the model"):
        checkpoints.resume(tmp_path / "model/model.pth.tar-1", other.model, other.optimizer, None)


@pytest.mark.parametrize("failing", ["save", "copy"])
def test_a_write_that_fails_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    engine = make_engine(nn.Linear(2, 3))
    engine.save_model(0, 0.0, str(tmp_path), is_best=True)
    before = {path: path.read_bytes() for path in (tmp_path / "model").iterdir()}

    def half(source: Any, target: Any) -> None:
        Path(target).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(*((torch, "save", half) if failing == "save" else (checkpoints.shutil, "copy", half)))
    with pytest.raises(KeyboardInterrupt):
        engine.save_model(0, 0.5, str(tmp_path), is_best=True)
    best = tmp_path / "model" / "model-best.pth.tar"
    assert set((tmp_path / "model").iterdir()) == set(before)
    assert best.read_bytes() == before[best]


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_random_states_survive_a_checkpoint(tmp_path: Path) -> None:
    np.random.normal()  # leaves a second gaussian waiting, a part of numpy's state
    torch.save(generators.read_generators(), tmp_path / "state")
    expected = draws(), np.random.normal()
    draws()
    generators.set_generators(torch.load(tmp_path / "state"))
    assert (draws(), np.random.normal()) == expected


def test_preserved_random_state() -> None:
    state = generators.read_generators()
    expected = draws()
    generators.set_generators(state)
    with generators.preserve_generators():
        draws()
    assert draws() == expected
