"""Pretrained weights that cannot be had: one line, which says where to put them, and nothing left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gdown
import pytest
import torch
from hosts import Host

FILE = Path("checkpoints", "osnet_x0_25_imagenet.pth")


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's home in a folder of the test, and no way to fetch anything into it."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("no route to host\n\n\tsee the manual")

    home = tmp_path / "torch-home"
    monkeypatch.setenv("TORCH_HOME", str(home))
    monkeypatch.setattr(gdown, "download", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return home


def test_weights_that_cannot_be_fetched(host: Host, no_network: Path, tmp_path: Path) -> None:
    error = host.refusal(tmp_path / "run", pretrained=True)
    assert error.startswith(f"{host.key('pretrained')} True: the ImageNet weights of ")
    assert "cannot be fetched (no route to host" in error
    assert "(from http" in error
    assert error.endswith(f" at {no_network / FILE}, or set {host.key('pretrained')} False")
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_something_else(host: Host, no_network: Path, tmp_path: Path) -> None:
    place = no_network / FILE
    place.parent.mkdir(parents=True)
    place.write_text("<html>quota exceeded</html>", encoding="utf-8")
    error = host.refusal(tmp_path / "run", pretrained=True)
    assert error.startswith(f"{host.key('pretrained')} True: the ImageNet weights of ")
    assert "cannot be loaded" in error
    assert f"delete {place}" in error
    assert not (tmp_path / "run").exists()
