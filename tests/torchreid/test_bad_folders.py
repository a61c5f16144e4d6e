"""Torchreid's data sets that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hosts import Torchreid


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "run"


@pytest.mark.parametrize(
    ("name", "folder", "how"),
    [
        ("market1501", "market1501", "unpack Market-1501-v15.09.15.zip"),
        ("msmt17", "msmt17", "MSMT17_V1"),
        ("dukemtmcreid", "dukemtmc-reid", "withdrawn"),
        ("viper", "viper", "Torchreid's documentation"),
    ],
)
def test_data_set_not_on_disk(name: str, folder: str, how: str, tmp_path: Path, output: Path) -> None:
    message = Torchreid(tmp_path / "data").refusal(output, **{"data.sources": name, "data.targets": name})
    assert message.startswith(f"--sources {name}: not on disk, no folder {tmp_path / 'data' / folder} ")
    assert how in message
    assert list(tmp_path.iterdir()) == []  # Torchreid would make the folder and try a download


def test_data_set_without_its_files(tmp_path: Path, output: Path) -> None:
    (tmp_path / "market1501").mkdir()
    message = Torchreid(tmp_path).refusal(output)
    assert f'"{tmp_path}/market1501/bounding_box_train" is not found (--root is {tmp_path})' in message
