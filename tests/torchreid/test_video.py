"""Video on rendered tracklets, registered as a small data set of Torchreid's."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchreid
from PIL import Image

from drsl_plugin.data import render_tracklets
from drsl_plugin.errors import SettingError
from drsl_plugin.evaluation import evaluate_ranking
from drsl_plugin.runs.features import read_features
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


# Tracklets of unequal length, and all of their frames


@pytest.fixture
def unequal(tracklets: Path, tmp_path: Path) -> Path:
    """The set with other numbers of frames in each tracklet that is not to train on."""
    root = shutil.copytree(tracklets, tmp_path / "unequal")
    for number, folder in enumerate(sorted(root.glob("[qg]*/*/C*"))):
        for frame in sorted(folder.iterdir())[1 + number % 3 :]:
            frame.unlink()
    return root


def all_frames(root: Path, folder: Path, small_options: Callable[..., list[str]], **changes: Any) -> list[str]:
    video = {"data.type": "video", "data.sources": [NAME], "data.targets": [NAME], "video.sample_method": "all"}
    return small_options(root, folder, **{**video, "train.batch_size": 4, "test.batch_size": 3, **changes})


def test_stock_loader_stacks_unequal_tracklets(unequal: Path) -> None:
    options: Any = {"sources": NAME, "height": 64, "width": 32, "workers": 0, "sample_method": "all", "use_gpu": False}
    datamanager = torchreid.data.VideoDataManager(root=str(unequal), **options)
    with pytest.raises(RuntimeError, match="equal size"):
        list(datamanager.test_loader[NAME]["query"])


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_unequal_tracklets_are_evaluated(
    pooling: str, unequal: Path, tmp_path: Path, small_options: Callable[..., list[str]]
) -> None:
    folder = tmp_path / "run"
    main(all_frames(unequal, folder, small_options, **{"video.pooling_method": pooling}))
    features = read_features(folder / f"features-{NAME}.npz")
    lengths = {len(list(Path(path).parent.iterdir())) for path in map(str, features.query_paths)}  # type: ignore[arg-type]
    assert lengths == {1, 2, 3}

    model = torchreid.models.build_model("osnet_x0_25", 4, loss="triplet", pretrained=False)
    torchreid.utils.load_pretrained_weights(model, str(next((folder / "model").glob("model.pth.tar-*"))))
    model.eval()
    _, transform = importlib.import_module(torchreid.data.__name__ + ".transforms").build_transforms(64, 32)
    for part in ("query", "gallery"):
        for path, found in zip(getattr(features, f"{part}_paths"), getattr(features, f"{part}_features"), strict=True):
            frames = [transform(Image.open(frame)) for frame in sorted(Path(str(path)).parent.iterdir())]
            with torch.no_grad():
                each = model(torch.stack(frames))
            expected = each.mean(dim=0) if pooling == "avg" else each.max(dim=0).values
            assert torch.from_numpy(found) == pytest.approx(expected, abs=1e-5)
    distances = torchreid.metrics.compute_distance_matrix(
        *(torch.from_numpy(getattr(features, f"{part}_features")) for part in ("query", "gallery"))
    )
    assert RunFolder(folder).rows()[-1]["mAP"] == pytest.approx(evaluate_ranking(distances.numpy(), *features[2:6]).mAP)


def test_unequal_tracklets_to_train_on_are_refused(
    unequal: Path, tmp_path: Path, small_options: Callable[..., list[str]]
) -> None:
    next(unequal.glob("train/*/C*/0004.jpg")).unlink()
    with pytest.raises(SettingError) as raised:
        main(all_frames(unequal, tmp_path / "run", small_options))
    assert str(raised.value).startswith("video.sample_method all: gives all 3 to 4 frames of a training tracklet")
    assert not (tmp_path / "run").exists()
