"""Torchreid's reader of images, in the main process and in loader workers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drsl_plugin.data.images import read_image
from drsl_plugin.errors import SettingError
from drsl_plugin.torchreid.host import torchreid
from drsl_plugin.torchreid.reading import prepare_worker, reading_images


def test_stock_reader_never_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When this fails, Torchreid gives a broken image up, and ``reading.reading_images`` may not be needed."""
    (tmp_path / "a.jpg").touch()
    tried = []

    def open_image(path: str) -> Image.Image:
        tried.append(path)
        if len(tried) == 50:
            raise KeyboardInterrupt
        raise OSError

    monkeypatch.setattr(Image, "open", open_image)
    with pytest.raises(KeyboardInterrupt):
        torchreid.utils.read_image(str(tmp_path / "a.jpg"))


def test_it_is_put_back(tmp_path: Path) -> None:
    stock = torchreid.utils.read_image
    Image.fromarray(np.zeros((2, 2), dtype=np.uint16)).save(tmp_path / "a.png")
    with reading_images():
        assert torchreid.utils.read_image(str(tmp_path / "a.png")).getpixel((0, 0)) == (0, 0, 0)
    assert torchreid.utils.read_image is stock
    with (
        pytest.raises(SettingError, match=r"leave out what cannot be read by data\.skip_unreadable True"),
        reading_images(),
    ):
        torchreid.utils.read_image(str(tmp_path / "b.png"))


def test_a_worker_reads_as_the_main_process_does(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = sys.modules[torchreid.data.ImageDataset.__module__]
    monkeypatch.setattr(sets, "read_image", None)
    prepare_worker(0)
    assert sets.read_image is read_image  # type: ignore[attr-defined]
