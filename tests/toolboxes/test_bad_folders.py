"""Folders that a run of either toolbox cannot write into, and data that are not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hosts import Host


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_the_folder_is_a_file(below: str, host: Host, unread: None, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine", encoding="utf-8")
    error = host.refusal(file / below)
    assert error.startswith(f"{host.key('folder')} {file / below}: {file} is a file")
    assert file.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("there", [True, False], ids=["there", "yet to be made"])
def test_the_folder_cannot_be_written_to(
    there: bool, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o500)
    output = folder if there else folder / "logs" / "run"
    if os.access(folder, os.W_OK):  # as root, whom no mode keeps out
        keep_out(monkeypatch, folder)
    try:
        assert host.refusal(output).startswith(f"{host.key('folder')} {output}: ")
        assert list(folder.iterdir()) == []
    finally:
        folder.chmod(0o700)


def keep_out(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Refuse to make or write files in a folder, and tell who asks, as the system does with others than root."""
    access, make, create = os.access, os.mkdir, open

    def inside(path: Any) -> bool:
        return isinstance(path, (str, os.PathLike)) and folder in (Path(path), *Path(path).parents)

    def refuse(path: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    def allowed(path: Any, mode: int, **kwargs: Any) -> bool:
        return access(path, mode, **kwargs) and not (mode & os.W_OK and inside(path))

    def mkdir(path: Any, *args: Any, **kwargs: Any) -> None:
        return refuse(path) if inside(path) and Path(path) != folder else make(path, *args, **kwargs)

    def opened(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return refuse(path) if inside(path) and set(mode) & set("wax+") else create(path, mode, *args, **kwargs)

    patch.setattr(os, "access", allowed)
    patch.setattr(os, "mkdir", mkdir)
    patch.setattr("builtins.open", opened)


# Data


def test_data_that_are_not_on_disk(host: Host, tmp_path: Path) -> None:
    away = type(host)(tmp_path / "data")
    error = away.refusal(tmp_path / "run")
    folder = tmp_path / "data" / host.data_folder
    assert error.startswith(f"{host.key('sources')} {host.target}: not on disk, no folder {folder} (")
    assert f"is {tmp_path / 'data'})" in error
    assert "unpack Market-1501-v15.09.15.zip" in error
    assert list(tmp_path.iterdir()) == []


def test_queries_without_a_match(trained: Callable[..., Path], host: Host, tmp_path: Path) -> None:
    away = type(host)(shutil.copytree(host.root, tmp_path / "data", symlinks=True))
    for path in (tmp_path / "data").rglob("bounding_box_test/*.jpg"):
        if not path.name.startswith("0000"):
            path.unlink()
    query = next((tmp_path / "data").rglob("query/*.jpg"))
    for number in range(10):  # so that the gallery is as long as the ranks that are shown
        shutil.copy(query, query.parents[1] / "bounding_box_test" / f"1400_c1s1_{number:06d}_00.jpg")
    error = away.refusal(tmp_path / "run", evaluate=host.checkpoint(trained()))
    assert error.startswith(
        f"{host.key('targets')} {host.target}: no query has a correct match in the gallery from another cam"
    )
    assert not (tmp_path / "run").exists()
