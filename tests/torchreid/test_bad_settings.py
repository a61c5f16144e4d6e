"""Settings that are wrong in Torchreid alone: a line that names the key and what it got, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchreid
from hosts import Torchreid

from drsl_plugin.torchreid.host import registry


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "run"


BAD_SETTINGS: list[tuple[dict[str, object], tuple[str, ...]]] = [
    ({"loss.drsl": 1}, ("unknown key loss.drsl;", "loss.drsl.weight")),
    ({"loss.name": "drls"}, ("loss.name drls: unknown", "softmax, triplet, drsl")),
    ({"model.name": "osnet_x1"}, ("model.name osnet_x1: unknown", "did you mean osnet_x1_0")),
    ({"train.optim": "adamm"}, ("train.optim adamm: unknown", "adam, amsgrad, sgd")),
    ({"train.lr_scheduler": "step"}, ("train.lr_scheduler step: unknown", "single_step, multi_step, cosine")),
    ({"sampler.train_sampler": "Random"}, ("sampler.train_sampler Random: unknown", "RandomIdentitySampler")),
    ({"test.dist_metric": "manhattan"}, ("test.dist_metric manhattan: unknown", "euclidean, cosine")),
    ({"data.type": "audio"}, ("data.type audio: unknown", "image, video")),
    ({"data.sources": "marke1501"}, ("--sources marke1501: no image data set", "did you mean market1501")),
    ({"data.targets": "marke1501"}, ("--targets marke1501: no image data set", "did you mean market1501")),
    ({"data.type": "video"}, ("--sources market1501: no video data set", "known: dukemtmcvidreid, ilidsvid, mars")),
    ({"data.sources": "[]"}, ("--sources []: names no data set", "market1501")),
    ({"data.transforms": "random_rotate"}, ("data.transforms random_rotate: unknown", "random_flip, random_crop")),
    ({"train.max_epoch": 1.5}, ("train.max_epoch takes a value of type int, like 60", "got '1.5'")),
    ({"use_gpu": "perhaps"}, ("use_gpu takes a value of type bool, like", "got 'perhaps'")),
    ({"test.ranks": "first"}, ("test.ranks takes a value of type list, like [1, 5, 10, 20]", "got 'first'")),
    ({"test.ranks": "[]"}, ("test.ranks takes a value of type list", "got '[]'")),
    ({"loss.drsl.weight": 0, "loss.drsl.weight_x": 0}, ("loss.drsl.weight must be above 0 where weight_x is 0",)),
    (
        {"loss.name": "triplet", "loss.triplet.weight_t": 0},
        ("loss.triplet.weight_t 0, loss.triplet.weight_x 0", "raise one"),
    ),
    (
        {"loss.drsl.weight_x": 0, "train.fixbase_epoch": 2},
        ("train.fixbase_epoch 2: with loss.drsl.weight_x 0", "use 0"),
    ),
    (
        {"train.fixbase_epoch": 1, "train.open_layers": "head"},
        ("train.open_layers head: osnet_x0_25 has no such layer", "classifier"),
    ),
    (
        {"train.batch_size": 64, "sampler.train_sampler": "SequentialSampler", "loss.name": "softmax"},
        ("train.batch_size 64: no batch can be filled from 32 training images",),
    ),
    (
        {"sampler.train_sampler": "RandomSampler"},
        ("sampler.train_sampler RandomSampler: puts positives in a batch only by chance", "use RandomIdentitySampler"),
    ),
    ({"data.height": 0}, ("data.height 0: must be 1 or above",)),
    ({"train.print_freq": 0}, ("train.print_freq 0: must be 1 or above",)),
    ({"test.ranks": "[1, 0]"}, ("test.ranks [1, 0]: must be 1 or above",)),
    ({"train.lr": "1e999"}, ("train.lr inf: must be a finite number, 0 or above",)),
    ({"test.visrank": True}, ("test.visrank True", "set test.evaluate True")),
    ({"model.resume": "missing.pth"}, ("model.resume missing.pth: no such file",)),
    # What would have no effect
    ({"test.rerank": True}, ("test.rerank True: Torchreid re-ranks where it only evaluates", "test.evaluate True")),
    (
        {"train.staged_lr": True, "train.new_layers": "clasifier"},
        ("train.new_layers clasifier: osnet_x0_25 has no such layer; it has", "classifier"),
    ),
    ({"train.staged_lr": True, "train.new_layers": "[]"}, ("train.new_layers []: names no layer",)),
    ({"train.fixbase_epoch": 1, "train.open_layers": "[]"}, ("train.open_layers []: names no layer",)),
    ({"data.k_tfm": 2}, ("data.k_tfm 2: gives several pictures of an image", "use 1")),
    ({"data.load_train_targets": True}, ("data.load_train_targets True: reads", "no loss here trains on")),
    ({"train.start_epoch": 1}, ("train.start_epoch 1: no epoch is left below 1",)),
    (
        {"loss.name": "softmax", "sampler.train_sampler": "RandomDatasetSampler", "sampler.num_datasets": 2},
        ("sampler.num_datasets 2: draws a batch from so many data sets, and 1 is in data.sources",),
    ),
    # Values that end in torch's own words
    ({"train.optim": "adam", "adam.beta1": 1.5}, ("train.optim adam: ", "Invalid beta parameter", "1.5")),
    ({"train.optim": "sgd", "sgd.nesterov": True, "sgd.momentum": 0}, ("train.optim sgd: Nesterov momentum",)),
    ({"sgd.momentum": -1}, ("sgd.momentum -1.0: must be 0 or above",)),
    ({"train.base_lr_mult": -1}, ("train.base_lr_mult -1.0: must be 0 or above",)),
    ({"data.norm_std": "[0.2, 0.0, 0.2]"}, ("data.norm_std [0.2, 0.0, 0.2]: expected a number above 0 for each",)),
    ({"data.norm_mean": "[0.5]"}, ("data.norm_mean [0.5]: expected a number for each of red, green and blue",)),
]


@pytest.mark.parametrize(("changes", "expected"), BAD_SETTINGS, ids=lambda value: "-".join(map(str, value)))
def test_bad_settings(changes: dict[str, object], expected: tuple[str, ...], output: Path, host: Torchreid) -> None:
    message = host.refusal(output, **changes)
    assert [words for words in expected if words not in message] == []
    assert not output.exists()


def test_use_gpu_without_one(output: Path, host: Torchreid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = host.refusal(output, use_gpu=True)
    assert message.startswith("use_gpu True: torch finds no CUDA device here")


def test_split_that_a_data_set_has_not(output: Path, host: Torchreid) -> None:
    class Split(torchreid.data.ImageDataset):
        def __init__(self, split_id: int = 0, **kwargs: Any) -> None:
            raise ValueError(f"split_id exceeds range, received {split_id}, but expected between 0 and 1")

    torchreid.data.register_image_dataset("split", Split)
    try:
        options = {"data.sources": ["split"], "data.targets": ["split"], "data.split_id": 7}
        assert "received 7" in host.refusal(output, **options)
    finally:
        registry(torchreid.data.datasets, "__image_datasets").pop("split")
    assert not output.exists()


def test_sampler_that_torchreid_refuses_to_build(output: Path, host: Torchreid) -> None:
    options = {"loss.name": "softmax", "sampler.train_sampler": "RandomDomainSampler", "sampler.num_cams": 3}
    assert "sampler.train_sampler RandomDomainSampler" in host.refusal(output, **options)


def test_weights_that_a_resume_replaces(output: Path, host: Torchreid, tmp_path: Path) -> None:
    for name in ("start.pth", "model.pth.tar-1"):
        (tmp_path / name).touch()
    changes = {"model.load_weights": tmp_path / "start.pth", "model.resume": tmp_path / "model.pth.tar-1"}
    assert host.refusal(output, **changes).startswith(f"model.load_weights {tmp_path / 'start.pth'}: model.resume ")


def test_an_evaluation_does_what_a_training_refuses(host: Torchreid, trained: Any, tmp_path: Path) -> None:
    changes = {"test.rerank": True, "train.staged_lr": True, "train.new_layers": "clasifier", "data.k_tfm": 2}
    host.train(tmp_path / "run", evaluate=host.checkpoint(trained()), **changes)
    (row,) = host.evaluations(tmp_path / "run")
    assert row["mAP"] != host.evaluations(trained())[-1]["mAP"]


def test_staged_learning_rates(host: Torchreid, trained: Any, tmp_path: Path) -> None:
    host.train(tmp_path / "run", **{"train.staged_lr": True, "train.new_layers": "classifier", "train.base_lr_mult": 0})
    host.train(tmp_path / "still", lr=0)
    moved, still = (host.parameters(host.checkpoint(tmp_path / name)) for name in ("run", "still"))
    unequal = {name for name in still if "running" not in name and not torch.equal(moved[name], still[name])}
    assert unequal == {"classifier.weight", "classifier.bias"}
