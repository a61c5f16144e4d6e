"""``drsl fastreid`` end to end on files on disk, by FastReID's own classes."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastreid
import numpy as np
import pytest
import torch
from fastreid.utils.checkpoint import Checkpointer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from drsl_plugin.cli import app
from drsl_plugin.data import render_demo
from drsl_plugin.fastreid.config import get_cfg
from drsl_plugin.fastreid.main import main
from drsl_plugin.fastreid.trainer import DRSLTrainer
from drsl_plugin.runs.folder import RunFolder

Options = Callable[..., list[str]]
NO_DECAY = {f"SOLVER.WEIGHT_DECAY{which}": 0.0 for which in ("", "_NORM", "_BIAS")}
RESNET_18 = {"MODEL.BACKBONE.DEPTH": "18x", "MODEL.BACKBONE.FEAT_DIM": 512}
# The presets' own backbones where nothing is said.
PRESETS: dict[str, dict[str, Any]] = {
    "bagtricks_R50": RESNET_18,
    "osnet_x1_0": {"MODEL.BACKBONE.DEPTH": "x0_25", "MODEL.BACKBONE.FEAT_DIM": 128},
    "sbs_R50": RESNET_18,
    "AGW_R50": {},
    "mgn_R50-ibn": {"INPUT.SIZE_TRAIN": "[96, 32]", "INPUT.SIZE_TEST": "[96, 32]"},
}
HEAVY = ("AGW_R50", "mgn_R50-ibn")
FROZEN_AT_FIRST = {"sbs_R50": "backbone.", "mgn_R50-ibn": ""}  # FastReID's pattern b1 freezes b1_head as well
MGN_FEATURES = ("b1", "b2", "b3", "b22", "b33")


def as_words(settings: dict[str, Any]) -> list[str]:
    return [str(word) for pair in settings.items() for word in pair]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=False)["model"]


def unequal(one: Path, other: Path) -> set[str]:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return {key for key in first if not torch.equal(first[key], second[key])}


def small_version(preset: str, output: Path, **changes: Any) -> list[str]:
    """The arguments of a preset at a size that a CPU trains in seconds; all that is not about size is the preset's."""
    settings = {
        "MODEL.DEVICE": "cpu",
        "MODEL.BACKBONE.PRETRAIN": False,
        "INPUT.SIZE_TRAIN": "[64, 32]",
        "INPUT.SIZE_TEST": "[64, 32]",
        "DATALOADER.NUM_WORKERS": 0,
        "DATALOADER.NUM_INSTANCE": 2,
        "SOLVER.IMS_PER_BATCH": 8,
        "SOLVER.MAX_EPOCH": 1,
        "SOLVER.WARMUP_ITERS": 0,
        "SOLVER.DELAY_EPOCHS": 0,
        "SOLVER.FREEZE_ITERS": 1,
        "SOLVER.ETA_MIN_LR": 1e-4,
        "SOLVER.CHECKPOINT_PERIOD": 1,
        "TEST.EVAL_PERIOD": 1,
        "SEED": 1,
        "OUTPUT_DIR": output,
        **PRESETS[preset.removesuffix("_drsl")],
        **changes,
    }
    return ["--config-file", f"fastreid/Market1501/{preset}", *as_words(settings)]


@pytest.fixture(scope="module")
def few_images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A rendered Market-1501 of three batches of eight."""
    with pytest.MonkeyPatch.context() as patch:
        root = render_demo(tmp_path_factory.mktemp("few"), identities=6, cameras=2, images=2)
        patch.setattr(fastreid.data.build, "_root", str(root))
        yield root


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The trainable tensors that each step moved, filled step by step."""
    steps: list[set[str]] = []
    step = DRSLTrainer.run_step

    def watched(self: Any) -> None:
        before = {name: tensor.detach().clone() for name, tensor in trainable(self.model)}
        step(self)
        steps.append({name for name, tensor in trainable(self.model) if not torch.equal(tensor, before[name])})

    monkeypatch.setattr(DRSLTrainer, "run_step", watched)
    return steps


def trainable(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad)


@pytest.mark.parametrize("preset", [pytest.param(name, marks=pytest.mark.slow) for name in HEAVY] + [*PRESETS][:3])
def test_a_preset_trains_resumes_and_evaluates(
    preset: str, few_images: Path, tmp_path: Path, moved: list[set[str]]
) -> None:
    folder = RunFolder(tmp_path / "run")
    main(small_version(f"{preset}_drsl", folder.path, **NO_DECAY))
    results = main(["--resume", *small_version(f"{preset}_drsl", folder.path, **NO_DECAY, **{"SOLVER.MAX_EPOCH": 2})])

    model = weights(folder.path / "model_final.pth")
    stock = stock_model(folder.path)
    everything = {name for name, _ in trainable(stock)}
    still = [everything - step for step in moved]
    assert len(moved) == 6
    if preset in FROZEN_AT_FIRST:
        assert still[0] == {name for name in everything if name.startswith(FROZEN_AT_FIRST[preset])}
    elif preset == "AGW_R50":
        assert all(".NL_" in name for name in still[0]), "a non-local block begins with weight 0"
    for number, names in enumerate(still[preset not in ("bagtricks_R50", "osnet_x1_0") :]):
        assert {name for name in names if ".gate." not in name} == set(), f"OSNet's gates may be closed; step {number}"

    features = [f"_{name}" for name in MGN_FEATURES] if preset.startswith("mgn") else [""]
    rows = folder.rows()
    steps = [row for row in rows if "lr" in row]
    assert [(row["step"], row["epoch"]) for row in steps] == [(step, 1 if step <= 3 else 2) for step in range(1, 7)]
    assert {key for key in steps[0] if "drsl" in key} == {f"loss_drsl{name}" for name in features}
    assert not [key for row in steps for key in row if "triplet" in key]
    for row in steps:
        weight = 0.2 * 5 if preset.startswith("mgn") else 1.0
        loss = sum(row[f"loss_drsl{name}"] for name in features)
        assert loss == pytest.approx(weight * (row["ranking"] + row["sorting"]), rel=1e-4)
        assert 0 <= row["ap"] <= 1
        assert 0 <= row["above_all"] <= 1
    assert [row["epoch"] for row in rows if "mAP" in row] == [1, 2]
    assert rows[-1]["mAP"] == results["mAP"] / 100

    again = main(
        ["--eval-only", *small_version(f"{preset}_drsl", tmp_path / "again")]
        + ["MODEL.WEIGHTS", str(folder.path / "model_final.pth")]
    )
    assert again == results
    Checkpointer(stock).load(str(folder.path / "model_final.pth"))
    assert stock.state_dict().keys() == model.keys()
    assert all(torch.equal(tensor, model[key]) for key, tensor in stock.state_dict().items())
    shutil.rmtree(folder.path)  # of the larger presets these are gigabytes


def stock_model(folder: Path) -> Any:
    """FastReID's own model, of the configuration that a run leaves, without anything of ours in it."""
    told = get_cfg()
    told.merge_from_file(str(folder / "config.yaml"))
    cfg = fastreid.config.get_cfg()
    cfg.MODEL.merge_from_other_cfg(
        fastreid.config.CfgNode({key: value for key, value in told.MODEL.items() if key != "LOSSES"})
    )
    cfg.INPUT.merge_from_other_cfg(told.INPUT)
    assert cfg.MODEL.META_ARCHITECTURE in ("Baseline", "MGN")
    return fastreid.modeling.meta_arch.build_model(cfg)


@pytest.mark.parametrize("preset", ["bagtricks_R50", "osnet_x1_0"])
def test_the_triplet_twin_trains_without_drsl(preset: str, few_images: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    main(small_version(preset, folder.path))
    assert {key for key in folder.rows()[0] if "loss" in key} == {"total_loss", "loss_cls", "loss_triplet"}
    assert not {"ranking", "sorting", "ap", "above_all"} & set(folder.rows()[0])


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
    assert unequal(ends["none"], ends["without"]) == set()
    for other in ("drsl", "more"):
        assert {"backbone.conv1.conv.weight", "heads.bottleneck.0.weight"} <= unequal(ends["none"], ends[other])
    assert "backbone.conv1.conv.weight" in unequal(ends["drsl"], ends["more"])


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


def configured(options: list[str]) -> Any:
    cfg = get_cfg()
    cfg.merge_from_list(options)
    cfg.MODEL.HEADS.NUM_CLASSES = 8
    return cfg


# What a run leaves


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, demo_root: Path, fastreid_options: Options
) -> tuple[RunFolder, str, Any]:
    """A run of two epochs: its folder, what stood on the console, and what the last evaluation gave."""
    folder = RunFolder(tmp_path_factory.mktemp("of two epochs") / "run")
    options = {"SOLVER.MAX_EPOCH": 2, "SEED": 3, "MODEL.LOSSES.DRSL.TEMPERATURE": 0.07}
    console = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(console):
        patch.setattr(fastreid.data.build, "_root", str(demo_root))
        results = main(fastreid_options(folder.path, **options))
    return folder, console.getvalue(), results


def of_epoch(rows: list[dict[str, Any]], epoch: int) -> list[dict[str, Any]]:
    return [row for row in rows if row["epoch"] <= epoch and "lr" in row]


def test_files_of_a_run(run: tuple[RunFolder, str, Any]) -> None:
    names = {path.name for path in run[0].path.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents")}
    assert len(events) == 1
    assert names - events - {"model_best.pth"} == {
        *("config.yaml", "environment.json", "metrics.jsonl", "features-Market1501.npz"),
        *("metrics.json", "log.txt", "last_checkpoint", "model_0000.pth", "model_final.pth"),
    }
    assert (run[0].path / "last_checkpoint").read_text() == "model_final.pth"


def test_rows_of_a_run(run: tuple[RunFolder, str, Any]) -> None:
    folder, _, results = run
    rows = folder.rows()
    keys = {"step", "epoch", "lr", "total_loss", "loss_cls", "loss_drsl", "cls_accuracy"}
    steps = [row for row in rows if "lr" in row]
    assert {frozenset(row) for row in steps} == {frozenset({*keys, "ranking", "sorting", "ap", "above_all"})}
    assert [(row["step"], row["epoch"]) for row in steps] == [(n, 1 if n <= 4 else 2) for n in range(1, 9)]
    assert [row["lr"] for row in steps[:3]] == pytest.approx([3e-5, 1.65e-4, 3e-4])
    assert [index for index, row in enumerate(rows) if "mAP" in row] == [4, 9]
    ranks = {f"rank{k}": results[f"Rank-{k}"] / 100 for k in (1, 5, 10)}
    metrics = {"mAP": results["mAP"] / 100, "mINP": results["mINP"] / 100, **ranks}
    assert rows[-1] == {"step": 8, "epoch": 2, "target": "Market1501", **metrics}
    arrays = np.load(folder.path / "features-Market1501.npz")
    assert [arrays[f"{name}_features"].shape for name in ("query", "gallery")] == [(16, 128), (38, 128)]


def test_evaluations_are_those_that_fastreid_prints(run: tuple[RunFolder, str, Any]) -> None:
    folder, console, _ = run
    printed = re.findall(r"\| Market1501 \|" + r" ([\d.]+) +\|" * 6, console)
    evaluations = [row for row in folder.rows() if "mAP" in row]
    names = ("rank1", "rank5", "rank10", "mAP", "mINP")
    assert [[f"{100 * row[name]:.2f}" for name in names] for row in evaluations] == [list(row[:5]) for row in printed]


def test_drsl_on_the_console_line(run: tuple[RunFolder, str, Any]) -> None:
    folder, console, _ = run
    for text in (console, (folder.path / "log.txt").read_text()):
        lines = [line for line in text.splitlines() if "epoch/iter: " in line]
        assert len(lines) >= 2
        for line in lines:
            epoch = int(re.search(r"epoch/iter: (\d+)/", line)[1]) + 1
            shown = dict(re.findall(r"(\w+): ([-+.\de]+)", line))
            names = {"loss_drsl": "loss_drsl", "loss_cls": "loss_cls", "ap": "drsl_ap", "above_all": "drsl_above_all"}
            for name, on_the_line in names.items():
                median = np.median([row[name] for row in of_epoch(folder.rows(), epoch)])
                assert float(shown[on_the_line]) == pytest.approx(median, rel=1e-3)
            assert line.index("loss_drsl") < line.index("drsl_ap") < line.index("drsl_above_all") < line.index("lr: ")


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("loss_drsl", "loss_drsl"),
        ("drsl_ranking", "ranking"),
        ("drsl_sorting", "sorting"),
        ("drsl_ap", "ap"),
        ("drsl_above_all", "above_all"),
    ],
)
def test_drsl_in_metrics_json_and_tensorboard(name: str, column: str, run: tuple[RunFolder, str, Any]) -> None:
    folder = run[0]
    medians = [np.median([row[column] for row in of_epoch(folder.rows(), epoch)]) for epoch in (1, 2)]
    lines = [json.loads(line) for line in (folder.path / "metrics.json").read_text().splitlines()]
    assert [line[name] for line in lines if name in line] == pytest.approx(medians)
    events = EventAccumulator(str(folder.path)).Reload()
    assert [event.value for event in events.Scalars(name)] == pytest.approx(medians, rel=1e-5)


def test_a_preset_and_a_seed_that_was_drawn_are_noted(few_images: Path, tmp_path: Path) -> None:
    seeds = []
    for number in range(2):
        folder = RunFolder(tmp_path / str(number))
        main(small_version("osnet_x1_0_drsl", folder.path, SEED=-1))
        found = json.loads((folder.path / "environment.json").read_text())
        assert found["preset"] == "fastreid/Market1501/osnet_x1_0_drsl"
        seeds.append(found["seed"])
    assert 0 <= seeds[0] != seeds[1] >= 0
    main(small_version("osnet_x1_0_drsl", tmp_path / "again", SEED=seeds[1]))
    assert RunFolder(tmp_path / "again").rows() == RunFolder(tmp_path / "1").rows()


def test_the_configuration_that_is_left(run: tuple[RunFolder, str, Any]) -> None:
    cfg = get_cfg()
    cfg.merge_from_file(str(run[0].path / "config.yaml"))
    assert (cfg.SEED, cfg.MODEL.LOSSES.DRSL.TEMPERATURE, cfg.MODEL.HEADS.NUM_CLASSES) == (3, 0.07, 8)
    assert cfg.MODEL.LOSSES.NAME == ("CrossEntropyLoss", "DRSLoss")


def test_checkpoints_are_fastreids_own(run: tuple[RunFolder, str, Any], demo_root: Path) -> None:
    path = run[0].path
    states = torch.load(
        path / "model_final.pth", weights_only=tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 6)
    )
    assert {"model", "optimizer", "lr_sched", "warmup_sched", "epoch"} <= states.keys()
    assert (states["epoch"], torch.load(path / "model_0000.pth")["epoch"]) == (1, 0)
    assert unequal(path / "model_final.pth", path / "model_0000.pth")

    model = stock_model(path)
    assert type(model) is fastreid.modeling.meta_arch.Baseline
    checkpointer = Checkpointer(model, str(path))
    incompatible = []
    checkpointer._log_incompatible_keys = incompatible.append
    checkpointer.resume_or_load("", resume=True)
    assert [[*each] for each in incompatible] == [[[], [], []]]

    arrays = np.load(path / "features-Market1501.npz")
    transform = fastreid.data.transforms.build_transforms(configured(["INPUT.SIZE_TEST", "[64, 32]"]), is_train=False)
    images = torch.stack([transform(fastreid.data.data_utils.read_image(str(each))) for each in arrays["query_paths"]])
    with torch.no_grad():
        features = model.eval()({"images": images})
    assert features.numpy() == pytest.approx(arrays["query_features"], abs=1e-4)


# Evaluations


def test_two_targets(
    fastreid_root: Path, tmp_path: Path, fastreid_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = fastreid.data.datasets.DATASET_REGISTRY._obj_map
    second = type("Second", (fastreid.data.datasets.Market1501,), {"dataset_name": "second"})
    monkeypatch.setitem(registry, "Second", second)
    folder = RunFolder(tmp_path / "run")
    results = main(fastreid_options(folder.path, **{"DATASETS.TESTS": '("Market1501", "Second")'}))
    rows = [row for row in folder.rows() if "mAP" in row]
    assert {row["target"]: row["mAP"] for row in rows} == {name: results[name]["mAP"] / 100 for name in results}
    assert [row["target"] for row in rows] == ["Market1501", "Second"]
    assert {path.name for path in folder.path.glob("*.npz")} == {"features-Market1501.npz", "features-Second.npz"}
    assert (folder.path / "model_best.pth").exists()


# The start of a run


def test_weights_to_start_from(
    run: tuple[RunFolder, str, Any], fastreid_root: Path, tmp_path: Path, fastreid_options: Options
) -> None:
    start = tmp_path / "other.pth"
    states = torch.load(run[0].path / "model_final.pth", weights_only=False)
    states["model"]["heads.weight"] = torch.zeros(5, 128)  # of a data set of five identities
    torch.save(states, start)
    still = {"SOLVER.BASE_LR": 0.0, **NO_DECAY, "MODEL.WEIGHTS": start}
    main(fastreid_options(tmp_path / "run", **still))
    changed = unequal(tmp_path / "run" / "model_final.pth", run[0].path / "model_final.pth")
    assert {key for key in changed if "running_" not in key and "num_batches" not in key} == {"heads.weight"}
    assert [row["step"] for row in RunFolder(tmp_path / "run").rows()[:4]] == [1, 2, 3, 4]


def test_the_last_checkpoint_of_a_new_run_in_an_old_folder(
    run: tuple[RunFolder, str, Any], fastreid_root: Path, tmp_path: Path, fastreid_options: Options
) -> None:
    folder = RunFolder(shutil.copytree(run[0].path, tmp_path / "run"))
    main(fastreid_options(folder.path, SEED=4))
    assert [row["step"] for row in folder.rows()] == [1, 2, 3, 4, 4]
    assert (folder.path / "last_checkpoint").read_text() == "model_final.pth"
    assert torch.load(folder.path / "model_final.pth", weights_only=False)["epoch"] == 0


@pytest.mark.parametrize("sampler", ["NaiveIdentitySampler", "BalancedIdentitySampler"])
def test_every_batch_has_positives_and_every_epoch_other_batches(
    sampler: str,
    fastreid_root: Path,
    tmp_path: Path,
    fastreid_options: Options,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches, seeds = [], []
    forward = fastreid.modeling.meta_arch.Baseline.forward

    def watched(self: Any, inputs: Any) -> Any:
        if self.training:
            assert (inputs["targets"].bincount() % 2 == 0).all()
            batches.append(inputs["img_paths"])
            seeds.append(torch.initial_seed())
        return forward(self, inputs)

    monkeypatch.setattr(fastreid.modeling.meta_arch.Baseline, "forward", watched)
    main(fastreid_options(tmp_path / "run", **{"DATALOADER.SAMPLER_TRAIN": sampler, "SOLVER.MAX_EPOCH": 2}))
    assert len(batches) == 8
    assert batches[:4] != batches[4:]
    assert set(seeds[:4]).isdisjoint(seeds[4:]), "of augmentations"


@pytest.mark.parametrize("steps", [1, 2])
def test_a_run_of_very_few_steps(steps: int, fastreid_root: Path, tmp_path: Path, fastreid_options: Options) -> None:
    options = {"SOLVER.IMS_PER_BATCH": 32 // steps, "DATALOADER.NUM_INSTANCE": 4, "SOLVER.WARMUP_ITERS": 0}
    main(fastreid_options(tmp_path / "run", **options))
    assert len(RunFolder(tmp_path / "run").rows()) == steps + 1


@pytest.mark.parametrize("switch", ["TEST.PRECISE_BN", "TEST.FLIP", "TEST.AQE", "SOLVER.CLIP_GRADIENTS", "INPUT.RPT"])
def test_what_fastreid_can_do_besides(
    switch: str, fastreid_root: Path, tmp_path: Path, fastreid_options: Options
) -> None:
    options = {f"{switch}.ENABLED": True, "TEST.PRECISE_BN.NUM_ITER": 2}
    results = main(fastreid_options(tmp_path / "run", **options))
    assert RunFolder(tmp_path / "run").rows()[-1]["mAP"] == results["mAP"] / 100


@pytest.mark.parametrize("workers", [0, 1])
def test_as_many_loader_workers_as_asked_for(
    workers: int,
    fastreid_root: Path,
    tmp_path: Path,
    fastreid_options: Options,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """FastReID's loader of the test set has four, whatever the configuration says."""
    counts = set()
    iterate = torch.utils.data.DataLoader.__iter__

    def counted(loader: Any) -> Any:
        counts.add(loader.num_workers)
        return iterate(loader)

    monkeypatch.setattr(torch.utils.data.DataLoader, "__iter__", counted)
    main(fastreid_options(tmp_path / "run", **{"DATALOADER.NUM_WORKERS": workers}))
    assert counts == {workers}


@pytest.mark.parametrize("interrupted", [False, True])
def test_no_loader_worker_outlives_its_run(
    interrupted: bool,
    fastreid_root: Path,
    tmp_path: Path,
    fastreid_options: Options,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that do hold the process up for seconds each, once Python collects what is left of the run."""
    if interrupted:
        monkeypatch.setattr(DRSLTrainer, "after_epoch", raise_interrupt)
    with pytest.raises(KeyboardInterrupt) if interrupted else contextlib.nullcontext():
        main(fastreid_options(tmp_path / "run", **{"DATALOADER.NUM_WORKERS": 1}))
    assert multiprocessing.active_children() == []


def raise_interrupt(trainer: Any) -> None:
    raise KeyboardInterrupt


# Mixed precision


@pytest.mark.parametrize("arguments", [[], ["--eval-only"]], ids=["training", "evaluation"])
def test_mixed_precision_is_switched_off_on_the_cpu(
    arguments: list[str],
    run: tuple[RunFolder, str, Any],
    fastreid_root: Path,
    tmp_path: Path,
    fastreid_options: Options,
) -> None:
    settings = {"MODEL.WEIGHTS": run[0].path / "model_final.pth"} if arguments else {}
    options = fastreid_options(tmp_path / "run", **{"SOLVER.AMP.ENABLED": True, **settings})
    result = CliRunner().invoke(app, ["fastreid", *arguments, *options])
    assert result.exit_code == 0
    warned = [line for line in result.stdout.splitlines() if "AMP.ENABLED True" in line]
    if arguments:
        assert warned == []
        return
    assert len(warned) == 1
    assert "WARNING" in warned[0]
    assert "SOLVER.AMP.ENABLED True is for CUDA: on MODEL.DEVICE cpu this run trains in float32" in warned[0]
    found = weights(tmp_path / "run" / "model_final.pth").values()
    assert {tensor.dtype for tensor in found} == {torch.float32, torch.int64}
    main(fastreid_options(tmp_path / "plain"))
    assert RunFolder(tmp_path / "plain").rows() == RunFolder(tmp_path / "run").rows()
    assert unequal(tmp_path / "plain" / "model_final.pth", tmp_path / "run" / "model_final.pth") == set()
