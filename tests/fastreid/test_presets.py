"""The presets of ``drsl fastreid``, at a size that a CPU trains in seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastreid
import pytest
import torch
from fastreid.utils.checkpoint import Checkpointer
from trained_models import NO_DECAY, stock_model, trainable, weights

from drsl_plugin.data import render_demo
from drsl_plugin.fastreid.main import main
from drsl_plugin.runs.folder import RunFolder

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
        weight, angle = (0.18, 5.6) if preset not in ("sbs_R50", "mgn_R50-ibn") else (1.0, 1.0)  # MGN: 5 x 0.2
        loss = sum(row[f"loss_drsl{name}"] for name in features)
        assert loss == pytest.approx(weight * (row["ranking"] + angle * row["sorting"]), rel=1e-4)
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


@pytest.mark.parametrize("preset", ["bagtricks_R50", "osnet_x1_0"])
def test_the_triplet_twin_trains_without_drsl(preset: str, few_images: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    main(small_version(preset, folder.path))
    assert {key for key in folder.rows()[0] if "loss" in key} == {"total_loss", "loss_cls", "loss_triplet"}
    assert not {"ranking", "sorting", "ap", "above_all"} & set(folder.rows()[0])


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
