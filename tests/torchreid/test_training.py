"""``drsl torchreid`` end to end on files on disk, by Torchreid's own classes: what is peculiar to them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchreid
import yaml
from comparing import assert_equal_runs
from hosts import Torchreid, interrupted

from drsl_plugin.runs.checkpoint_files import load
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.torchreid.host import registry
from drsl_plugin.torchreid.main import main
from drsl_plugin.torchreid.recording import RecordedRun

# What a run leaves


@pytest.mark.parametrize("loss", ["drsl", "triplet", "classes"])
def test_a_run_leaves_what_it_returns(loss: str, host: Torchreid, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    evaluations = main(host.words(folder.path, losses=loss))
    config = yaml.safe_load((folder.path / "config.yaml").read_text())
    assert config["loss"]["name"] == host.losses[loss]["loss.name"]
    assert ("drsl" in config["loss"]) == (loss == "drsl")
    row = evaluations["market1501"].row([1, 5, 10, 20])
    assert folder.rows()[-1] == {"step": len(folder.rows()) - 1, "epoch": 1, "target": "market1501", **row}
    assert {path.name for path in (folder.path / "model").iterdir()} == {"model.pth.tar-1", "model-best.pth.tar"}
    assert len(list(folder.path.glob("train.log-*"))) == 1


def test_features_give_what_torchreid_evaluates(host: Torchreid, trained: Callable[..., Path]) -> None:
    arrays = np.load(host.features(trained()))
    query, gallery = (torch.from_numpy(arrays[f"{name}_features"]) for name in ("query", "gallery"))
    labels = [arrays[f"{name}_{kind}"] for kind in ("pids", "camids") for name in ("query", "gallery")]
    cmc, mean_ap = torchreid.metrics.evaluate_rank(host.distances(query, gallery).numpy(), *labels)
    row = RunFolder(trained()).rows()[-1]
    assert (row["mAP"], row["rank1"], row["rank5"]) == pytest.approx((mean_ap, cmc[0], cmc[4]))


def test_training_moves_the_weights_that_it_saves(host: Torchreid, trained: Callable[..., Path]) -> None:
    moved, still = (host.parameters(host.checkpoint(trained(lr=lr))) for lr in (0.01, 1e-12))
    assert all((moved[key] - still[key]).abs().max() > 1e-3 for key in ("conv1.conv.weight", "classifier.weight"))


def test_last_and_best_checkpoints_are_kept(host: Torchreid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.score(monkeypatch, 0.2, 0.6, 0.4)
    host.train(tmp_path / "run", epochs=3, eval_every=1)
    model = tmp_path / "run" / "model"
    assert sorted(path.name for path in model.iterdir()) == ["model-best.pth.tar", "model.pth.tar-3"]
    best = load(model / "model-best.pth.tar", "")
    assert (best["epoch"], best["mAP"], best["best_mAP"]) == (2, 0.6, 0.6)
    assert load(model / "model.pth.tar-3", "")["best_mAP"] == 0.6


def test_every_epoch_is_saved_though_none_is_evaluated(
    host: Torchreid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(RecordedRun, "_empty_patch_pools", lambda self: seen.append(self.checkpoints))
    host.train(tmp_path / "run", epochs=3)
    assert [[path.name for path in paths] for paths in seen] == [[], ["model.pth.tar-1"], ["model.pth.tar-2"]]


def test_a_run_with_random_patches_and_frozen_layers_goes_on_exactly(
    host: Torchreid, trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = host.random_patch.__init__
    monkeypatch.setattr(host.random_patch, "__init__", lambda self, **kwargs: create(self, min_sample_size=4))
    options = {
        "data.transforms": ["random_flip", "random_patch", "random_erase"],
        "train.lr_scheduler": "cosine",
        "train.fixbase_epoch": 1,
        "train.optim": "amsgrad",
        "epochs": 3,
        "lr": 0.003,
    }
    whole, cut = trained(**options), tmp_path / "cut"
    with interrupted(len([row for row in host.steps(whole) if row["epoch"] == 1]) + 2):
        assert host.run(cut, **options).code == 130
    torch.rand(7)
    host.train(cut, **options, resume=True)
    assert_equal_runs(host, cut, whole)


# The best so far


def test_a_folder_without_a_best_gets_its_own(host: Torchreid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    host.score(monkeypatch, 0.6, 0.2, 0.4, 0.2, 0.4)
    host.train(run)
    host.train(other, epochs=3, eval_every=1, resume=host.checkpoint(run))
    assert host.epoch(host.best(other)) == 3, "the folder had no best of its own"
    host.train(run, epochs=3, eval_every=1, resume=True)
    assert host.epoch(host.best(run)) == 1
    assert sorted(path.name for path in (run / "model").iterdir()) == ["model-best.pth.tar", "model.pth.tar-3"]


def test_best_is_by_the_first_target_and_the_first_to_reach_it(
    host: Torchreid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry(torchreid.data.datasets, "__image_datasets")["second"] = torchreid.data.datasets.image.Market1501
    try:
        host.score(monkeypatch, 0.3, 0.1, 0.3, 0.2, 0.2, 0.9)  # of the two targets in turn
        options = {"epochs": 3, "eval_every": 1, "data.targets": ["second", "market1501"]}
        host.train(tmp_path / "run", **options)
    finally:
        registry(torchreid.data.datasets, "__image_datasets").pop("second")
    best = load(host.best(tmp_path / "run"), "")
    rows = [row for row in RunFolder(tmp_path / "run").rows() if row.get("target") == "second"]
    assert (best["epoch"], best["mAP"], best["rank1"]) == (1, 0.3, rows[0]["rank1"])
    assert (tmp_path / "run" / "features-second.npz").exists()


# Evaluations


def test_a_resumed_checkpoint_can_be_evaluated(host: Torchreid, trained: Callable[..., Path], tmp_path: Path) -> None:
    run = shutil.copytree(trained(), tmp_path / "run")
    options = {"test.evaluate": True, "model.resume": host.checkpoint(run)}
    assert main(host.words(run, **options))["market1501"].mAP == host.evaluations(trained())[-1]["mAP"]


def test_an_evaluation_draws_ranks(host: Torchreid, trained: Callable[..., Path], tmp_path: Path) -> None:
    run = shutil.copytree(trained(), tmp_path / "run")
    rows = RunFolder(run).rows()
    weights = host.best(run)
    host.train(run, evaluate=weights, **{"test.visrank": True})
    *before, evaluated = RunFolder(run).rows()
    assert before == rows
    assert evaluated == {**rows[-1], "step": None, "epoch": None, "weights": str(weights)}
    assert len(list((run / "visrank_market1501").glob("*.jpg"))) == 16


# The model


@pytest.mark.parametrize("loss", ["drsl", "triplet", "classes"])
def test_models_return_features_only_to_losses_that_take_them(
    loss: str, host: Torchreid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    build = torchreid.models.build_model
    monkeypatch.setattr(torchreid.models, "build_model", lambda **kwargs: asked.append(kwargs) or build(**kwargs))
    host.train(tmp_path / "run", losses=loss)
    assert [kwargs["loss"] for kwargs in asked] == ["softmax" if loss == "classes" else "triplet"]
