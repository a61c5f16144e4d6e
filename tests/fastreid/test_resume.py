"""A run of ``drsl fastreid`` that stopped and went on equals one that never stopped, bit for bit."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparing import assert_equal_runs, unequal
from hosts import FastReID
from stopping import STEPS, interrupt_at

from drsl_plugin.fastreid.main import main
from drsl_plugin.fastreid.trainer import DRSLTrainer
from drsl_plugin.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("fastreid_root")

RESUMED: dict[str, dict[str, Any]] = {
    "the other sampler, SGD, triplets too": {
        "DATALOADER.SAMPLER_TRAIN": "BalancedIdentitySampler",
        "SOLVER.OPT": "SGD",
        "SOLVER.STEPS": "[1, 2]",
        "SOLVER.WARMUP_ITERS": 0,
        "MODEL.LOSSES.NAME": '("CrossEntropyLoss", "TripletLoss", "DRSLoss")',
    },
    "like SBS": {
        "MODEL.FREEZE_LAYERS": '["backbone"]',
        "SOLVER.FREEZE_ITERS": STEPS + 2,
        "MODEL.HEADS.CLS_LAYER": "CircleSoftmax",
        "MODEL.HEADS.SCALE": 64,
        "MODEL.HEADS.MARGIN": 0.35,
        "MODEL.HEADS.NECK_FEAT": "after",
    },
    "frozen until two epochs later, gradients clipped": {
        "MODEL.FREEZE_LAYERS": '["backbone"]',
        "SOLVER.FREEZE_ITERS": 2 * STEPS + 1,
        "SOLVER.CLIP_GRADIENTS.ENABLED": True,
        "TEST.EVAL_PERIOD": 3,
    },
    "evaluated and saved every second epoch": {
        "TEST.EVAL_PERIOD": 2,
        "SOLVER.CHECKPOINT_PERIOD": 2,
        "SOLVER.MAX_EPOCH": 4,
    },
    "cosine after a warm-up that goes on": {
        "SOLVER.SCHED": "CosineAnnealingLR",
        "SOLVER.WARMUP_ITERS": STEPS + 1,
        "SOLVER.MAX_EPOCH": 4,
    },
    "exact statistics at the end": {"TEST.PRECISE_BN.ENABLED": True, "TEST.PRECISE_BN.NUM_ITER": 2},
}


@pytest.mark.parametrize("options", RESUMED.values(), ids=RESUMED)
def test_a_resumed_run_equals_an_uninterrupted_one(
    options: dict[str, Any],
    trained: Callable[..., Path],
    tmp_path: Path,
    host: FastReID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"SOLVER.MAX_EPOCH": 3, **options}
    saved_every = options.get("SOLVER.CHECKPOINT_PERIOD", 1)
    with monkeypatch.context() as patch:
        interrupt_at(patch, (2 * saved_every - 1) * STEPS + 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            main(host.options(tmp_path / "cut", **options))
    assert (tmp_path / "cut" / "last_checkpoint").read_text() == f"model_{saved_every - 1:04d}.pth"
    torch.rand(7)
    np.random.rand(7)
    random.random()
    main(["--resume", *host.options(tmp_path / "cut", **options)])
    assert_equal_runs(host, tmp_path / "cut", trained(**options))


STOPPED: dict[str, tuple[int, BaseException, int]] = {
    "by Ctrl-C in the middle of an epoch": (STEPS + 2, KeyboardInterrupt(), 1),
    "by an error after the last step of an epoch": (2 * STEPS, OSError("a disk that is full"), 1),
    "by the memory in the last epoch": (2 * STEPS + 3, MemoryError(), 5),
}


@pytest.mark.parametrize(("step", "reason", "period"), STOPPED.values(), ids=STOPPED)
def test_wherever_a_run_was_stopped(
    step: int,
    reason: BaseException,
    period: int,
    trained: Callable[..., Path],
    tmp_path: Path,
    host: FastReID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"SOLVER.MAX_EPOCH": 3, "TEST.EVAL_PERIOD": period}
    with monkeypatch.context() as patch:
        interrupt_at(patch, step, reason)
        with pytest.raises(type(reason)):
            main(host.options(tmp_path / "cut", **options))
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "epo')  # a line that was cut off
    main(["--resume", *host.options(tmp_path / "cut", **options)])
    assert_equal_runs(host, tmp_path / "cut", trained(**options))


def test_resumed_twice_and_moved_meanwhile(
    trained: Callable[..., Path], tmp_path: Path, host: FastReID, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {
        "SOLVER.MAX_EPOCH": 3,
        "MODEL.FREEZE_LAYERS": '["backbone"]',
        "SOLVER.FREEZE_ITERS": 2 * STEPS + 2,
        "INPUT.FLIP.ENABLED": True,
    }
    for switches, folder, step in (([], "cut", STEPS + 1), (["--resume"], "moved", 2 * STEPS + 1)):
        with monkeypatch.context() as patch:
            interrupt_at(patch, step, KeyboardInterrupt())
            with pytest.raises(KeyboardInterrupt):
                main([*switches, *host.options(tmp_path / folder, **options)])
        (tmp_path / folder).rename(tmp_path / "moved")
    main(["--resume", *host.options(tmp_path / "moved", **options)])
    assert_equal_runs(host, tmp_path / "moved", trained(**options))


def test_a_seed_that_was_drawn_comes_from_the_checkpoint(
    trained: Callable[..., Path], tmp_path: Path, host: FastReID, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"SOLVER.MAX_EPOCH": 3, "INPUT.REA.ENABLED": True}
    with monkeypatch.context() as patch:
        interrupt_at(patch, STEPS + 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            main(host.options(tmp_path / "cut", SEED=-1, **options))
    seed = noted(tmp_path / "cut")["seed"]
    main(["--resume", *host.options(tmp_path / "cut", SEED=-1, **options)])
    assert noted(tmp_path / "cut")["seed"] == seed
    assert_equal_runs(host, tmp_path / "cut", trained(SEED=seed, **options))


def noted(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "environment.json").read_text())


def test_frozen_layers_thaw_once(tmp_path: Path, host: FastReID, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that were open at the checkpoint stay open, and their normalisation sees the batch."""
    frozen: list[tuple[bool, bool]] = []
    step = DRSLTrainer.run_step

    def watched(self: Any) -> None:
        weight = self.model.backbone.conv1.conv.weight
        before = weight.detach().clone()
        step(self)
        frozen.append((torch.equal(weight, before), not self.model.backbone.conv1.bn.training))

    monkeypatch.setattr(DRSLTrainer, "run_step", watched)
    options = {"MODEL.FREEZE_LAYERS": '["backbone"]', "SOLVER.FREEZE_ITERS": 2, "SOLVER.CHECKPOINT_PERIOD": 1}
    main(host.options(tmp_path / "run", **options))
    main(["--resume", *host.options(tmp_path / "run", **options, **{"SOLVER.MAX_EPOCH": 2})])
    assert frozen == [(True, True)] * 2 + [(False, False)] * 6


# What may not matter


def test_how_often_a_run_evaluates_and_saves_does_not_change_what_it_learns(tmp_path: Path, host: FastReID) -> None:
    options = {"MODEL.FREEZE_LAYERS": '["backbone"]', "SOLVER.FREEZE_ITERS": STEPS + 2}
    ends = []
    for period in (1, 3):
        folder = tmp_path / str(period)
        every = {"TEST.EVAL_PERIOD": period, "SOLVER.CHECKPOINT_PERIOD": period}
        main(host.options(folder, **options, **every, **{"SOLVER.MAX_EPOCH": 3, "INPUT.REA.ENABLED": True}))
        rows = RunFolder(folder).rows()
        assert sum("mAP" in row for row in rows) == 3 // period
        ends.append(([row for row in rows if "lr" in row], host.checkpoints(folder)["model_final.pth"]["model"]))
    assert ends[0][0] == ends[1][0]
    assert unequal(ends[0][1], ends[1][1]) == []


# The best so far


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``scored(60, 20)`` gives the evaluations to come those values of FastReID's metric, one after the other."""
    test = DRSLTrainer.test.__func__
    scores: list[Iterator[float]] = []

    def evaluated(cls: Any, cfg: Any, model: Any) -> Any:
        results = test(cls, cfg, model)
        results["metric"] = next(scores[-1])
        return results

    monkeypatch.setattr(DRSLTrainer, "test", classmethod(evaluated))
    return lambda *values: scores.append(iter(values))


def test_the_best_stays_where_only_it_was_saved(
    tmp_path: Path,
    host: FastReID,
    scored: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = host.options(tmp_path / "run", **{"SOLVER.MAX_EPOCH": 3})
    save, saved = torch.save, []

    def save_the_best(states: Any, file: Any) -> None:
        if any("model_best" in name for name in saved):
            raise KeyboardInterrupt
        saved.append(str(file))
        save(states, file)

    scored(60.0)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save_the_best)
        with pytest.raises(KeyboardInterrupt):
            main(options)
    assert (tmp_path / "run" / "last_checkpoint").read_text() == "model_best.pth"
    scored(20.0, 40.0)
    main(["--resume", *options])
    assert [row["epoch"] for row in RunFolder(tmp_path / "run").rows() if "mAP" in row] == [1, 2, 3]
    assert host.checkpoints(tmp_path / "run")["model_best.pth"]["epoch"] == 0


# Checkpoints of others


def test_a_checkpoint_that_fastreid_wrote(tmp_path: Path, host: FastReID) -> None:
    folder = tmp_path / "run"
    main(host.options(folder))
    states = host.checkpoints(folder)["model_final.pth"]
    stock = ("model", "optimizer", "lr_sched", "warmup_sched", "epoch", "metric")
    torch.save({key: states[key] for key in stock}, folder / "model_final.pth")
    for ours in ("metrics.jsonl", "environment.json", "features-Market1501.npz"):
        (folder / ours).unlink()
    main(["--resume", *host.options(folder, **{"SOLVER.MAX_EPOCH": 2})])
    rows = RunFolder(folder).rows()
    assert [row["step"] for row in rows if "lr" in row] == [5, 6, 7, 8]
    assert host.checkpoints(folder)["model_final.pth"]["epoch"] == 1
    assert noted(folder)["argv"][0] == "--resume"
