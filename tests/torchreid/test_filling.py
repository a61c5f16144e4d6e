"""``memory_fill`` of Torchreid's engines, built in a main of one's own: several features, video, and bad input."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from drsl_plugin import DRSLoss
from drsl_plugin.errors import DRSLError
from drsl_plugin.torchreid import ImageDRSLEngine, VideoDRSLEngine


class Pictures(Dataset[Any]):
    """Six images, or tracklets of some frames, of three identities."""

    def __init__(self, frames: int = 0) -> None:
        self.frames = frames
        if frames:
            self.seq_len = frames

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, Any]:
        shape = (self.frames, 3, 4, 2) if self.frames else (3, 4, 2)
        return {"img": torch.randn(*shape, generator=torch.Generator().manual_seed(index)), "pid": index // 2}


class Several(nn.Module):
    """Logits, and two features of different width, of which batch norm makes what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(24, 5), nn.BatchNorm1d(5)), nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Any:
        features = self.body(images.flatten(1))
        return (self.head(features), self.head(features)), (features, features[:, :3] ** 2)


def engine_of(loader: Any, kind: type = ImageDRSLEngine, **settings: Any) -> Any:
    datamanager = SimpleNamespace(train_loader=loader, test_loader={}, num_train_pids=3)
    model = Several().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return kind(datamanager, model, optimizer, **{"use_gpu": False, **settings})


def loader_of(frames: int = 0) -> DataLoader[Any]:
    return DataLoader(Pictures(frames), batch_size=4)


def step(engine: Any, frames: int = 0) -> None:
    engine.forward_backward(next(iter(loader_of(frames))))


def test_each_feature_of_a_model_is_filled() -> None:
    engine = engine_of(loader_of(), criterion=DRSLoss(memory_size=6, memory_warmup=1))
    step(engine)
    twin = copy.deepcopy(engine.model)
    memories: list[Any] = []
    parse = engine.parse_data_for_train

    def noted(data: Any) -> Any:
        memories.append(engine.criteria.memory_state())
        return parse(data)

    engine.parse_data_for_train = noted
    step(engine)
    embeddings, squares = (
        torch.cat(each) for each in zip(*(twin(batch["img"])[1] for batch in loader_of()), strict=True)
    )
    filled = memories[-1]  # the step itself reads its images last
    torch.testing.assert_close(filled[0]["embeddings"], embeddings)
    torch.testing.assert_close(filled[1]["embeddings"], squares)
    assert [each["labels"].tolist() for each in filled] == [[0, 0, 1, 1, 2, 2]] * 2
    assert [each["batches"] for each in filled] == [1, 1]


def test_frames_of_a_tracklet_are_filled_in_one_by_one() -> None:
    engine = engine_of(loader_of(2), VideoDRSLEngine, criterion=DRSLoss(memory_size=12))
    step(engine, 2)
    assert engine.criteria.of(0).memory.state()["labels"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1][:8] + [2] * 4


def test_a_loader_that_keeps_its_workers_goes_on_with_its_pass() -> None:
    loader = DataLoader(Pictures(), batch_size=2, num_workers=1, persistent_workers=True)
    engine, found = engine_of(loader, criterion=DRSLoss(memory_size=6)), []
    for data in loader:
        found.append(data["pid"].tolist())
        engine.forward_backward(data)
    assert found == [[0, 0], [1, 1], [2, 2]]
    assert engine.criteria.of(0).memory.filled == 6


def test_without_a_memory_nothing_is_filled() -> None:
    engine = engine_of([])
    step(engine)
    assert engine.criteria.of(0).memory is None


def test_without_drsl_nothing_is_filled() -> None:
    engine = engine_of(loader_of(), criterion=DRSLoss(memory_size=6), weight=0.0)
    step(engine)
    assert engine.criteria.of(0).memory.filled == 0


# A share of the training images


@pytest.mark.parametrize("frames", [0, 2])
def test_a_share_counts_images_and_in_video_frames(frames: int) -> None:
    kind = VideoDRSLEngine if frames else ImageDRSLEngine
    for share, size in ((1.0, 6), (0.9, 5), (0.1, 4)):  # a batch has four
        engine = engine_of(loader_of(frames), kind, criterion=DRSLoss(memory_share=share), memory_fill="stored")
        assert engine.criterion.memory.size == {6: 12, 5: 11, 4: 8}[size] if frames else size


def test_a_share_of_an_unknown_number_is_told_when_the_engine_is_built() -> None:
    with pytest.raises(DRSLError, match=r"^loss.drsl.memory_share 0.5: a share of how many\? the training loader"):
        engine_of(iter(loader_of()), criterion=DRSLoss(memory_share=0.5))


# Bad input


@pytest.mark.parametrize("frames", [0, 2])
def test_too_few_images_are_told_when_the_engine_is_built(frames: int) -> None:
    images = 6 * (frames or 1)
    engine_of(loader_of(frames), criterion=DRSLoss(memory_size=images))
    with pytest.raises(DRSLError, match=rf"^loss.drsl.memory_size {images + 1}: there are {images} training images"):
        engine_of(loader_of(frames), criterion=DRSLoss(memory_size=images + 1))


def test_batches_of_unknown_number_that_are_too_few_are_told_when_it_fills() -> None:
    batches = list(loader_of())
    engine = engine_of(batches, criterion=DRSLoss(memory_size=7))
    with pytest.raises(DRSLError, match=r"^loss.drsl.memory_size 7: the training's batches have 6 images in all"):
        step(engine)


def test_an_unknown_filling_is_told() -> None:
    with pytest.raises(DRSLError, match=r"^memory_fill must be one of 'fresh', 'stored', got 'first'"):
        engine_of(loader_of(), memory_fill="first")
