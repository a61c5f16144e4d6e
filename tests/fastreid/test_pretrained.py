"""FastReID's pretrained weights where there is no network."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdown
import pytest
from hosts import FastReID


@pytest.fixture
def run(trained: Callable[..., Path], tmp_path: Path) -> Path:
    """The folder of a run of one epoch, a copy for the test."""
    return shutil.copytree(trained(), tmp_path / "trained")


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of downloads, and nothing to be downloaded."""

    def download(url: str, output: str, **kwargs: Any) -> None:
        raise OSError("Failed to resolve the host")

    monkeypatch.setattr(gdown, "download", download)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch"


@pytest.mark.parametrize(
    ("model", "file", "source"),
    [
        ({}, "osnet_x0_25_imagenet.pth", "https://drive.google.com"),
        (
            {
                "MODEL.BACKBONE.NAME": "build_resnet_backbone",
                "MODEL.BACKBONE.DEPTH": "18x",
                "MODEL.BACKBONE.FEAT_DIM": 512,
            },
            "resnet18-5c106cde.pth",
            "https://download.pytorch.org",
        ),
    ],
)
def test_pretrained_weights_that_cannot_be_fetched(
    model: dict[str, object],
    file: str,
    source: str,
    no_network: Path,
    output: Path,
    host: FastReID,
) -> None:
    message = host.refusal(output, **model, **{"MODEL.BACKBONE.PRETRAIN": True})
    assert message.startswith("MODEL.BACKBONE.PRETRAIN True: the ImageNet weights of ")
    assert "cannot be fetched (Failed to resolve the host)" in message
    assert f"(from {source}" in message
    assert f"at {no_network / 'checkpoints' / file}, or set MODEL.BACKBONE.PRETRAIN False" in message
    assert not output.parent.exists()


def test_an_evaluation_fetches_nothing(no_network: Path, run: Path, host: FastReID) -> None:
    options = {"MODEL.BACKBONE.PRETRAIN": True, "MODEL.WEIGHTS": run / "model_final.pth"}
    assert host.command(host.name, "--eval-only", *host.options(run, **options)).code == 0
