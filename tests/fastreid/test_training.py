"""How ``drsl fastreid`` starts a run, feeds it and ends it."""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastreid
import pytest
import torch
from trained_models import NO_DECAY, unequal_weights, weights
from typer.testing import CliRunner

from drsl_plugin.cli import app
from drsl_plugin.fastreid.main import main
from drsl_plugin.fastreid.trainer import DRSLTrainer
from drsl_plugin.runs.folder import RunFolder

Options = Callable[..., list[str]]


@pytest.fixture
def earlier(trained: Callable[..., Path]) -> Path:
    """The folder of an earlier run, of two epochs; not to be written to."""
    return trained(epochs=2, seed=3, temperature=0.07)


def test_weights_to_start_from(earlier: Path, fastreid_root: Path, tmp_path: Path, fastreid_options: Options) -> None:
    start = tmp_path / "other.pth"
    states = torch.load(earlier / "model_final.pth", weights_only=False)
    states["model"]["heads.weight"] = torch.zeros(5, 128)  # of a data set of five identities
    torch.save(states, start)
    still = {"SOLVER.BASE_LR": 0.0, **NO_DECAY, "MODEL.WEIGHTS": start}
    main(fastreid_options(tmp_path / "run", **still))
    changed = unequal_weights(tmp_path / "run" / "model_final.pth", earlier / "model_final.pth")
    assert {key for key in changed if "running_" not in key and "num_batches" not in key} == {"heads.weight"}
    assert [row["step"] for row in RunFolder(tmp_path / "run").rows()[:4]] == [1, 2, 3, 4]


def test_the_last_checkpoint_of_a_new_run_in_an_old_folder(
    earlier: Path, fastreid_root: Path, tmp_path: Path, fastreid_options: Options
) -> None:
    folder = RunFolder(shutil.copytree(earlier, tmp_path / "run"))
    main(fastreid_options(folder.path, SEED=4))
    assert [row["step"] for row in folder.rows()] == [1, 2, 3, 4, 4]
    assert (folder.path / "last_checkpoint").read_text() == "model_final.pth"
    assert torch.load(folder.path / "model_final.pth", weights_only=False)["epoch"] == 0


# Batches


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


# The workers of the loaders


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
    earlier: Path,
    fastreid_root: Path,
    tmp_path: Path,
    fastreid_options: Options,
) -> None:
    settings = {"MODEL.WEIGHTS": earlier / "model_final.pth"} if arguments else {}
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
    assert unequal_weights(tmp_path / "plain" / "model_final.pth", tmp_path / "run" / "model_final.pth") == set()
