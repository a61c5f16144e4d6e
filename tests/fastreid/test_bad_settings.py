"""Settings that are wrong in FastReID alone: a line that names the key and what it got, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import fastreid
import pytest
import torch
from hosts import FastReID

from drsl_plugin.fastreid.config import get_cfg
from drsl_plugin.fastreid.problems import config_problems

BAD_SETTINGS: list[tuple[dict[str, object], tuple[str, ...]]] = [
    ({"SOLVER.BASE_LRR": 1}, ("unknown key SOLVER.BASE_LRR", "did you mean SOLVER.BASE_LR")),
    ({"SOLVER.MAX_EPOCH": 1.5}, ("SOLVER.MAX_EPOCH takes a value of type int, like 120", "got '1.5'")),
    ({"SOLVER.AMP.ENABLED": "perhaps"}, ("SOLVER.AMP.ENABLED takes a value of type bool", "got 'perhaps'")),
    ({"DATASETS.NAMES": "Market1501"}, ("DATASETS.NAMES takes a value of type tuple, like ('Market1501',)",)),
    ({"MODEL.LOSSES.NAME": "DRSLoss"}, ("MODEL.LOSSES.NAME takes a value of type tuple", "got 'DRSLoss'")),
    ({"SOLVER.MAX_EPOCH": None}, ("SOLVER.MAX_EPOCH", "None")),
    ({"SOLVER.BASE_LR": None}, ("SOLVER.BASE_LR", "None")),
    ({"OUTPUT_DIR": None}, ("OUTPUT_DIR", "None")),
    ({"OUTPUT_DIR": ""}, ("OUTPUT_DIR ''",)),
    ({"MODEL.LOSSES.NAME": '("CrossEntropyLoss", "drsloss")'}, ("MODEL.LOSSES.NAME drsloss", "did you mean DRSLoss?")),
    (
        {"MODEL.LOSSES.NAME": '("CrossEntropyLoss", "TripletLos")'},
        ("MODEL.LOSSES.NAME TripletLos", "train without it", "did you mean TripletLoss"),
    ),
    ({"MODEL.LOSSES.NAME": "()"}, ("MODEL.LOSSES.NAME ()", "nothing would be trained")),
    (
        {"MODEL.META_ARCHITECTURE": "MoCo"},
        ("MODEL.LOSSES.NAME DRSLoss", "MODEL.META_ARCHITECTURE MoCo would train without it"),
    ),
    ({"MODEL.META_ARCHITECTURE": "Baselin"}, ("MODEL.META_ARCHITECTURE Baselin: unknown", "Baseline")),
    ({"MODEL.BACKBONE.NAME": "build_osnet"}, ("MODEL.BACKBONE.NAME build_osnet: unknown", "build_osnet_backbone")),
    ({"MODEL.BACKBONE.DEPTH": "x9"}, ("MODEL.BACKBONE.DEPTH x9",)),
    ({"MODEL.BACKBONE.NORM": "bn"}, ("MODEL.BACKBONE.NORM bn",)),
    ({"MODEL.HEADS.NAME": "Embedding"}, ("MODEL.HEADS.NAME Embedding: unknown", "EmbeddingHead")),
    ({"MODEL.HEADS.NORM": "bn"}, ("MODEL.HEADS.NORM bn",)),
    ({"MODEL.HEADS.NECK_FEAT": "behind"}, ("MODEL.HEADS.NECK_FEAT behind: unknown", "before, after")),
    ({"MODEL.HEADS.POOL_LAYER": "AvgPool"}, ("MODEL.HEADS.POOL_LAYER AvgPool", "GlobalAvgPool")),
    ({"MODEL.HEADS.CLS_LAYER": "linear"}, ("MODEL.HEADS.CLS_LAYER linear", "Linear")),
    ({"SOLVER.OPT": "adam"}, ("SOLVER.OPT adam: unknown", "Adam")),
    ({"SOLVER.OPT": "Lamb"}, ("SOLVER.OPT Lamb", "Adam")),
    ({"SOLVER.OPT": "LBFGS"}, ("SOLVER.OPT LBFGS",)),
    ({"SOLVER.OPT": "SparseAdam"}, ("SOLVER.OPT SparseAdam",)),
    ({"SOLVER.SCHED": "StepLR"}, ("SOLVER.SCHED StepLR: unknown", "MultiStepLR, CosineAnnealingLR")),
    ({"SOLVER.WARMUP_METHOD": "cosine"}, ("SOLVER.WARMUP_METHOD cosine", "linear")),
    ({"TEST.METRIC": "manhattan"}, ("TEST.METRIC manhattan: unknown", "cosine, euclidean")),
    ({"MODEL.LOSSES.DRSL.SCALE": "1e400"}, ("MODEL.LOSSES.DRSL.SCALE inf: must be a finite number",)),
    ({"DATALOADER.SAMPLER_TRAIN": "Naive"}, ("DATALOADER.SAMPLER_TRAIN Naive: unknown", "NaiveIdentitySampler")),
    (
        {"DATALOADER.SAMPLER_TRAIN": "TrainingSampler"},
        ("DATALOADER.SAMPLER_TRAIN TrainingSampler: puts positives in a batch only by chance", "NaiveIdentitySampler"),
    ),
    ({"DATALOADER.SAMPLER_TRAIN": "SetReWeightSampler"}, ("DATALOADER.SAMPLER_TRAIN SetReWeightSampler: never",)),
    # What would have no effect, or ends in torch's own words
    ({"INPUT.AUTOAUG.ENABLED": True}, ("INPUT.AUTOAUG.ENABLED True: never happens with INPUT.AUTOAUG.PROB 0.0",)),
    ({"INPUT.AUGMIX.ENABLED": True}, ("INPUT.AUGMIX.ENABLED True: never happens with INPUT.AUGMIX.PROB 0.0",)),
    ({"INPUT.FLIP.PROB": -2.0}, ("INPUT.FLIP.PROB -2.0: must be a probability, from 0 to 1",)),
    ({"INPUT.REA.PROB": 7.0}, ("INPUT.REA.PROB 7.0: must be a probability, from 0 to 1",)),
    ({"INPUT.PADDING.ENABLED": True, "INPUT.PADDING.MODE": "mirror"}, ("INPUT.PADDING.MODE mirror: unknown", "edge")),
    (
        {"SOLVER.CLIP_GRADIENTS.ENABLED": True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "hard"},
        ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE hard: unknown; one of norm, value",),
    ),
    (
        {"TEST.PRECISE_BN.ENABLED": True, "TEST.PRECISE_BN.DATASET": "Market"},
        ("TEST.PRECISE_BN.DATASET Market: unknown", "Market1501"),
    ),
    ({"MODEL.PIXEL_STD": "[50.0, 0.0, 50.0]"}, ("MODEL.PIXEL_STD [50.0, 0.0, 50.0]: images are divided by it",)),
    ({"SOLVER.GAMMA": -1.0}, ("SOLVER.GAMMA -1.0: must be 0 or above",)),
    ({"SOLVER.CHECKPOINT_PERIOD": 0}, ("SOLVER.CHECKPOINT_PERIOD 0: must be 1 or above",)),
    ({"SOLVER.BASE_LR": "float('nan')"}, ("SOLVER.BASE_LR",)),
    ({"SOLVER.WARMUP_ITERS": -1}, ("SOLVER.WARMUP_ITERS -1: must be 0 or above",)),
    ({"SOLVER.FREEZE_ITERS": -1}, ("SOLVER.FREEZE_ITERS -1: must be 0 or above",)),
    ({"TEST.EVAL_PERIOD": 0}, ("TEST.EVAL_PERIOD 0: must be 1 or above",)),
    ({"TEST.IMS_PER_BATCH": 0}, ("TEST.IMS_PER_BATCH 0: must be 1 or above",)),
    ({"INPUT.SIZE_TRAIN": "[]"}, ("INPUT.SIZE_TRAIN []",)),
    ({"INPUT.SIZE_TEST": "[64, 32, 3]"}, ("INPUT.SIZE_TEST [64, 32, 3]",)),
    ({"INPUT.AFFINE.ENABLED": True}, ("INPUT.AFFINE.ENABLED True", "torchvision", "set it False")),
    ({"TEST.RERANK.ENABLED": True}, ("TEST.RERANK.ENABLED True", "CUDA", "faiss", "set it False")),
    ({"MODEL.BACKBONE.NORM": "syncBN"}, ("MODEL.BACKBONE.NORM", "syncBN", "set BN")),
    ({"MODEL.HEADS.NORM": "syncBN"}, ("MODEL.HEADS.NORM", "syncBN", "set BN")),
    ({"MODEL.DEVICE": "gpu"}, ("MODEL.DEVICE gpu: unknown", "cpu or cuda")),
    ({"MODEL.DEVICE": "meta"}, ("MODEL.DEVICE meta", "cpu or cuda")),
    (
        {"MODEL.BACKBONE.PRETRAIN": True, "MODEL.BACKBONE.PRETRAIN_PATH": "missing.pth"},
        ("MODEL.BACKBONE.PRETRAIN_PATH missing.pth: no such file",),
    ),
    ({"DATASETS.NAMES": '("Market151",)'}, ("DATASETS.NAMES Market151: no data set", "did you mean Market1501")),
    ({"DATASETS.TESTS": '("Market151",)'}, ("DATASETS.TESTS Market151: no data set", "did you mean Market1501")),
    ({"DATASETS.TESTS": "(1,)"}, ("DATASETS.TESTS 1: no data set",)),
    ({"DATASETS.NAMES": "()"}, ("DATASETS.NAMES (): names no data set", "Market1501")),
    ({"DATASETS.TESTS": "()"}, ("DATASETS.TESTS (): names no data set", "Market1501")),
    ({"DATASETS.TESTS": '("Market1501", "MSMT17")'}, ("DATASETS.TESTS MSMT17: not on disk", "MSMT17_V1")),
]


@pytest.mark.parametrize(("changes", "expected"), BAD_SETTINGS, ids=lambda value: "-".join(map(str, value)))
def test_bad_settings(
    changes: dict[str, object],
    expected: tuple[str, ...],
    unread: None,
    output: Path,
    host: FastReID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = host.refusal(output, **changes)
    assert [words for words in expected if words not in message] == []
    assert not output.parent.exists()


@pytest.mark.parametrize("size", ["[64, 32]", "[32, 32]"])
@pytest.mark.parametrize("key", ["INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST"])
def test_image_too_low_for_mgn(key: str, size: str, unread: None, output: Path, host: FastReID) -> None:
    options = {"INPUT.SIZE_TRAIN": "[128, 64]", "INPUT.SIZE_TEST": "[128, 64]", key: size}
    resnet = {"MODEL.BACKBONE.NAME": "build_resnet_backbone", "MODEL.BACKBONE.DEPTH": "50x"}
    width = {"MODEL.META_ARCHITECTURE": "MGN", "MODEL.BACKBONE.FEAT_DIM": 2048}
    message = host.refusal(output, **resnet, **width, **options)
    assert message.startswith(f"{key} {size}: MGN cannot cut ")
    assert "make it higher" in message
    assert not output.parent.exists()


@pytest.mark.parametrize("last_stride", [1, 2])
def test_every_image_that_mgn_can_cut_will_do(last_stride: int, tmp_path: Path, host: FastReID) -> None:
    cfg = get_cfg()
    resnet = {"MODEL.BACKBONE.NAME": "build_resnet_backbone", "MODEL.BACKBONE.DEPTH": "50x"}
    settings = {**resnet, "MODEL.BACKBONE.FEAT_DIM": 2048, "MODEL.META_ARCHITECTURE": "MGN"}
    cfg.merge_from_list(host.options(tmp_path / "run", **settings))
    cfg.MODEL.BACKBONE.LAST_STRIDE = last_stride
    backbone = fastreid.modeling.backbones.build_backbone(cfg).to("meta")
    layers = (backbone.conv1, backbone.maxpool, backbone.layer1, backbone.layer2, backbone.layer3)
    refused, too_low = [], []
    for height in (*range(24, 100, 8), 33, 49, 65, 128, 200, 384):
        rows = torch.nn.Sequential(*layers)(torch.zeros(2, 3, height, 32, device="meta"))
        if len(rows.chunk(3, dim=2)) != 3:  # the branches that are cut do not look at LAST_STRIDE
            too_low.append(height)
        cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [height, 32]
        if any("MGN cannot cut" in str(problem) for problem in config_problems(cfg)):
            refused.append(height)
    assert refused == too_low


def test_cuda_without_a_gpu(unread: None, output: Path, host: FastReID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = host.refusal(output, **{"MODEL.DEVICE": "cuda", "SOLVER.AMP.ENABLED": True})
    assert message == "MODEL.DEVICE cuda: torch finds no CUDA device here; set MODEL.DEVICE cpu"
    assert not output.parent.exists()


def test_fastreid_s_own_default_is_cuda(unread: None, host: FastReID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    lines = host.command(host.name, "--config-file", "fastreid/Market1501/bagtricks_R50_drsl").errors
    assert lines == ["MODEL.DEVICE cuda: torch finds no CUDA device here; set MODEL.DEVICE cpu"]


UNFIT: list[tuple[dict[str, object], tuple[str, ...]]] = [
    (
        {"SOLVER.IMS_PER_BATCH": 32, "DATALOADER.SAMPLER_TRAIN": "BalancedIdentitySampler"},
        ("SOLVER.IMS_PER_BATCH 32: needs 16 identities", "Market1501 has 8"),
    ),
    (
        {"SOLVER.IMS_PER_BATCH": 40, "DATALOADER.NUM_INSTANCE": 8},
        ("SOLVER.IMS_PER_BATCH 40: Market1501 has only 32 training images",),
    ),
    (
        {
            "SOLVER.IMS_PER_BATCH": 64,
            "DATALOADER.SAMPLER_TRAIN": "TrainingSampler",
            "MODEL.LOSSES.NAME": '("CrossEntropyLoss",)',
        },
        ("SOLVER.IMS_PER_BATCH 64: Market1501 has only 32 training images",),
    ),
    (
        {"SOLVER.SCHED": "CosineAnnealingLR", "SOLVER.MAX_EPOCH": 2, "SOLVER.WARMUP_ITERS": 5},
        ("SOLVER.MAX_EPOCH 2: leaves no epoch to anneal", "SOLVER.WARMUP_ITERS 5 (2 epochs of 4 steps)"),
    ),
    (
        {"SOLVER.SCHED": "CosineAnnealingLR", "SOLVER.MAX_EPOCH": 2, "SOLVER.DELAY_EPOCHS": 2},
        ("SOLVER.MAX_EPOCH 2: leaves no epoch to anneal", "SOLVER.DELAY_EPOCHS 2"),
    ),
    ({"MODEL.HEADS.NUM_CLASSES": 3}, ("MODEL.HEADS.NUM_CLASSES 3", "8")),
    ({"MODEL.BACKBONE.FEAT_DIM": 512}, ("MODEL.BACKBONE.FEAT_DIM 512", "128")),
]


@pytest.mark.parametrize(("changes", "expected"), UNFIT, ids=lambda value: "-".join(map(str, value)))
def test_data_that_do_not_go_with_the_settings(
    changes: dict[str, object],
    expected: tuple[str, ...],
    output: Path,
    tmp_path: Path,
    host: FastReID,
) -> None:
    message = host.refusal(output, **changes)
    assert [words for words in expected if words not in message] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"MODEL.FREEZE_LAYERS": '("bakcbone",)', "SOLVER.FREEZE_ITERS": 2},
            "MODEL.FREEZE_LAYERS bakcbone: Baseline has no such layer; it has backbone, heads",
        ),
        ({"SOLVER.OPT": "SGD", "SOLVER.MOMENTUM": 0.0, "SOLVER.NESTEROV": True}, "SOLVER.OPT SGD: Nesterov momentum"),
    ],
    ids=["frozen layers", "optimizer"],
)
def test_what_only_the_model_tells(changes: dict[str, object], expected: str, output: Path, host: FastReID) -> None:
    assert host.refusal(output, **changes).startswith(expected)
    assert not output.exists()
