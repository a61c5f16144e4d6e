"""The memory of earlier embeddings in Torchreid's engines: of several features and of video."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from drsl_plugin import DRSLoss, drsl_loss
from drsl_plugin.errors import DRSLError, raise_all
from drsl_plugin.runs.checkpoint_files import load
from drsl_plugin.torchreid import ImageDRSLEngine, VideoDRSLEngine, build_drsl_engine, get_default_config
from drsl_plugin.torchreid.checkpoints import resume_memory
from drsl_plugin.torchreid.training_problems import training_problems

Options = Callable[..., list[str]]


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
    return kind(datamanager, model.train(), optimizer, **{"use_gpu": False, "memory_fill": "stored", **settings})


def pictures(step: int) -> Tensor:
    return torch.randn(len(PIDS), 3, 4, 2, generator=torch.Generator().manual_seed(step))


def test_each_feature_of_a_model_has_a_memory_of_its_own() -> None:
    model = Several()
    engine = engine_of(model, criterion=DRSLoss(memory_size=18), weight_x=0.0)
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
    engines = [engine_of(Several(), criterion=DRSLoss(memory_size=18)) for _ in range(2)]
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
    engine = engine_of(Several(), VideoDRSLEngine, criterion=DRSLoss(memory_size=12))
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


def test_a_batch_of_video_counts_its_frames() -> None:
    cfg = get_default_config()
    cfg.use_gpu, cfg.loss.name, cfg.data.type = False, "drsl", "video"
    cfg.sampler.train_sampler, cfg.video.seq_len = "RandomIdentitySampler", 3
    cfg.loss.drsl.memory_size = 96
    raise_all(training_problems(cfg))
    cfg.loss.drsl.memory_size = 95
    with pytest.raises(
        DRSLError, match=r"95: smaller than a batch, which has 96 images \(train.batch_size times video"
    ):
        raise_all(training_problems(cfg))


def test_nothing_is_added_to_a_checkpoint_without_one(tmp_path: Path) -> None:
    engine = engine_of(Several())
    engine.save_model(0, 0.5, str(tmp_path))
    assert "drsl_memory" not in load(tmp_path / "model/model.pth.tar-1", "")
