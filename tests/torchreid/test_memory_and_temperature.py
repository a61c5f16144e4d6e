"""The memory of earlier embeddings and the scheduled temperature in Torchreid reach the loss and go on exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from drsl_plugin import DRSLoss, drsl_loss, run
from drsl_plugin.errors import DRSLError
from drsl_plugin.runs.checkpoint_files import load
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.torchreid import ImageDRSLEngine, VideoDRSLEngine, build_drsl_engine, get_default_config
from drsl_plugin.torchreid.building import check_training
from drsl_plugin.torchreid.checkpoints import resume_memory
from drsl_plugin.torchreid.main import main
from drsl_plugin.torchreid.recording import RecordedRun

Options = Callable[..., list[str]]
BATCH = 8
MEMORY = {"loss.drsl.memory_size": 20, "loss.drsl.memory_warmup": 2}
COSINE = {
    "loss.drsl.temperature": 0.2,
    "loss.drsl.temperature_schedule": "cosine",
    "loss.drsl.temperature_end": 0.02,
}


def steps_of(folder: Path) -> list[dict[str, Any]]:
    return [row for row in RunFolder(folder).rows() if "lr" in row]


def interrupt_in_epoch(patch: pytest.MonkeyPatch, epoch: int) -> None:
    """Interrupt as Ctrl-C would, after the second step of an epoch: the ring is then ahead of the checkpoint."""
    step = RecordedRun.forward_backward

    def interrupted(self: Any, data: Any) -> Any:
        summary = step(self, data)
        if (self.epoch + 1, self.batch_idx + 1) == (epoch, 2):
            raise KeyboardInterrupt
        return summary

    patch.setattr(RecordedRun, "forward_backward", interrupted)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the losses of a run got, call by call."""
    calls: list[dict[str, Any]] = []
    forward = DRSLoss.forward

    def watched(self: Any, embeddings: Tensor, labels: Tensor, *args: Any, **kwargs: Any) -> Any:
        entries = self.memory.entries() if self.memory is not None else None
        kept = 0 if entries is None else len(entries[0])
        calls.append({"temperature": self.temperature, "kept": kept, "batch": len(embeddings)})
        return forward(self, embeddings, labels, *args, **kwargs)

    monkeypatch.setattr(DRSLoss, "forward", watched)
    return calls


# A resumed run


@pytest.mark.parametrize("by", ["drsl torchreid", "drsl run"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    by: str, demo_root: Path, tmp_path: Path, small_options: Options, monkeypatch: pytest.MonkeyPatch, script: Path
) -> None:
    def start(folder: Path, **options: Any) -> None:
        arguments = small_options(demo_root, folder, **{**MEMORY, **COSINE, "train.max_epoch": 3, **options})
        main(arguments) if by == "drsl torchreid" else run.main([str(script), *arguments])

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    start(whole)
    with monkeypatch.context() as patch:
        interrupt_in_epoch(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            start(cut)
    torch.rand(7)
    start(cut, **{"model.resume": cut / "model/model.pth.tar-1"})

    assert RunFolder(cut).rows() == RunFolder(whole).rows()
    states = [load(folder / "model/model.pth.tar-3", "") for folder in (cut, whole)]
    for key in ("state_dict", "optimizer", "scheduler", "drsl_memory"):
        torch.testing.assert_close(states[0][key], states[1][key], rtol=0, atol=0)
    (memory,) = states[0]["drsl_memory"]
    taken = len(steps_of(whole))
    assert (memory["filled"], memory["batches"], memory["position"]) == (20, taken, BATCH * taken % 20)
    assert memory["embeddings"].abs().sum() > 0


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A main of upstream's shape, in fewer words than that of test_script.py."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "default_config.py").write_text(
        "from yacs.config import CfgNode\nfrom drsl_plugin.torchreid.config import DEFAULTS\n\n"
        "def get_default_config():\n    return CfgNode(DEFAULTS).clone()\n"
    )
    (folder / "main.py").write_text(
        "import sys\nimport torchreid\nfrom torchreid.utils import set_random_seed, resume_from_checkpoint\n"
        "from default_config import get_default_config\n"
        "from drsl_plugin.torchreid.kwargs import data_kwargs, optimizer_kwargs, run_kwargs, scheduler_kwargs\n"
        "cfg = get_default_config()\ncfg.use_gpu = False\n"
        "cfg.merge_from_list(sys.argv[1:])\n"
        "set_random_seed(cfg.train.seed)\n"
        "data = torchreid.data.ImageDataManager(**data_kwargs(cfg))\n"
        "model = torchreid.models.build_model(cfg.model.name, data.num_train_pids, cfg.loss.name, pretrained=False)\n"
        "optimizer = torchreid.optim.build_optimizer(model, **optimizer_kwargs(cfg))\n"
        "scheduler = torchreid.optim.build_lr_scheduler(optimizer, **scheduler_kwargs(cfg))\n"
        "if cfg.model.resume:\n"
        "    cfg.train.start_epoch = resume_from_checkpoint(cfg.model.resume, model, optimizer, scheduler)\n"
        "engine = torchreid.engine.ImageTripletEngine(data, model, optimizer, scheduler=scheduler, use_gpu=False)\n"
        "engine.run(**run_kwargs(cfg))\n"
    )
    return folder / "main.py"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, demo_root: Path, small_options: Options) -> dict[str, Path]:
    """The checkpoints of one epoch with a memory and without."""
    folder = tmp_path_factory.mktemp("trained")
    main(small_options(demo_root, folder / "with", **MEMORY))
    main(small_options(demo_root, folder / "without"))
    return {name: folder / name / "model/model.pth.tar-1" for name in ("with", "without")}


def test_a_checkpoint_without_a_memory_starts_it_empty_and_says_so(
    trained: dict[str, Path],
    demo_root: Path,
    tmp_path: Path,
    small_options: Options,
    capsys: pytest.CaptureFixture[str],
    seen: list[dict[str, Any]],
) -> None:
    options = {**MEMORY, "train.max_epoch": 2, "model.resume": trained["without"]}
    main(small_options(demo_root, tmp_path / "run", **options))
    line = f'"{trained["without"]}" holds no memory of embeddings: that of loss.drsl.memory_size 20 starts empty'
    assert line in capsys.readouterr().out
    assert [call["kept"] for call in seen] == [0, 0, *[16, *[20] * 9][: len(seen) - 2]]


def test_a_memory_that_a_run_has_no_use_for_is_left_aside(
    trained: dict[str, Path],
    demo_root: Path,
    tmp_path: Path,
    small_options: Options,
    capsys: pytest.CaptureFixture[str],
    seen: list[dict[str, Any]],
) -> None:
    options = {"train.max_epoch": 2, "model.resume": trained["with"]}
    main(small_options(demo_root, tmp_path / "run", **options))
    assert "holds a memory of embeddings, which this run leaves aside" in capsys.readouterr().out
    assert {call["kept"] for call in seen} == {0}
    assert "drsl_memory" not in load(tmp_path / "run/model/model.pth.tar-2", "")


def test_a_memory_of_another_size_is_one_line(
    trained: dict[str, Path], demo_root: Path, tmp_path: Path, small_options: Options
) -> None:
    options = {"loss.drsl.memory_size": 24, "train.max_epoch": 2, "model.resume": trained["with"]}
    with pytest.raises(DRSLError) as raised:
        main(small_options(demo_root, tmp_path / "run", **options))
    line = f"model.resume {trained['with']}: loss.drsl.memory_size must be 20, that of the saved memory, got 24"
    assert str(raised.value) == line
    assert not (tmp_path / "run").exists()


def test_an_evaluation_needs_no_memory(
    trained: dict[str, Path], demo_root: Path, tmp_path: Path, small_options: Options, seen: list[dict[str, Any]]
) -> None:
    options = {"loss.drsl.memory_size": 24, "test.evaluate": True, "model.resume": trained["with"]}
    main(small_options(demo_root, tmp_path / "run", **options))
    assert seen == []


def test_another_loss_goes_on_from_a_checkpoint_with_a_memory(
    trained: dict[str, Path], demo_root: Path, tmp_path: Path, small_options: Options
) -> None:
    options = {"loss.name": "triplet", "loss.triplet.weight_x": 1.0, "train.max_epoch": 2}
    main(small_options(demo_root, tmp_path / "run", **options, **{"model.resume": trained["with"]}))
    assert "loss_t" in steps_of(tmp_path / "run")[-1]


def test_the_weights_are_those_of_a_model_without(trained: dict[str, Path]) -> None:
    states = {name: load(path, "") for name, path in trained.items()}
    assert states["with"]["state_dict"].keys() == states["without"]["state_dict"].keys()
    assert set(states["with"]) - set(states["without"]) == {"drsl_memory"}


# They reach the loss


def test_the_memory_takes_part_behind_its_warmup(
    demo_root: Path, tmp_path: Path, small_options: Options, seen: list[dict[str, Any]]
) -> None:
    main(small_options(demo_root, tmp_path / "with", **MEMORY, **{"train.max_epoch": 2}))
    assert len(seen) >= 5
    assert [call["kept"] for call in seen] == [0, 0, 16, *[20] * (len(seen) - 3)]
    main(small_options(demo_root, tmp_path / "without", **{"train.max_epoch": 2}))
    rows = [steps_of(tmp_path / name) for name in ("with", "without")]
    same = [one == other for one, other in zip(*rows, strict=True)]
    assert same[:2] == [True, True]
    assert not any(same[2:])


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_every_step_has_its_temperature(
    kind: str, demo_root: Path, tmp_path: Path, small_options: Options, seen: list[dict[str, Any]]
) -> None:
    """By the formula, over the steps that Torchreid announces: 4 an epoch, 8 in all."""
    options = {**COSINE, "loss.drsl.temperature_schedule": kind, "train.max_epoch": 2}
    main(small_options(demo_root, tmp_path / "run", **options))
    rows = steps_of(tmp_path / "run")
    announced = 32 // BATCH
    in_epoch = {epoch: [row for row in rows if row["epoch"] == epoch] for epoch in (1, 2)}
    places = [announced * (epoch - 1) + i for epoch, steps in in_epoch.items() for i in range(len(steps))]
    progress = [place / (2 * announced - 1) for place in places]
    weights = progress if kind == "linear" else [(1 - math.cos(math.pi * p)) / 2 for p in progress]
    expected = [0.2 - 0.18 * weight for weight in weights]
    assert [row["temperature"] for row in rows] == pytest.approx(expected, rel=1e-12)
    assert [call["temperature"] for call in seen] == [row["temperature"] for row in rows]
    assert rows[0]["temperature"] == 0.2
    assert rows[-1]["temperature"] == (0.02 if len(in_epoch[2]) == announced else pytest.approx(expected[-1]))
    assert len(set(expected)) == len(expected) >= 6


def test_a_constant_temperature_is_not_shown(demo_root: Path, tmp_path: Path, small_options: Options) -> None:
    main(small_options(demo_root, tmp_path / "run"))
    assert not any("temperature" in row for row in RunFolder(tmp_path / "run").rows())


PIDS = torch.tensor([0, 0, 1, 1, 2, 2])


class Several(nn.Module):
    """Logits, and two features of different width."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(24, 5), nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Any:
        features = self.body(images.flatten(1))
        logits = self.head(features)
        return (logits, logits), (features, features[:, :3] ** 2)


def engine_of(model: nn.Module, kind: type = ImageDRSLEngine, **settings: Any) -> Any:
    datamanager = SimpleNamespace(train_loader=[], test_loader={}, num_train_pids=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return kind(datamanager, model.train(), optimizer, **{"use_gpu": False, **settings})


def pictures(step: int) -> Tensor:
    return torch.randn(len(PIDS), 3, 4, 2, generator=torch.Generator().manual_seed(step))


def test_each_feature_of_a_model_has_a_memory_of_its_own() -> None:
    model = Several()
    engine = engine_of(model, memory_size=18, weight_x=0.0)
    earlier: list[list[Tensor]] = []
    for step in range(3):
        with torch.no_grad():
            features = model(pictures(step))[1]
        labels = PIDS.repeat(len(earlier))
        refs = [(torch.cat(feature), labels) for feature in zip(*earlier, strict=True)] or [(), ()]
        losses = [drsl_loss(each, PIDS, *of) for each, of in zip(features, refs, strict=True)]
        found = engine.forward_backward({"img": pictures(step), "pid": PIDS})["loss_drsl"]
        assert found == pytest.approx(sum(losses).item() / 2, rel=1e-5)
        earlier.append(list(features))
    assert [state["embeddings"].shape for state in engine.criteria.memory_state()] == [(18, 5), (18, 3)]


def test_the_memories_of_several_features_are_saved_and_resumed(tmp_path: Path) -> None:
    engines = [engine_of(Several(), memory_size=18) for _ in range(2)]
    engines[0].forward_backward({"img": pictures(0), "pid": PIDS})
    engines[0].save_model(0, 0.5, str(tmp_path))
    path = tmp_path / "model/model.pth.tar-1"
    checkpoint = load(path, "")
    resume_memory(path, checkpoint, engines[1])
    engines[1].model.load_state_dict(checkpoint["state_dict"])
    summaries = [engine.forward_backward({"img": pictures(1), "pid": PIDS}) for engine in engines]
    assert summaries[0] == summaries[1]
    assert all(len(engine.criteria) == 2 for engine in engines)


def test_frames_of_a_tracklet_are_remembered_one_by_one() -> None:
    engine = engine_of(Several(), VideoDRSLEngine, memory_size=12)
    clips = {"img": pictures(0).view(3, 2, 3, 4, 2), "pid": torch.tensor([0, 1, 2])}
    engine.forward_backward(clips)
    assert engine.criteria.of(0).memory.labels[:6].tolist() == PIDS.tolist()


def test_settings_reach_the_engine_from_the_configuration() -> None:
    cfg = get_default_config()
    cfg.use_gpu, cfg.loss.name, cfg.sampler.train_sampler = False, "drsl", "RandomIdentitySampler"
    cfg.loss.drsl.memory_size, cfg.loss.drsl.memory_warmup = 64, 5
    cfg.loss.drsl.temperature_schedule, cfg.loss.drsl.temperature_end = "linear", 0.01
    model = Several()
    datamanager = SimpleNamespace(train_loader=[], test_loader={}, num_train_pids=3)
    engine = build_drsl_engine(cfg, datamanager, model, torch.optim.SGD(model.parameters(), lr=0.1), None)
    memory = engine.criterion.memory
    assert (memory.size, memory.warmup) == (64, 5)
    assert engine.schedule == (0.05, "linear", 0.01)


# Bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"memory_size": 31},
            "loss.drsl.memory_size 31: smaller than a batch, which has 32 images (train.batch_size); ",
        ),
        ({"memory_size": -1}, "loss.drsl.memory_size must be a whole number, 0 or above, got -1"),
        (
            {"memory_size": 64, "memory_warmup": -2},
            "loss.drsl.memory_warmup must be a whole number, 0 or above, got -2",
        ),
        ({"temperature_schedule": "step"}, "loss.drsl.temperature_schedule must be one of 'constant', 'linear', 'cos"),
        ({"temperature_schedule": "linear"}, "loss.drsl.temperature_end must be a finite number above 0 where the"),
        ({"temperature_schedule": "linear", "temperature_end": -1.0}, "loss.drsl.temperature_end must be a finite"),
        (
            {"temperature_end": 0.1},
            "loss.drsl.temperature_end must be left at 0 where the schedule is constant, got 0.",
        ),
    ],
)
def test_bad_settings_are_one_line(changes: dict[str, Any], message: str) -> None:
    cfg = get_default_config()
    cfg.use_gpu, cfg.loss.name, cfg.sampler.train_sampler = False, "drsl", "RandomIdentitySampler"
    for key, value in changes.items():
        cfg.loss.drsl[key] = value
    with pytest.raises(DRSLError) as raised:
        check_training(cfg)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_a_batch_of_video_counts_its_frames() -> None:
    cfg = get_default_config()
    cfg.use_gpu, cfg.loss.name, cfg.data.type = False, "drsl", "video"
    cfg.sampler.train_sampler, cfg.video.seq_len = "RandomIdentitySampler", 3
    cfg.loss.drsl.memory_size = 96
    check_training(cfg)
    cfg.loss.drsl.memory_size = 95
    with pytest.raises(
        DRSLError, match=r"95: smaller than a batch, which has 96 images \(train.batch_size times video"
    ):
        check_training(cfg)


def test_a_memory_that_just_holds_a_batch_is_enough(demo_root: Path, tmp_path: Path, small_options: Options) -> None:
    main(small_options(demo_root, tmp_path / "run", **{"loss.drsl.memory_size": BATCH}))
    (memory,) = load(tmp_path / "run/model/model.pth.tar-1", "")["drsl_memory"]
    assert (memory["filled"], memory["position"]) == (BATCH, 0)


def test_nothing_is_added_to_a_checkpoint_without_one(tmp_path: Path) -> None:
    engine = engine_of(Several())
    engine.save_model(0, 0.5, str(tmp_path))
    assert "drsl_memory" not in load(tmp_path / "model/model.pth.tar-1", "")
