"""FastReID's images and the thread that reads ahead on CUDA; and what its own do, by which ours can go."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from drsl_plugin.data.images import ImageError
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.images import Images, TellingGenerator, TellingLoader, tell_of_errors


def palette(path: Path) -> np.ndarray[Any, Any]:
    """Write a picture of two colours by a palette."""
    colours = np.zeros((4, 4, 3), dtype=np.uint8)
    colours[:2], colours[2:] = (200, 30, 60), (10, 220, 90)
    Image.fromarray(colours).convert("P", palette=Image.Palette.ADAPTIVE, colors=2).save(path)
    return colours


def test_stock_reader_takes_a_palette_for_grey(tmp_path: Path) -> None:
    """When the second half fails, FastReID looks colours up, and ``images.Images`` may not be needed."""
    colours = palette(tmp_path / "a.png")
    items = [(str(tmp_path / "a.png"), "a_1", "a_1")]
    assert (np.asarray(Images(items)[0]["images"]) == colours).all()
    stock = np.asarray(fastreid.data.common.CommDataset(items)[0]["images"])
    assert stock.max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16"])
def test_other_modes(mode: str, tmp_path: Path) -> None:
    path = str(tmp_path / "a.png")
    Image.new(mode, (4, 8)).save(path)
    images = Images([(path, 1, 0)], fastreid.data.transforms.ToTensor(), relabel=False)
    assert images[0]["images"].shape[0] == 3


@pytest.fixture
def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)


def failing() -> Iterator[int]:
    yield 1
    raise ImageError("a.jpg", "why")


def test_an_error_of_the_thread_is_raised_where_the_batch_is_asked_for(without_cuda: None) -> None:
    batches = TellingGenerator(failing(), 0)
    assert next(batches) == 1
    with pytest.raises(ImageError, match=r"a\.jpg"):
        next(batches)
    batches.join(timeout=10)
    assert not batches.is_alive()


def test_what_was_read_ahead_is_thrown_away(without_cuda: None) -> None:
    batches = TellingGenerator(failing(), 0)
    batches.exit_event.set()
    assert list(batches) in ([], [1])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_stock_thread_leaves_its_reader_waiting(without_cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """When this fails, FastReID's thread tells of its errors, and ``images.TellingGenerator`` can go."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    batches = fastreid.data.data_utils.BackgroundGenerator(failing(), 0)
    batches.join(timeout=10)
    assert batches.queue.get(timeout=1) == 1
    with pytest.raises(queue.Empty):
        batches.queue.get(timeout=0.1)


class Words(Dataset[dict[str, str]]):
    """Batches of words, which no device is needed for; the second one fails."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, str]:
        if index:
            raise ImageError("a.jpg", "why")
        return {"img_paths": "good.jpg"}


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_on_cuda_ends_with_the_error(
    workers: int, without_cuda: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(wait_stream=lambda stream: None))
    with tell_of_errors():
        loader = fastreid.data.build.DataLoaderX(0, dataset=Words(), num_workers=workers)
    assert type(loader) is TellingLoader
    with pytest.raises(ImageError, match=r"a\.jpg"):
        list(loader)
