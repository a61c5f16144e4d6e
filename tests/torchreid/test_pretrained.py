"""Torchreid's pretrained weights where there is no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gdown
import pytest
import torch
import torchreid
from hosts import Torchreid
from torch.utils import model_zoo


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "run"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Torch's home in a folder of the test, and no way to fetch anything into it."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("no route to host\n\n\tsee the manual")

    home = tmp_path / "torch-home"
    monkeypatch.setenv("TORCH_HOME", str(home))
    monkeypatch.setattr(gdown, "download", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return home


PRETRAINED = [
    ("osnet_x0_25", "conv1.conv.weight", "checkpoints/osnet_x0_25_imagenet.pth"),
    ("osnet_ain_x0_25", "conv1.conv.weight", "checkpoints/osnet_ain_x0_25_imagenet.pth"),
    ("resnet18", "conv1.weight", "hub/checkpoints/resnet18-5c106cde.pth"),
    ("shufflenet_v2_x0_5", "conv1.0.weight", "hub/checkpoints/shufflenetv2_x0.5-f707e7126e.pth"),
]


@pytest.mark.parametrize(("model", "layer", "place"), PRETRAINED)
def test_pretrained_weights_that_cannot_be_fetched(
    model: str,
    layer: str,
    place: str,
    no_network: Path,
    output: Path,
    host: Torchreid,
) -> None:
    still = {"train.lr": 0, "train.weight_decay": 0}
    options = host.options(output, **{"model.name": model, "model.pretrained": True, **still})
    message = host.command(host.name, *options).error
    assert message.startswith(f"model.pretrained True: the ImageNet weights of {model} cannot be fetched (no route to")
    assert message.endswith(f" at {no_network / place}, or set model.pretrained False")
    assert "put the file (from http" in message
    assert not output.exists()

    weights = torchreid.models.build_model(model, num_classes=1000, pretrained=False).state_dict()
    (no_network / place).parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights, no_network / place)
    assert host.command(host.name, *options).code == 0
    trained = torch.load(output / "model" / "model.pth.tar-1", weights_only=False)["state_dict"]
    assert torch.equal(trained[layer], weights[layer])


def test_downloads_are_torchreids_own_again(no_network: Path, host: Torchreid) -> None:
    before = gdown.download, model_zoo.load_url, torch.load
    assert host.run(no_network, pretrained=True).code == 2
    assert (gdown.download, model_zoo.load_url, torch.load) == before
