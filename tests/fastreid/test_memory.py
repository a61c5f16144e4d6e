"""The memory of earlier embeddings in FastReID's models: of several features, in half precision, left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import assert_equal_runs
from hosts import FastReID
from stopping import STEPS, interrupt_at
from torch import Tensor
from watching import Call, watch_losses

from drsl_plugin import drsl_loss
from drsl_plugin.fastreid import DRSLBaseline
from drsl_plugin.fastreid.config import get_cfg
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.main import main
from drsl_plugin.fastreid.meta_arch import build_model
from drsl_plugin.runs.folder import RunFolder

Options = Callable[..., list[str]]
EventStorage = fastreid.utils.events.EventStorage
MEMORY = {
    "MODEL.LOSSES.DRSL.MEMORY_SIZE": 20,
    "MODEL.LOSSES.DRSL.MEMORY_WARMUP": 2,
    "MODEL.LOSSES.DRSL.MEMORY_FILL": "stored",
}
COSINE = {
    "MODEL.LOSSES.DRSL.TEMPERATURE": 0.2,
    "MODEL.LOSSES.DRSL.TEMPERATURE_SCHEDULE": "cosine",
    "MODEL.LOSSES.DRSL.TEMPERATURE_END": 0.02,
}
TWO_FEATURES = {"MODEL.META_ARCHITECTURE": "TwoFeatures", "MODEL.LOSSES.NAME": '("DRSLoss",)'}
LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 2, 3])


@fastreid.modeling.meta_arch.META_ARCH_REGISTRY.register()
class TwoFeatures(DRSLBaseline):
    """DRSL on two features, as MGN has it on five."""

    def losses(self, outputs: dict[str, Tensor], gt_labels: Tensor) -> dict[str, Tensor]:
        features = outputs["features"]
        return self._drsl_losses({"loss_drsl_a": features, "loss_drsl_b": features[:, :50] ** 2}, gt_labels, 1.0)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What the losses of a run get, call by call."""
    return watch_losses(monkeypatch)


def model_of(**changes: Any) -> Any:
    cfg = get_cfg()
    settings = {
        "MODEL.DEVICE": "cpu",
        "MODEL.BACKBONE.NAME": "build_osnet_backbone",
        "MODEL.BACKBONE.DEPTH": "x0_25",
        "MODEL.BACKBONE.FEAT_DIM": 128,
        "MODEL.BACKBONE.PRETRAIN": False,
        "MODEL.HEADS.NUM_CLASSES": 4,
        "MODEL.HEADS.WITH_BNNECK": True,
        "MODEL.LOSSES.NAME": ("DRSLoss",),
        **changes,
    }
    cfg.merge_from_list([word for pair in settings.items() for word in pair])
    torch.manual_seed(0)
    return build_model(cfg).train()


def step(model: Any, number: int) -> dict[str, Tensor]:
    images = torch.rand(len(LABELS), 3, 64, 32, generator=torch.Generator().manual_seed(number)) * 255
    with EventStorage(0):
        losses: dict[str, Tensor] = model({"images": images, "targets": LABELS})
    return losses


# A resumed run


def test_a_resumed_run_of_several_features_equals_an_uninterrupted_one(
    fastreid_root: Path, tmp_path: Path, fastreid_options: Options, host: FastReID, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**MEMORY, **COSINE, **TWO_FEATURES, "SOLVER.MAX_EPOCH": 3}
    main(fastreid_options(tmp_path / "whole", **options))
    with monkeypatch.context() as patch:
        interrupt_at(patch, STEPS + 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            main(fastreid_options(tmp_path / "cut", **options))
    torch.rand(7)
    main(["--resume", *fastreid_options(tmp_path / "cut", **options)])
    assert_equal_runs(host, tmp_path / "cut", tmp_path / "whole")
    memories = host.checkpoints(tmp_path / "cut")["model_final.pth"]["drsl_memory"]
    assert len(memories) == 2
    taken = 3 * STEPS
    for memory in memories:
        assert (memory["filled"], memory["batches"], memory["position"]) == (20, taken, 8 * taken % 20)
        assert memory["embeddings"].abs().sum() > 0


def test_weights_load_both_ways_when_the_ring_is_filled() -> None:
    ours, stock = model_of(**MEMORY), model_of(**{"MODEL.LOSSES.NAME": ("CrossEntropyLoss",)})
    step(ours, 0)
    stock.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(stock.state_dict(), strict=True)
    assert ours.drsl_features.of(0).memory.filled == len(LABELS)


# They reach the loss


def test_each_feature_has_a_memory_of_its_own() -> None:
    model = model_of(**{"MODEL.META_ARCHITECTURE": "TwoFeatures", "MODEL.LOSSES.DRSL.MEMORY_SIZE": 24})
    outputs: list[Tensor] = []
    handle = model.heads.register_forward_hook(lambda *given: outputs.append(given[2]["features"].detach()))
    for number in range(3):
        losses = step(model, number)
        for name, feature in (("loss_drsl_a", lambda x: x), ("loss_drsl_b", lambda x: x[:, :50] ** 2)):
            *earlier, features = (feature(each) for each in outputs)
            refs = (torch.cat(earlier), LABELS.repeat(number)) if earlier else ()
            torch.testing.assert_close(losses[name].detach(), drsl_loss(features, LABELS, *refs), rtol=1e-6, atol=0)
    handle.remove()
    assert [state["embeddings"].shape for state in model.drsl_features.memory_state()] == [(24, 128), (24, 50)]


def test_an_evaluation_leaves_the_memory_alone() -> None:
    model = model_of(**MEMORY)
    step(model, 0)
    with torch.no_grad():
        model.eval()({"images": torch.rand(4, 3, 64, 32), "targets": LABELS[:4]})
    assert not model.drsl_features.of(0).training
    assert model.drsl_features.of(0).memory.batches == 1


def test_half_precision_is_stored_in_float32() -> None:
    model = model_of(**MEMORY)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = step(model, 0)
        step(model, 1)
    assert losses["loss_drsl"].dtype == torch.float32
    embeddings, labels = model.drsl_features.of(0).memory.entries()
    assert embeddings.dtype == torch.float32
    assert labels.tolist() == [*LABELS.tolist(), *LABELS.tolist()]


def test_statistics_that_are_made_exact_at_the_end_are_no_steps(
    fastreid_root: Path, tmp_path: Path, fastreid_options: Options, host: FastReID
) -> None:
    options = {"TEST.PRECISE_BN.ENABLED": True, "TEST.PRECISE_BN.NUM_ITER": 2}
    main(fastreid_options(tmp_path / "run", **MEMORY, **options))
    (memory,) = host.checkpoints(tmp_path / "run")["model_final.pth"]["drsl_memory"]
    assert memory["batches"] == STEPS


def test_all_features_have_the_temperature(
    fastreid_root: Path, tmp_path: Path, fastreid_options: Options, seen: list[Call]
) -> None:
    main(fastreid_options(tmp_path / "run", **MEMORY, **COSINE, **TWO_FEATURES))
    shown = [row["temperature"] for row in RunFolder(tmp_path / "run").rows() if "lr" in row]
    assert [call.temperature for call in seen] == [each for each in shown for _ in range(2)]
    assert [call.kept for call in seen] == [0, 0, 0, 0, 16, 16, 20, 20]
