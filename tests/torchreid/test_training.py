"""``drsl torchreid`` end to end on files on disk, by Torchreid's own classes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchreid
import yaml

from drsl_plugin.errors import DRSLError
from drsl_plugin.evaluation import evaluate_ranking
from drsl_plugin.runs.checkpoint_files import load
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.torchreid.host import registry
from drsl_plugin.torchreid.main import main
from drsl_plugin.torchreid.ranking import listen_to_ranking
from drsl_plugin.torchreid.recording import RecordedRun

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
    assert row["mINP"] == evaluate_ranking(distances, *labels).mINP != row["mAP"]
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
    demo_root: Path, tmp_path: Path, small_options: Options, scored: Callable[..., None]
) -> None:
    scored(market1501=[0.2, 0.6, 0.4])
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
    "sub-batches": {"loss.drsl.sub_batch": 4},
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
    pool_from_the_first_images(monkeypatch)
    main(small_options(demo_root, whole, **options))

    with monkeypatch.context() as patch:
        interrupt_in_epoch(patch, 2)
        with pytest.raises(KeyboardInterrupt, match=r"model.resume .*model\.pth\.tar-1"):
            main(small_options(demo_root, cut, **options))
    torch.rand(7)
    main(small_options(demo_root, cut, **options, **{"model.resume": cut / "model/model.pth.tar-1"}))

    assert_equal_runs(cut, whole)


def assert_equal_runs(one: Path, other: Path) -> None:
    """Metrics, the last checkpoint and the best: the same values, in files of the same names."""
    assert RunFolder(one).rows() == RunFolder(other).rows()
    names = sorted(path.name for path in (one / "model").iterdir())
    assert names == sorted(path.name for path in (other / "model").iterdir())
    for name in names:
        states = [load(folder / "model" / name, "") for folder in (one, other)]
        for key in ("state_dict", "optimizer", "scheduler", "epoch", "mAP", "best_mAP", "rank1"):
            torch.testing.assert_close(states[0].get(key, 0), states[1].get(key, 0), rtol=0, atol=0)


def pool_from_the_first_images(patch: pytest.MonkeyPatch) -> None:
    """Let random_patch paste from the fourth image on, as it does from the hundredth in a set of real size."""
    create = torchreid.data.transforms.RandomPatch.__init__
    patch.setattr(
        torchreid.data.transforms.RandomPatch, "__init__", lambda self, **kwargs: create(self, min_sample_size=4)
    )


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``scored(market1501=[0.1, 0.2])`` gives the target those mAPs, evaluation by evaluation."""
    evaluate = RecordedRun._evaluate

    def install(**scores: list[float]) -> None:
        def by_epoch(self: Any, dataset_name: str, **kwargs: Any) -> Any:
            result = evaluate(self, dataset_name=dataset_name, **kwargs)
            score = scores[dataset_name][self.epoch]
            self.evaluations[dataset_name] = self.evaluations[dataset_name]._replace(mAP=score)
            return result

        monkeypatch.setattr(RecordedRun, "_evaluate", by_epoch)

    return install


@pytest.mark.parametrize("interrupted", [1, 3])
def test_an_evaluation_that_was_interrupted_is_made_up_for(
    interrupted: int,
    demo_root: Path,
    tmp_path: Path,
    small_options: Options,
    monkeypatch: pytest.MonkeyPatch,
    scored: Callable[..., None],
) -> None:
    scored(market1501=[0.6, 0.2, 0.4])
    options = {"train.max_epoch": 3, "test.eval_freq": 1}
    main(small_options(demo_root, tmp_path / "whole", **options))
    with monkeypatch.context() as patch:
        test = RecordedRun.test

        def cut(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self.epoch + 1 == interrupted:
                raise KeyboardInterrupt
            return test(self, *args, **kwargs)

        patch.setattr(RecordedRun, "test", cut)
        with pytest.raises(KeyboardInterrupt) as stopped:
            main(small_options(demo_root, tmp_path / "cut", **options))
    checkpoint = str(stopped.value).removeprefix("; to go on: model.resume ")
    main(small_options(demo_root, tmp_path / "cut", **options, **{"model.resume": checkpoint}))
    assert_equal_runs(tmp_path / "cut", tmp_path / "whole")
    assert load(tmp_path / "cut/model/model-best.pth.tar", "")["epoch"] == 1


def test_the_best_of_before_a_resume_stays(
    demo_root: Path, tmp_path: Path, small_options: Options, scored: Callable[..., None]
) -> None:
    scored(market1501=[0.6, 0.2, 0.4])
    run, other = tmp_path / "run", tmp_path / "other"
    main(small_options(demo_root, run, **{"train.max_epoch": 1}))
    options = {"train.max_epoch": 3, "test.eval_freq": 1, "model.resume": run / "model/model.pth.tar-1"}
    main(small_options(demo_root, other, **options))
    assert load(other / "model/model-best.pth.tar", "")["epoch"] == 3, "the folder had no best of its own"
    main(small_options(demo_root, run, **options))
    assert load(run / "model/model-best.pth.tar", "")["epoch"] == 1
    assert sorted(path.name for path in (run / "model").iterdir()) == ["model-best.pth.tar", "model.pth.tar-3"]


def test_best_is_by_the_first_target_and_the_first_to_reach_it(
    demo_root: Path, tmp_path: Path, small_options: Options, scored: Callable[..., None]
) -> None:
    registry(torchreid.data.datasets, "__image_datasets")["second"] = torchreid.data.datasets.image.Market1501
    try:
        scored(second=[0.3, 0.3, 0.2], market1501=[0.1, 0.2, 0.9])
        options = {"train.max_epoch": 3, "test.eval_freq": 1, "data.targets": ["second", "market1501"]}
        main(small_options(demo_root, tmp_path / "run", **options))
    finally:
        registry(torchreid.data.datasets, "__image_datasets").pop("second")
    best = load(tmp_path / "run/model/model-best.pth.tar", "")
    rows = [row for row in RunFolder(tmp_path / "run").rows() if row.get("target") == "second"]
    assert (best["epoch"], best["mAP"], best["rank1"]) == (1, 0.3, rows[0]["rank1"])
    assert (tmp_path / "run" / "features-second.npz").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("train.optim", "sgd", "another train.optim than SGD"),
        ("train.optim", "amsgrad", "another train.optim than Adam"),
    ]
    + [("train.lr_scheduler", "cosine", "another train.lr_scheduler than CosineAnnealingLR")],
)
def test_resume_with_another_optimizer_or_scheduler(
    option: str, value: str, message: str, demo_root: Path, tmp_path: Path, small_options: Options
) -> None:
    run = tmp_path / "run"
    main(small_options(demo_root, run))
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    options = {"train.max_epoch": 2, "model.resume": run / "model/model.pth.tar-1", option: value}
    with pytest.raises(DRSLError, match=message):
        main(small_options(demo_root, run, **options))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


def test_a_resumed_checkpoint_can_be_evaluated(demo_root: Path, tmp_path: Path, small_options: Options) -> None:
    run = tmp_path / "run"
    trained = main(small_options(demo_root, run))
    options = {"test.evaluate": True, "model.resume": run / "model/model.pth.tar-1"}
    assert main(small_options(demo_root, run, **options))["market1501"].mAP == trained["market1501"].mAP


def test_the_seed_decides(demo_root: Path, tmp_path: Path, small_options: Options) -> None:
    rows = []
    for number, seed in enumerate((1, 2, 1)):
        main(small_options(demo_root, tmp_path / str(number), **{"train.seed": seed}))
        rows.append(RunFolder(tmp_path / str(number)).rows())
    assert rows[0] == rows[2]
    assert rows[0][0] != rows[1][0]


@pytest.mark.parametrize("loss", LOGGED)
def test_models_return_features_only_to_losses_that_take_them(
    loss: str, demo_root: Path, tmp_path: Path, small_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    build = torchreid.models.build_model
    monkeypatch.setattr(torchreid.models, "build_model", lambda **kwargs: asked.append(kwargs) or build(**kwargs))
    main(small_options(demo_root, tmp_path / "run", **{"loss.name": loss, "loss.triplet.weight_x": 1.0}))
    assert [kwargs["loss"] for kwargs in asked] == ["softmax" if loss == "softmax" else "triplet"]


def test_a_preset_by_name_is_noted(demo_root: Path, tmp_path: Path, small_options: Options) -> None:
    preset = "torchreid/osnet_x0_25_drsl_256x128_market1501"
    options = small_options(demo_root, tmp_path / "run", **{"train.fixbase_epoch": 0})
    main(["--config-file", preset, *options])
    assert json.loads((tmp_path / "run/environment.json").read_text())["preset"] == preset


def test_queries_without_a_match_are_found_before_the_training(
    demo_root: Path, tmp_path: Path, small_options: Options
) -> None:
    root = tmp_path / "data"
    shutil.copytree(demo_root / "market1501", root / "market1501")
    for path in (root / "market1501/Market-1501-v15.09.15/bounding_box_test").glob("*.jpg"):
        if not path.name.startswith("0000"):
            path.unlink()
    with pytest.raises(DRSLError, match="--targets market1501: no query has a match"):
        main(small_options(root, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


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
    assert evaluated == {**rows[-1], "step": None, "epoch": None, "weights": str(options["model.load_weights"])}
    assert len(list((run / "visrank_market1501").glob("*.jpg"))) == 16


def test_a_new_run_in_an_old_folder_starts_its_metrics_anew(
    demo_root: Path, tmp_path: Path, small_options: Options, capsys: pytest.CaptureFixture[str]
) -> None:
    for told in (False, True):
        main(small_options(demo_root, tmp_path / "run"))
        assert ("holds an earlier run" in capsys.readouterr().out) == told
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
    with listen_to_ranking(1):
        torchreid.metrics.evaluate_rank(*arguments, use_metric_cuhk03=True)
    assert not hasattr(np, "bool")
