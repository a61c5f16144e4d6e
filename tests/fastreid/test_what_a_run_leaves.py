"""What ``drsl fastreid`` leaves: its files, FastReID's own logs and checkpoints, and what stands on the console."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastreid
import numpy as np
import pytest
import torch
from fastreid.utils.checkpoint import Checkpointer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trained_models import configured, stock_model, unequal_weights

from drsl_plugin.fastreid.config import get_cfg
from drsl_plugin.fastreid.main import main
from drsl_plugin.runs.folder import RunFolder

Options = Callable[..., list[str]]


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
    assert unequal_weights(path / "model_final.pth", path / "model_0000.pth")

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
