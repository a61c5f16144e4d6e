"""FastReID's data sets that are not there, and a folder into which others write meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fastreid
import pytest
from comparing import content
from hosts import FastReID


@pytest.mark.parametrize(
    ("name", "folder", "how"),
    [
        ("Market1501", "Market-1501-v15.09.15", "unpack Market-1501-v15.09.15.zip"),
        ("MSMT17", "MSMT17_V1", "ask its authors"),
        ("CUHK03", "cuhk03", "cuhk03_release.zip"),
        ("DukeMTMC", "DukeMTMC-reID", "withdrawn"),
        ("VeRi", "veri", "FastReID's documentation"),
    ],
)
def test_data_set_not_on_disk(
    name: str,
    folder: str,
    how: str,
    output: Path,
    tmp_path: Path,
) -> None:
    root = tmp_path / "data"
    both = {"DATASETS.NAMES": f'("{name}",)', "DATASETS.TESTS": f'("{name}",)'}
    message = FastReID(root).refusal(output, **both)
    assert message.startswith(f"DATASETS.NAMES {name}: not on disk, no folder {root / folder} (FASTREID_DATASETS")
    assert f"is {root})" in message
    assert how in message
    assert list(tmp_path.iterdir()) == []


def test_data_set_without_its_files(output: Path, tmp_path: Path) -> None:
    (tmp_path / "Market-1501-v15.09.15").mkdir()
    message = FastReID(tmp_path).refusal(output)
    assert message.startswith("DATASETS.NAMES Market1501: ")
    assert f'"{tmp_path}/Market-1501-v15.09.15/bounding_box_train" is not found' in message
    assert not output.parent.exists()


def test_what_others_write_meanwhile_stays(tmp_path: Path, host: FastReID, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "logs"
    build = fastreid.engine.DefaultTrainer.build_train_loader

    def slowly(cls: Any, cfg: Any) -> Any:
        (output / "other").mkdir()
        (output / "other" / "model_best.pth").write_text("mine", encoding="utf-8")
        (output / "notes.txt").write_text("mine", encoding="utf-8")
        return build.__func__(cls, cfg)

    monkeypatch.setattr(fastreid.engine.DefaultTrainer, "build_train_loader", classmethod(slowly))
    assert host.refusal(output, batch=32)
    assert content(output) == {output / "notes.txt": b"mine", output / "other" / "model_best.pth": b"mine"}
