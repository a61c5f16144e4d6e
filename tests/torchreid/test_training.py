"""``drsl torchreid`` end to end on files on disk, by Torchreid's own classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchreid
import yaml

from drsl_plugin.run_folder import RunFolder
from drsl_plugin.torchreid.checkpoints import load
from drsl_plugin.torchreid.main import main
from drsl_plugin.torchreid.recording import RecordedRun, _recorded_ranking

Options = Callable[..., list[str]]
LOGGED = {
    "drsl": {"loss_drsl", "ranking", "sorting", "ap", "above_all", "loss_x", "acc"},
    "triplet": {"loss_t", "loss_x", "acc"},
    "softmax": {"loss", "acc"},
}


@pytest.mark.parametrize("loss", LOGGED)
def test_a_run_leaves_what_reports_read(loss: str, demo_root: Path, tmp_path: Path, small_options: Options) -> None:
    folder = RunFolder(tmp_path / "run")
    options = {"loss.name": loss, "loss.triplet.weight_x": 1.0, "train.seed": 3}
    evaluations = main(small_options(demo_root, folder.path, **options))

    config = yaml.safe_load((folder.path / "config.yaml").read_text())
    assert config["loss"]["name"] == loss
    assert ("drsl" in config["loss"]) == (loss == "drsl")
    environment = json.loads((folder.path / "environment.json").read_text())
    assert environment["seed"] == 3
    assert environment["versions"]["torch"] == torch.__version__.split("+")[0]
    assert Path(environment["toolbox"]) == Path(torchreid.__file__)

    *steps, evaluation = folder.rows()
    assert {frozenset(step) for step in steps} == {frozenset({"step", "epoch", "lr", *LOGGED[loss]})}
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    assert evaluation == {
        "step": len(steps),
        "epoch": 1,
        "target": "market1501",
        **evaluations["market1501"].row([1, 5, 10, 20]),
    }
    assert {path.name for path in (folder.path / "model").iterdir()} == {"model.pth.tar-1", "model-best.pth.tar"}
    assert len(list(folder.path.glob("train.log-*"))) == 1
    assert not list(folder.path.rglob("*.unfinished"))


def test_features_give_the_metrics_again(demo_root: Path, tmp_path: Path, small_options: Options) -> None:
    main(small_options(demo_root, tmp_path / "run"))
    arrays = np.load(tmp_path / "run" / "features-market1501.npz")
    query, gallery = (torch.from_numpy(arrays[f"{name}_features"]) for name in ("query", "gallery"))
    distances = torchreid.metrics.compute_distance_matrix(query, gallery).numpy()
    labels = [arrays[f"{name}_{kind}"] for kind in ("pids", "camids") for name in ("query", "gallery")]
    cmc, mean_ap = torchreid.metrics.evaluate_rank(distances, *labels)
    row = RunFolder(tmp_path / "run").rows()[-1]
    assert (row["mAP"], row["rank1"], row["rank5"]) == pytest.approx((mean_ap, cmc[0], cmc[4]))
    for name in ("query", "gallery"):
        for path, pid, camid in zip(*(arrays[f"{name}_{kind}"] for kind in ("paths", "pids", "camids")), strict=True):
            assert Path(path).name.startswith(f"{pid:04d}_c{camid + 1}")


def test_training_moves_the_weights_that_it_saves(demo_root: Path, tmp_path: Path, small_options: Options) -> None:
    main(small_options(demo_root, tmp_path / "run", **{"train.lr": 0.01}))
    main(small_options(demo_root, tmp_path / "other", **{"train.lr": 1e-12}))
    trained, untrained = (load(tmp_path / run / "model/model.pth.tar-1", "")["state_dict"] for run in ("run", "other"))
    assert all((trained[key] - untrained[key]).abs().max() > 1e-3 for key in ("conv1.conv.weight", "classifier.weight"))


def test_last_and_best_checkpoints_are_kept(
    demo_root: Path, tmp_path: Path, small_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Best by the first target's mAP, of the epochs that were evaluated."""
    scores = iter([0.2, 0.6, 0.4])
    evaluate = RecordedRun._evaluate

    def scored(self: Any, **kwargs: Any) -> Any:
        result = evaluate(self, **kwargs)
        self.evaluations["market1501"] = self.evaluations["market1501"]._replace(mAP=next(scores))
        return result

    monkeypatch.setattr(RecordedRun, "_evaluate", scored)
    main(small_options(demo_root, tmp_path / "run", **{"train.max_epoch": 3, "test.eval_freq": 1}))
    model = tmp_path / "run" / "model"
    assert sorted(path.name for path in model.iterdir()) == ["model-best.pth.tar", "model.pth.tar-3"]
    best = load(model / "model-best.pth.tar", "")
    assert (best["epoch"], best["mAP"], best["best_mAP"]) == (2, 0.6, 0.6)
    assert load(model / "model.pth.tar-3", "")["best_mAP"] == 0.6


def test_every_epoch_is_saved_though_none_is_evaluated(
    demo_root: Path, tmp_path: Path, small_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(RecordedRun, "_empty_patch_pools", lambda self: seen.append(self.checkpoints))
    main(small_options(demo_root, tmp_path / "run", **{"train.max_epoch": 3}))
    assert [[path.name for path in paths] for paths in seen] == [[], ["model.pth.tar-1"], ["model.pth.tar-2"]]


RESUMED = {
    "plain": {},
    "loader workers": {"data.workers": 1},
    "random_patch, cosine, fixbase": {
        "data.transforms": ["random_flip", "random_patch", "random_erase"],
        "train.lr_scheduler": "cosine",
        "train.fixbase_epoch": 1,
        "train.optim": "amsgrad",
    },
    "triplet, evaluated each epoch": {"loss.name": "triplet", "loss.triplet.weight_x": 1.0, "test.eval_freq": 1},
}


@pytest.mark.parametrize("options", RESUMED.values(), ids=RESUMED)
def test_a_resumed_run_equals_an_uninterrupted_one(
    options: dict[str, Any],
    demo_root: Path,
    tmp_path: Path,
    small_options: Options,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"train.max_epoch": 3, "train.lr": 0.003, **options}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    main(small_options(demo_root, whole, **options))

    with monkeypatch.context() as patch:
        interrupt_in_epoch(patch, 2)
        with pytest.raises(KeyboardInterrupt, match=r"model.resume .*model\.pth\.tar-1"):
            main(small_options(demo_root, cut, **options))
    torch.rand(7)
    main(small_options(demo_root, cut, **options, **{"model.resume": cut / "model/model.pth.tar-1"}))

    assert RunFolder(cut).rows() == RunFolder(whole).rows()
    states = [load(folder / "model/model.pth.tar-3", "") for folder in (whole, cut)]
    for key in ("state_dict", "optimizer", "scheduler"):
        torch.testing.assert_close(states[0][key], states[1][key], rtol=0, atol=0)


def interrupt_in_epoch(patch: pytest.MonkeyPatch, epoch: int) -> None:
    """Interrupt as Ctrl-C would, after the first step of an epoch."""
    step = RecordedRun.forward_backward

    def interrupted(self: Any, data: Any) -> Any:
        summary = step(self, data)
        if self.epoch + 1 == epoch:
            raise KeyboardInterrupt
        return summary

    patch.setattr(RecordedRun, "forward_backward", interrupted)


def test_how_often_a_run_evaluates_does_not_change_what_it_learns(
    demo_root: Path, tmp_path: Path, small_options: Options
) -> None:
    runs = []
    for frequency in (-1, 1):
        folder = tmp_path / str(frequency)
        main(small_options(demo_root, folder, **{"train.max_epoch": 2, "test.eval_freq": frequency}))
        runs.append([row for row in RunFolder(folder).rows() if "lr" in row])
    assert runs[0] == runs[1]


def test_an_evaluation_draws_ranks_and_leaves_the_trainings_files(
    demo_root: Path, tmp_path: Path, small_options: Options
) -> None:
    run = tmp_path / "run"
    main(small_options(demo_root, run))
    kept = {name: (run / name).read_bytes() for name in ("config.yaml", "environment.json", "model/model-best.pth.tar")}
    rows = RunFolder(run).rows()
    options = {"test.evaluate": True, "test.visrank": True, "model.load_weights": run / "model/model-best.pth.tar"}
    main(small_options(demo_root, run, **options))
    assert {name: (run / name).read_bytes() for name in kept} == kept
    *before, evaluated = RunFolder(run).rows()
    assert before == rows
    assert evaluated == {**rows[-1], "step": None, "epoch": None}
    assert len(list((run / "visrank_market1501").glob("*.jpg"))) == 16


def test_a_new_run_in_an_old_folder_starts_its_metrics_anew(
    demo_root: Path, tmp_path: Path, small_options: Options
) -> None:
    for _ in range(2):
        main(small_options(demo_root, tmp_path / "run"))
    assert [row["step"] for row in RunFolder(tmp_path / "run").rows()][:2] == [1, 2]
    assert sum("mAP" in row for row in RunFolder(tmp_path / "run").rows()) == 1


def test_small_gallery_needs_padding(demo_root: Path, tmp_path: Path, small_options: Options) -> None:
    """Torchreid prints ranks that a small gallery does not have: its curve ends before them, ours stays at its end."""
    evaluation = main(small_options(demo_root, tmp_path / "run", **{"test.ranks": [1, 50]}))["market1501"]
    assert evaluation.row([50])["rank50"] == evaluation.cmc.max()
    cmc, _ = torchreid.metrics.evaluate_rank(np.eye(3), *[np.arange(3)] * 2, np.zeros(3), np.ones(3))
    assert len(cmc) == 3


def test_cuhk03_np_bool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchreid's evaluator of CUHK03 uses ``np.bool``, which numpy had not from 1.24 to 1.26."""
    monkeypatch.delattr(np, "bool", raising=False)
    arguments = np.eye(3), np.arange(3), np.arange(3), np.zeros(3), np.ones(3)
    with pytest.raises(AttributeError, match="bool"):
        torchreid.metrics.evaluate_rank(*arguments, use_metric_cuhk03=True)
    with _recorded_ranking(1):
        torchreid.metrics.evaluate_rank(*arguments, use_metric_cuhk03=True)
    assert not hasattr(np, "bool")
