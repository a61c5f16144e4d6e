"""MobileNetV2's weights under the toolboxes' names give the features that they gave under their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import mobilenet_weights


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """FastReID's network, which is the published one but for the name of its last convolution, with numbers drawn."""
    from drsl_plugin.fastreid.host import fastreid

    torch.manual_seed(0)
    network = fastreid.modeling.backbones.mobilenet.MobileNetV2("BN")
    weights = network.state_dict()
    for name, tensor in weights.items():
        if name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.1)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    path = tmp_path / "mobilenetv2.pt"
    torch.save(
        {name.replace("conv.", "features.18.", name.startswith("conv.")): each for name, each in weights.items()}, path
    )
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (128, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    return folder


def converted(toolbox: str, published: Path, *options: str) -> dict[str, torch.Tensor]:
    output = published.with_name(f"{toolbox}.pth")
    script = mobilenet_weights.__file__
    words = ["--weights", str(published), "--toolbox", toolbox, "--output", str(output), *options]
    subprocess.run([sys.executable, script, *words], check=True)
    found: dict[str, torch.Tensor] = torch.load(output, weights_only=True)
    return found


def test_both_networks_give_the_same_features(published: Path, images: Path) -> None:
    from drsl_plugin.fastreid.host import fastreid
    from drsl_plugin.torchreid.host import torchreid

    ours = fastreid.modeling.backbones.mobilenet.MobileNetV2("BN").eval()
    ours.load_state_dict(converted("fastreid", published))
    theirs = torchreid.models.build_model("mobilenetv2_x1_0", 1, pretrained=False).eval()
    left = theirs.load_state_dict(converted("torchreid", published, "--images", str(images)), strict=False)
    assert left.missing_keys == ["classifier.weight", "classifier.bias"]
    assert left.unexpected_keys == []
    pictures = mobilenet_weights.read_pictures(images)
    with torch.no_grad():
        expected, found = ours(pictures).mean(dim=(2, 3)), theirs(pictures)
    assert expected.std() > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_the_convolution_more_passes_on_what_it_is_given_in_training_too() -> None:
    maps = torch.rand(8, 4, 6, 5) * torch.arange(1, 5).view(4, 1, 1)
    convolution, scale, shift, mean, variance, _ = mobilenet_weights.pass_on(maps)
    between = torch.nn.functional.conv2d(maps, convolution)
    for training in (True, False):
        found = torch.nn.functional.batch_norm(between, mean.clone(), variance.clone(), scale, shift, training=training)
        torch.testing.assert_close(found, maps, rtol=1e-4, atol=1e-4)


def test_what_is_missing_is_one_line(published: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = [sys.executable, mobilenet_weights.__file__, "--toolbox", "torchreid", "--output", str(published) + ".out"]
    for words, line in (
        (["--weights", "nowhere.pt"], "error: --weights nowhere.pt: no such file"),
        (["--weights", str(published)], "error: --images None: Torchreid's first block is fitted to images"),
    ):
        assert subprocess.run([*script, *words], check=False).returncode == 2
        assert capfd.readouterr().err.startswith(line)
