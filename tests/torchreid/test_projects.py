"""The projects run on files on disk."""

from __future__ import annotations

import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torchreid

from drsl_plugin.torchreid import unregister
from drsl_plugin.torchreid.host import registry

MAIN = Path(__file__).parents[2] / "projects" / "own_dataset" / "main.py"


@pytest.fixture
def folders(demo_root: Path, tmp_path: Path) -> Iterator[Path]:
    """The rendered set, laid out as the project's README says."""
    market = demo_root / "market1501" / "Market-1501-v15.09.15"
    for source, split in (("bounding_box_train", "train"), ("query", "query"), ("bounding_box_test", "gallery")):
        for path in market.joinpath(source).glob("[0-9]*.jpg"):
            pid, rest = path.name.split("_", 1)
            target = tmp_path / "data" / split / pid / rest.replace("s1_", "_")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    yield tmp_path / "data"
    unregister()
    registry(torchreid.data.datasets, "__image_datasets").pop("own", None)


def test_own_dataset_trains(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_dir = tmp_path / "log"
    small = "--model osnet_x0_25 --no-pretrained --epochs 1 --height 64 --width 32 --identities 4 --instances 2"
    words = [str(folders), *small.split(), "--workers", "0", "--save-dir", str(save_dir)]
    monkeypatch.setattr(sys, "argv", [str(MAIN), *words])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    runpy.run_path(str(MAIN), run_name="__main__")
    assert (save_dir / "model" / "model.pth.tar-1").exists()


def test_own_dataset_says_what_it_expects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(MAIN), str(tmp_path)])
    with pytest.raises(SystemExit, match=r"train: no images; expected paths like .*/0007/c2_000153\.jpg"):
        runpy.run_path(str(MAIN), run_name="__main__")
    registry(torchreid.data.datasets, "__image_datasets").pop("own", None)
    unregister()


def test_own_dataset_says_that_identities_are_too_few(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(MAIN), str(folders)])
    with pytest.raises(SystemExit, match=r"--identities 16: .*/train has 8 identities"):
        runpy.run_path(str(MAIN), run_name="__main__")
