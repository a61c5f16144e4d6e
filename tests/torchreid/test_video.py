"""Video on rendered tracklets, registered as a small data set of Torchreid's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchreid

from drsl_plugin.data import render_tracklets
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.torchreid.host import registry
from drsl_plugin.torchreid.main import main

NAME = "rendered_tracklets"


@pytest.fixture(scope="module")
def tracklets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = render_tracklets(tmp_path_factory.mktemp("video") / "tracklets", identities=4, cameras=2, length=4)

    class Rendered(torchreid.data.VideoDataset):
        def __init__(self, root: str = "", **kwargs: Any) -> None:
            super().__init__(*(self.read(Path(root) / split) for split in ("train", "query", "gallery")), **kwargs)

        def read(self, folder: Path) -> list[tuple[tuple[str, ...], int, int]]:
            labels = {path.name: label for label, path in enumerate(sorted(folder.iterdir()))}
            return [
                (tuple(map(str, sorted(path.iterdir()))), labels[path.parent.name], int(path.name[1]) - 1)
                for path in sorted(folder.glob("*/C*"))
            ]

    torchreid.data.register_video_dataset(NAME, Rendered)
    yield root
    registry(torchreid.data.datasets, "__video_datasets").pop(NAME)


@pytest.fixture
def video_options(tracklets: Path, tmp_path: Path, small_options: Callable[..., list[str]]) -> Callable[..., list[str]]:
    def options(**changes: Any) -> list[str]:
        video = {"data.type": "video", "data.sources": [NAME], "data.targets": [NAME], "video.seq_len": 2}
        batch = {"train.batch_size": 4, "test.batch_size": 2}
        return small_options(tracklets, tmp_path / "run", **{**video, **batch, **changes})

    return options


@pytest.mark.parametrize("loss", ["drsl", "triplet", "softmax"])
def test_video_trains_and_evaluates(loss: str, video_options: Callable[..., list[str]], tmp_path: Path) -> None:
    main(video_options(**{"loss.name": loss, "loss.triplet.weight_x": 1.0}))
    *steps, evaluation = RunFolder(tmp_path / "run").rows()
    assert steps
    assert ("loss_drsl" in steps[0]) == (loss == "drsl")
    assert 0 < evaluation["mAP"] <= 1
    arrays = np.load(tmp_path / "run" / f"features-{NAME}.npz")
    assert arrays["query_features"].shape == (8, 512)
    assert all(Path(path).name == "0001.jpg" for path in arrays["query_paths"])


@pytest.mark.parametrize("loss", ["drsl", "triplet", "softmax"])
def test_pooling_method_is_passed_on(
    loss: str, video_options: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(torchreid.engine.Engine, "run", lambda self, **kwargs: seen.append(self))
    main(video_options(**{"loss.name": loss, "video.pooling_method": "max"}))
    assert seen[0].pooling_method == "max"


def test_one_tracklet_an_identity_still_has_positives_in_its_frames(video_options: Callable[..., list[str]]) -> None:
    main(video_options(**{"sampler.train_sampler": "RandomSampler", "sampler.num_instances": 1}))
