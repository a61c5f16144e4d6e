"""DRSL beside FastReID's losses and alone: what a run logs of them, and what it learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastreid
import pytest
import torch
from trained_models import NO_DECAY, configured, unequal_weights

from drsl_plugin.fastreid.main import main
from drsl_plugin.fastreid.trainer import DRSLTrainer
from drsl_plugin.runs.folder import RunFolder

Options = Callable[..., list[str]]

LOSSES = {
    '("CrossEntropyLoss", "TripletLoss", "DRSLoss")': {"loss_cls", "loss_triplet", "loss_drsl"},
    '("DRSLoss", "CrossEntropyLoss")': {"loss_cls", "loss_drsl"},
    '("DRSLoss",)': {"loss_drsl"},
    '("TripletLoss", "DRSLoss", "CircleLoss", "Cosface")': {
        *("loss_triplet", "loss_drsl", "loss_circle", "loss_cosface")
    },
    '("CrossEntropyLoss", "TripletLoss")': {"loss_cls", "loss_triplet"},
}


@pytest.mark.parametrize("names", LOSSES)
def test_losses_side_by_side(
    names: str, fastreid_root: Path, tmp_path: Path, fastreid_options: Options, moved: list[set[str]]
) -> None:
    folder = RunFolder(tmp_path / "run")
    main(fastreid_options(folder.path, **{"MODEL.LOSSES.NAME": names, **NO_DECAY}))
    rows = [row for row in folder.rows() if "lr" in row]
    for row in rows:
        parts = {key for key in row if key.startswith("loss_")}
        assert parts == LOSSES[names]
        assert ("ap" in row) == ("DRSLoss" in names)
        total = sum(row[part] for part in parts)
        assert row.get("total_loss", total) == pytest.approx(total)
    assert all(("heads.weight" in step) == ("CrossEntropyLoss" in names) for step in moved)
    assert all("backbone.conv1.conv.weight" in step for step in moved)


def test_drsl_changes_what_is_learnt(fastreid_root: Path, tmp_path: Path, fastreid_options: Options) -> None:
    ends = {}
    for name, settings in {
        "drsl": {},
        "more": {"MODEL.LOSSES.DRSL.SCALE": 3},
        "none": {"MODEL.LOSSES.DRSL.SCALE": 0},
        "without": {"MODEL.LOSSES.NAME": '("CrossEntropyLoss",)'},
    }.items():
        main(fastreid_options(tmp_path / name, **settings))
        ends[name] = tmp_path / name / "model_final.pth"
    assert unequal_weights(ends["none"], ends["without"]) == set()
    for other in ("drsl", "more"):
        assert {"backbone.conv1.conv.weight", "heads.bottleneck.0.weight"} <= unequal_weights(ends["none"], ends[other])
    assert "backbone.conv1.conv.weight" in unequal_weights(ends["drsl"], ends["more"])


def test_each_setting_of_drsl_reaches_the_loss(fastreid_root: Path, tmp_path: Path, fastreid_options: Options) -> None:
    changes = {"DISTANCE": "euclidean", "TEMPERATURE": 0.5, "RELAXATION": "linear", "SORT": "order", "SORT_WEIGHT": 3}
    losses = []
    for key, value in {"SCALE": 1, **changes}.items():
        main(fastreid_options(tmp_path / key, **{f"MODEL.LOSSES.DRSL.{key}": value}))
        losses.append(RunFolder(tmp_path / key).rows()[0]["loss_drsl"])
    assert len(set(losses)) == len(losses)


@pytest.mark.parametrize("scale", [0.5, 4])
def test_scale_and_sort_weight(scale: float, fastreid_root: Path, tmp_path: Path, fastreid_options: Options) -> None:
    options = {"MODEL.LOSSES.DRSL.SCALE": scale, "MODEL.LOSSES.DRSL.SORT_WEIGHT": 2.5}
    main(fastreid_options(tmp_path / "run", **options))
    for row in RunFolder(tmp_path / "run").rows()[:4]:
        assert row["loss_drsl"] == pytest.approx(scale * (row["ranking"] + 2.5 * row["sorting"]), rel=1e-5)
        assert row["total_loss"] == pytest.approx(row["loss_cls"] + row["loss_drsl"])


@pytest.mark.parametrize("feature", ["before", "after"])
def test_drsl_takes_the_features_of_neck_feat(
    feature: str,
    fastreid_root: Path,
    tmp_path: Path,
    fastreid_options: Options,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    forward = fastreid.modeling.heads.EmbeddingHead.forward

    def watched(self: Any, features: torch.Tensor, targets: Any = None) -> Any:
        if self.training:
            pooled = self.pool_layer(features).flatten(1)
            mean, variance = pooled.mean(0), pooled.var(0, unbiased=False)
            seen.append((pooled, (pooled - mean) / (variance + 1e-5).sqrt()))
        return forward(self, features, targets)

    monkeypatch.setattr(fastreid.modeling.heads.EmbeddingHead, "forward", watched)
    losses = DRSLTrainer.build_model(configured(fastreid_options(tmp_path, **{"MODEL.HEADS.NECK_FEAT": feature})))
    images = torch.rand(8, 3, 64, 32) * 255
    targets = torch.arange(4).repeat_interleave(2)
    with fastreid.utils.events.EventStorage():
        loss = losses({"images": images, "targets": targets})["loss_drsl"]
    assert loss.item() == pytest.approx(losses.drsl(seen[0][feature == "after"], targets).item(), rel=1e-4)
