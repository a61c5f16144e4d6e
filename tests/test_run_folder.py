from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from drsl_plugin.runs.folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "a" / "run")
    folder.start("loss: drsl\n", {"seed": 1}, epochs_done=0)
    for epoch in (1, 2, 3):
        folder.log(step=epoch * 2, epoch=epoch, loss_drsl=0.5)
    return folder


def test_a_new_run_starts_anew(folder: RunFolder) -> None:
    folder.start("loss: softmax\n", {"seed": 2}, epochs_done=0)
    assert folder.rows() == []
    assert (folder.path / "config.yaml").read_text() == "loss: softmax\n"
    assert json.loads((folder.path / "environment.json").read_text()) == {"seed": 2}


def test_a_resumed_run_keeps_the_epochs_behind_it(folder: RunFolder) -> None:
    folder.log(step=None, epoch=None, target="market1501", mAP=0.1)
    folder.start("loss: drsl\n", {}, epochs_done=2)
    assert [row["epoch"] for row in folder.rows()] == [1, 2, None]


def test_a_line_that_was_cut_off_is_left_out(folder: RunFolder) -> None:
    with folder.metrics.open("a") as file:
        file.write('{"step": 8, "ep')
    assert [row["step"] for row in folder.rows()] == [2, 4, 6]
    folder.log(step=10, epoch=5)
    assert [row["step"] for row in folder.rows()] == [2, 4, 6, 10]


def test_features_replace_older_ones_whole(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.save_features("market1501", {"query_pids": np.arange(3)})
    path = folder.save_features("market1501", {"query_pids": np.arange(4)})
    assert np.load(path)["query_pids"].tolist() == [0, 1, 2, 3]
    monkeypatch.setattr(np, "savez", lambda file, **arrays: (file.write(b"half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        folder.save_features("market1501", {"query_pids": np.arange(5)})
    assert np.load(path)["query_pids"].tolist() == [0, 1, 2, 3]
    assert not list(folder.path.glob("*.unfinished"))
