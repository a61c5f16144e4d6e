from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torchreid

from drsl_plugin import DRSLoss
from drsl_plugin.torchreid import ImageDRSLEngine, VideoDRSLEngine, register, unregister

MODULES = (torchreid.losses, torchreid.engine, torchreid.models)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    unregister()


def contents() -> list[dict[str, object]]:
    return [dict(vars(module)) for module in MODULES]


def test_register_adds_the_names_and_unregister_takes_them_back() -> None:
    before = contents()
    register()
    assert torchreid.losses.DRSLoss is DRSLoss
    assert torchreid.engine.ImageDRSLEngine is ImageDRSLEngine
    assert torchreid.engine.VideoDRSLEngine is VideoDRSLEngine
    unregister()
    assert contents() == before


def test_register_twice_needs_one_unregister() -> None:
    before = contents()
    register()
    register()
    unregister()
    unregister()
    assert contents() == before


def test_build_model_returns_logits_and_features() -> None:
    register()
    for arguments, keywords in (((), {"loss": "drsl"}), (("drsl", False, False), {})):
        model = torchreid.models.build_model(
            "osnet_x0_25", 7, *arguments, **{**({"pretrained": False} if keywords else {}), **keywords}
        )
        logits, features = model.train()(torch.zeros(2, 3, 64, 32))
        assert logits.shape == (2, 7)
        assert features.shape == (2, 512)


def test_other_losses_are_built_as_before() -> None:
    register()
    model = torchreid.models.build_model("osnet_x0_25", 7, loss="softmax", pretrained=False).train()
    assert model(torch.zeros(2, 3, 64, 32)).shape == (2, 7)
    assert torchreid.models.build_model("osnet_x0_25", 7, loss="other", pretrained=False).loss == "other"


def test_without_register_torchreid_does_not_know_drsl() -> None:
    """What ``register`` is for: when this fails, Torchreid has a way of its own."""
    model = torchreid.models.build_model("osnet_x0_25", 7, loss="drsl", pretrained=False).train()
    with pytest.raises(KeyError, match="Unsupported loss"):
        model(torch.zeros(2, 3, 64, 32))
