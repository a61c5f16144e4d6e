"""The memory of earlier embeddings and the scheduled temperature in FastReID reach the loss and go on exactly."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_fastreid_resume import STEPS, assert_equal_runs, checkpoints, interrupt_at
from torch import Tensor

from drsl_plugin import DRSLoss, drsl_loss
from drsl_plugin.errors import DRSLError
from drsl_plugin.fastreid import DRSLBaseline
from drsl_plugin.fastreid.config import get_cfg
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.main import main
from drsl_plugin.fastreid.meta_arch import build_model
from drsl_plugin.runs.folder import RunFolder

Options = Callable[..., list[str]]
EventStorage = fastreid.utils.events.EventStorage
MEMORY = {"MODEL.LOSSES.DRSL.MEMORY_SIZE": 20, "MODEL.LOSSES.DRSL.MEMORY_WARMUP": 2}
COSINE = {
    "MODEL.LOSSES.DRSL.TEMPERATURE": 0.2,
    "MODEL.LOSSES.DRSL.TEMPERATURE_SCHEDULE": "cosine",
    "MODEL.LOSSES.DRSL.TEMPERATURE_END": 0.02,
}
LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 2, 3])


@fastreid.modeling.meta_arch.META_ARCH_REGISTRY.register()
class TwoFeatures(DRSLBaseline):
    """DRSL on two features, as MGN has it on five."""

    def losses(self, outputs: dict[str, Tensor], gt_labels: Tensor) -> dict[str, Tensor]:
        features = outputs["features"]
        return self._drsl_losses({"loss_drsl_a": features, "loss_drsl_b": features[:, :50] ** 2}, gt_labels, 1.0)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the losses of a run got, call by call."""
    calls: list[dict[str, Any]] = []
    forward = DRSLoss.forward

    def watched(self: Any, embeddings: Tensor, labels: Tensor, *args: Any, **kwargs: Any) -> Any:
        entries = self.memory.entries() if self.memory is not None else None
        calls.append({"temperature": self.temperature, "kept": 0 if entries is None else len(entries[0])})
        return forward(self, embeddings, labels, *args, **kwargs)

    monkeypatch.setattr(DRSLoss, "forward", watched)
    return calls


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


@pytest.mark.parametrize("architecture", ["Baseline", "TwoFeatures"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    architecture: str, fastreid_root: Path, tmp_path: Path, fastreid_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**MEMORY, **COSINE, "MODEL.META_ARCHITECTURE": architecture, "SOLVER.MAX_EPOCH": 3}
    if architecture == "TwoFeatures":
        options["MODEL.LOSSES.NAME"] = '("DRSLoss",)'
    main(fastreid_options(tmp_path / "whole", **options))
    with monkeypatch.context() as patch:
        interrupt_at(patch, STEPS + 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            main(fastreid_options(tmp_path / "cut", **options))
    torch.rand(7)
    main(["--resume", *fastreid_options(tmp_path / "cut", **options)])
    assert_equal_runs(tmp_path / "cut", tmp_path / "whole")
    memories = checkpoints(tmp_path / "cut")["model_final.pth"]["drsl_memory"]
    assert len(memories) == (2 if architecture == "TwoFeatures" else 1)
    taken = 3 * STEPS
    for memory in memories:
        assert (memory["filled"], memory["batches"], memory["position"]) == (20, taken, 8 * taken % 20)
        assert memory["embeddings"].abs().sum() > 0


@pytest.fixture(scope="module")
def trained_once(
    tmp_path_factory: pytest.TempPathFactory, demo_root: Path, fastreid_options: Options
) -> dict[str, Path]:
    """The folders of runs of one epoch, with a memory and without."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fastreid.data.build, "_root", str(demo_root))
        main(fastreid_options(folder / "with", **MEMORY))
        main(fastreid_options(folder / "without"))
    return {name: folder / name for name in ("with", "without")}


@pytest.fixture
def trained(trained_once: dict[str, Path], tmp_path: Path, fastreid_root: Path) -> dict[str, Path]:
    return {name: shutil.copytree(path, tmp_path / name) for name, path in trained_once.items()}


def test_a_checkpoint_without_a_memory_starts_it_empty_and_says_so(
    trained: dict[str, Path], fastreid_options: Options, seen: list[dict[str, Any]]
) -> None:
    folder = trained["without"]
    main(["--resume", *fastreid_options(folder, **MEMORY, **{"SOLVER.MAX_EPOCH": 2})])
    line = (
        f"--resume {folder / 'model_final.pth'}: holds no memory of embeddings; that of MODEL.LOSSES.DRSL.MEMORY_SIZE"
    )
    assert f"{line} 20 starts empty" in (folder / "log.txt").read_text()
    assert [call["kept"] for call in seen] == [0, 0, 16, 20]


def test_a_memory_that_a_run_has_no_use_for_is_left_aside(
    trained: dict[str, Path], fastreid_options: Options, seen: list[dict[str, Any]]
) -> None:
    folder = trained["with"]
    main(["--resume", *fastreid_options(folder, **{"SOLVER.MAX_EPOCH": 2})])
    assert "holds a memory of embeddings, which this run leaves aside: it has none" in (folder / "log.txt").read_text()
    assert {call["kept"] for call in seen} == {0}
    assert "drsl_memory" not in checkpoints(folder)["model_final.pth"]


def test_a_memory_of_another_size_is_one_line(trained: dict[str, Path], fastreid_options: Options) -> None:
    options = {"MODEL.LOSSES.DRSL.MEMORY_SIZE": 24, "SOLVER.MAX_EPOCH": 2}
    with pytest.raises(DRSLError) as raised:
        main(["--resume", *fastreid_options(trained["with"], **options)])
    place = trained["with"] / "model_final.pth"
    line = f"--resume {place}: MODEL.LOSSES.DRSL.MEMORY_SIZE must be 20, that of the saved memory, got 24"
    assert str(raised.value) == line


def test_an_evaluation_and_a_new_run_need_no_memory(
    trained: dict[str, Path], tmp_path: Path, fastreid_options: Options, seen: list[dict[str, Any]]
) -> None:
    weights = {"MODEL.WEIGHTS": trained["with"] / "model_final.pth", "MODEL.LOSSES.DRSL.MEMORY_SIZE": 24}
    main(["--eval-only", *fastreid_options(tmp_path / "evaluated", **weights)])
    assert seen == []
    main(fastreid_options(tmp_path / "new", **weights))
    assert [call["kept"] for call in seen] == [0, 8, 16, 24]


def test_the_weights_are_those_of_a_model_without(trained: dict[str, Path]) -> None:
    states = {name: checkpoints(path)["model_final.pth"] for name, path in trained.items()}
    assert states["with"]["model"].keys() == states["without"]["model"].keys()
    assert set(states["with"]) - set(states["without"]) == {"drsl_memory"}


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
    fastreid_root: Path, tmp_path: Path, fastreid_options: Options
) -> None:
    options = {"TEST.PRECISE_BN.ENABLED": True, "TEST.PRECISE_BN.NUM_ITER": 2}
    main(fastreid_options(tmp_path / "run", **MEMORY, **options))
    (memory,) = checkpoints(tmp_path / "run")["model_final.pth"]["drsl_memory"]
    assert memory["batches"] == STEPS


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_every_step_has_its_temperature(
    kind: str, fastreid_root: Path, tmp_path: Path, fastreid_options: Options, seen: list[dict[str, Any]]
) -> None:
    options = {**COSINE, "MODEL.LOSSES.DRSL.TEMPERATURE_SCHEDULE": kind, "SOLVER.MAX_EPOCH": 2}
    main(fastreid_options(tmp_path / "run", **options))
    progress = [step / (2 * STEPS - 1) for step in range(2 * STEPS)]
    weights = progress if kind == "linear" else [(1 - math.cos(math.pi * p)) / 2 for p in progress]
    rows = [row for row in RunFolder(tmp_path / "run").rows() if "lr" in row]
    assert [row["temperature"] for row in rows] == pytest.approx([0.2 - 0.18 * w for w in weights], rel=1e-12)
    assert (rows[0]["temperature"], rows[-1]["temperature"]) == (0.2, 0.02)
    assert [call["temperature"] for call in seen] == [row["temperature"] for row in rows]


def test_all_features_have_the_temperature(
    fastreid_root: Path, tmp_path: Path, fastreid_options: Options, seen: list[dict[str, Any]]
) -> None:
    options = {**MEMORY, **COSINE, "MODEL.META_ARCHITECTURE": "TwoFeatures", "MODEL.LOSSES.NAME": '("DRSLoss",)'}
    main(fastreid_options(tmp_path / "run", **options))
    shown = [row["temperature"] for row in RunFolder(tmp_path / "run").rows() if "lr" in row]
    assert [call["temperature"] for call in seen] == [each for each in shown for _ in range(2)]
    assert [call["kept"] for call in seen] == [0, 0, 0, 0, 16, 16, 20, 20]


def test_a_constant_temperature_is_not_shown(trained: dict[str, Path]) -> None:
    assert not any("temperature" in row for path in trained.values() for row in RunFolder(path).rows())


def test_a_schedule_without_drsl_does_nothing(fastreid_root: Path, tmp_path: Path, fastreid_options: Options) -> None:
    main(fastreid_options(tmp_path / "run", **COSINE, **{"MODEL.LOSSES.NAME": '("CrossEntropyLoss",)'}))
    assert not any("temperature" in row for row in RunFolder(tmp_path / "run").rows())
