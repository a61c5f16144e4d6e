"""What bad input gets from ``drsl fastreid``: a line for each thing that is wrong, exit code 2, nothing left behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastreid
import gdown
import pytest
import torch
from typer.testing import CliRunner, Result

from drsl_plugin.cli import app
from drsl_plugin.fastreid.config import get_cfg
from drsl_plugin.fastreid.problems import config_problems

Options = Callable[..., list[str]]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["fastreid", *map(str, arguments)])


def error_lines(result: Result) -> list[str]:
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    # torch says on the error stream where there is a CUDA toolkit but no GPU, once a process.
    lines = [line for line in result.stderr.splitlines() if "CUDA_HOME" not in line]
    assert [line for line in lines if not line.startswith("drsl: error: ")] == []
    return [line.removeprefix("drsl: error: ") for line in lines]


def error_line(result: Result) -> str:
    (line,) = error_lines(result)
    return line


def content(folder: Path) -> dict[Path, bytes]:
    """The files of a folder, and what is in them; of a log only that it is there, since every attempt is logged."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: b"" if path.name == "log.txt" else path.read_bytes() for path in files}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "run"


@pytest.fixture
def unread(fastreid_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that must not be read: what is wrong is known before."""

    def read(*args: Any, **kwargs: Any) -> None:
        pytest.fail("data were read")

    monkeypatch.setattr(fastreid.data.datasets.Market1501, "__init__", read)


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory, demo_root: Path, fastreid_options: Options) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fastreid.data.build, "_root", str(demo_root))
        assert run(*fastreid_options(folder)).exit_code == 0
    return folder


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """The folder of a run of one epoch, a copy for the test."""
    return shutil.copytree(trained_once, tmp_path / "trained")


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``at_step(step, action)`` gives what ``action`` makes of that step's images, counted from 1, to the model."""
    prepare = fastreid.modeling.meta_arch.Baseline.preprocess_image

    def install(step: int, action: Callable[[torch.Tensor], torch.Tensor]) -> None:
        def prepared(model: Any, inputs: Any) -> torch.Tensor:
            images = prepare(model, inputs)
            here = model.training and fastreid.utils.events.get_event_storage().iter + 1 == step
            return action(images) if here else images

        monkeypatch.setattr(fastreid.modeling.meta_arch.Baseline, "preprocess_image", prepared)

    return install


# Settings, known to be wrong before data are read

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
    fastreid_options: Options,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = error_line(run(*fastreid_options(output, **changes)))
    assert [words for words in expected if words not in message] == []
    assert not output.parent.exists()


@pytest.mark.parametrize("size", ["[64, 32]", "[32, 32]"])
@pytest.mark.parametrize("key", ["INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST"])
def test_image_too_low_for_mgn(key: str, size: str, unread: None, output: Path, fastreid_options: Options) -> None:
    options = {"INPUT.SIZE_TRAIN": "[128, 64]", "INPUT.SIZE_TEST": "[128, 64]", key: size}
    resnet = {"MODEL.BACKBONE.NAME": "build_resnet_backbone", "MODEL.BACKBONE.DEPTH": "50x"}
    width = {"MODEL.META_ARCHITECTURE": "MGN", "MODEL.BACKBONE.FEAT_DIM": 2048}
    message = error_line(run(*fastreid_options(output, **resnet, **width, **options)))
    assert message.startswith(f"{key} {size}: MGN cannot cut ")
    assert "make it higher" in message
    assert not output.parent.exists()


@pytest.mark.parametrize("last_stride", [1, 2])
def test_every_image_that_mgn_can_cut_will_do(last_stride: int, tmp_path: Path, fastreid_options: Options) -> None:
    cfg = get_cfg()
    resnet = {"MODEL.BACKBONE.NAME": "build_resnet_backbone", "MODEL.BACKBONE.DEPTH": "50x"}
    settings = {**resnet, "MODEL.BACKBONE.FEAT_DIM": 2048, "MODEL.META_ARCHITECTURE": "MGN"}
    cfg.merge_from_list(fastreid_options(tmp_path / "run", **settings))
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


def test_cuda_without_a_gpu(
    unread: None, output: Path, fastreid_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = error_line(run(*fastreid_options(output, **{"MODEL.DEVICE": "cuda", "SOLVER.AMP.ENABLED": True})))
    assert message == "MODEL.DEVICE cuda: torch finds no CUDA device here; set MODEL.DEVICE cpu"
    assert not output.parent.exists()


def test_fastreid_s_own_default_is_cuda(unread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    lines = error_lines(run("--config-file", "fastreid/Market1501/bagtricks_R50_drsl"))
    assert lines == ["MODEL.DEVICE cuda: torch finds no CUDA device here; set MODEL.DEVICE cpu"]


@pytest.mark.parametrize(
    ("name", "folder", "how"),
    [
        ("Market1501", "Market-1501-v15.09.15", "unpack Market-1501-v15.09.15.zip"),
        ("MSMT17", "MSMT17_V1", "ask its authors"),
        ("CUHK03", "cuhk03", "cuhk03_release.zip"),
        ("DukeMTMC", "DukeMTMC-reID", "withdrawn"),
        ("VeRi", "veri", "FastReID's documentation"),
    ],
)
def test_data_set_not_on_disk(
    name: str,
    folder: str,
    how: str,
    output: Path,
    tmp_path: Path,
    fastreid_options: Options,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "data"
    monkeypatch.setattr(fastreid.data.build, "_root", str(root))
    both = {"DATASETS.NAMES": f'("{name}",)', "DATASETS.TESTS": f'("{name}",)'}
    message = error_line(run(*fastreid_options(output, **both)))
    assert message.startswith(f"DATASETS.NAMES {name}: not on disk, no folder {root / folder} (FASTREID_DATASETS")
    assert f"is {root})" in message
    assert how in message
    assert list(tmp_path.iterdir()) == []


def test_data_set_without_its_files(
    output: Path, tmp_path: Path, fastreid_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastreid.data.build, "_root", str(tmp_path))
    (tmp_path / "Market-1501-v15.09.15").mkdir()
    message = error_line(run(*fastreid_options(output)))
    assert message.startswith("DATASETS.NAMES Market1501: ")
    assert f'"{tmp_path}/Market-1501-v15.09.15/bounding_box_train" is not found' in message
    assert not output.parent.exists()


# Several things at once


def test_all_that_is_wrong_is_told_at_once(
    unread: None, output: Path, tmp_path: Path, fastreid_options: Options
) -> None:
    file = tmp_path / "mine.yml"
    file.write_text("MODEL:\n  DEVISE: cpu\nSOLVER:\n  GAMMA: low\n", encoding="utf-8")
    changes = {
        "SOLVER.BASE_LRR": 1,
        "SOLVER.MAX_EPOCH": "many",
        "SOLVER.OPT": "Lamb",
        "SOLVER.IMS_PER_BATCH": 9,
        "MODEL.LOSSES.DRSL.TEMPERATURE": 0,
        "MODEL.LOSSES.NAME": '("CrossEntropyLoss", "DRSLoss", "Triplet")',
        "TEST.EVAL_PERIOD": 0,
        "INPUT.AFFINE.ENABLED": True,
        "DATASETS.TESTS": '("MSMT17",)',
        "MODEL.WEIGHTS": "missing.pth",
    }
    arguments = ("--config-file", file, "--num-gpus", 2, "--num-machines", 2, "--resume")
    lines = error_lines(run(*arguments, *fastreid_options(output, **changes)))
    expected = (
        f"--config-file {file}: unknown key MODEL.DEVISE",
        f"--config-file {file}: SOLVER.GAMMA takes a value",
        "unknown key SOLVER.BASE_LRR",
        "SOLVER.MAX_EPOCH takes a value",
        "SOLVER.OPT Lamb",
        "SOLVER.IMS_PER_BATCH 9",
        "MODEL.LOSSES.DRSL.TEMPERATURE",
        "MODEL.LOSSES.NAME Triplet",
        "TEST.EVAL_PERIOD 0",
        "INPUT.AFFINE.ENABLED True",
        "DATASETS.TESTS MSMT17",
        "MODEL.WEIGHTS missing.pth",
        "--num-gpus 2",
        "--dist-url auto",
        f"--resume: OUTPUT_DIR {output} has no checkpoint",
    )
    assert [start for start in expected if sum(line.startswith(start) for line in lines) != 1] == []
    assert len(lines) == len(expected)
    assert list(tmp_path.iterdir()) == [file]


def test_an_option_without_its_value_does_not_hide_the_rest(unread: None, output: Path) -> None:
    lines = error_lines(run("--num-machines", 2, "MODEL.DEVICE", "cpu", "SOLVER.MAX_EPOCH"))
    assert "options come in pairs, `KEY value`: 'SOLVER.MAX_EPOCH' stands alone" in lines
    assert any(line.startswith("--dist-url auto") for line in lines)


# Arguments


def test_an_argument_behind_the_options_is_told_its_place(unread: None, fastreid_root: Path) -> None:
    """And the options in front of it count."""
    expected = "--resume: goes in front of the `KEY value` pairs"
    assert error_lines(run("MODEL.DEVICE", "cpu", "DATASETS.TESTS", '("Market1501",)', "--resume"))[0] == expected
    assert not [line for line in error_lines(run("MODEL.DEVICE", "cpu", "--resume")) if "MODEL.DEVICE" in line]


@pytest.mark.parametrize("arguments", [["--num-gpus", "two"], ["--resume=1"]])
def test_misused_arguments(arguments: list[str]) -> None:
    assert "`drsl fastreid --help` shows the arguments" in error_line(run(*arguments))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--num-gpus", 2), "--num-gpus 2: MODEL.DEVICE is cpu; --num-processes 2"),
        (("--num-gpus", -1), "--num-gpus -1: must be 0 or above"),
        (("--num-processes", 0), "--num-processes 0: must be 1 or above"),
        (("--num-machines", 0), "--num-machines 0: must be 1 or above"),
        (("--num-machines", 2), "--dist-url auto: finds a port for one machine; for several name one, tcp://HOST:PORT"),
        (("--machine-rank", 1), "--machine-rank 1: must be below --num-machines 1"),
        (("--machine-rank", -1), "--machine-rank -1: must be below --num-machines 1"),
        (
            ("--num-machines", 2, "--dist-url", "localhost:29500"),
            "--dist-url localhost:29500: ",
        ),
        (("--num-processes", 3), "SOLVER.IMS_PER_BATCH 8: no multiple of 3 processes of DATALOADER.NUM_INSTANCE 2"),
        (
            ("--num-machines", 4, "--num-processes", 2, "--dist-url", "tcp://127.0.0.1:1"),
            "SOLVER.IMS_PER_BATCH 8: no multiple of 8 processes of DATALOADER.NUM_INSTANCE 2",
        ),
    ],
)
def test_bad_numbers_of_processes(
    arguments: tuple[object, ...], expected: str, unread: None, output: Path, fastreid_options: Options
) -> None:
    assert error_line(run(*arguments, *fastreid_options(output))).startswith(expected)
    assert not output.parent.exists()


def test_fewer_images_in_a_test_batch_than_processes(unread: None, output: Path, fastreid_options: Options) -> None:
    options = fastreid_options(output, **{"TEST.IMS_PER_BATCH": 1})
    assert error_line(run("--num-processes", 2, *options)).startswith("TEST.IMS_PER_BATCH 1: ")


def test_processes_for_cuda_are_gpus(
    unread: None, output: Path, fastreid_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    message = error_line(run("--num-processes", 2, *fastreid_options(output, **{"MODEL.DEVICE": "cuda"})))
    assert message == "--num-processes 2: is for MODEL.DEVICE cpu; on CUDA --num-gpus 2"


# --config-file


def test_unknown_preset() -> None:
    message = error_line(run("--config-file", "fastreid/Market1501/bagtricks_R50_drs"))
    assert "no file and no preset called 'fastreid/Market1501/bagtricks_R50_drs'" in message
    assert "did you mean fastreid/Market1501/bagtricks_R50_drsl" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MODEL: Baseline\n", "unknown key MODEL"),
        ("", "expected keys like MODEL.DEVICE, got NoneType"),
        ("_BASE_: missing.yml\n", "missing.yml"),
        ("_BASE_: 7\n", "_BASE_"),
        ("_BASE_: mine.yml\n", "_BASE_"),
        ("_BASE_: list.yml\nSEED: 1\n", "list.yml"),
        ("_BASE_: flat.yml\nSOLVER:\n  OPT: SGD\n", "SOLVER"),
    ],
)
def test_bad_config_file(text: str, expected: str, unread: None, tmp_path: Path, fastreid_options: Options) -> None:
    (tmp_path / "list.yml").write_text("- MODEL\n", encoding="utf-8")
    (tmp_path / "flat.yml").write_text("SOLVER: 1\n", encoding="utf-8")
    file = tmp_path / "mine.yml"
    file.write_text(text, encoding="utf-8")
    message = error_line(run("--config-file", file, *fastreid_options(tmp_path / "run")))
    assert message.startswith(f"--config-file {file}: ")
    assert expected in message
    assert not (tmp_path / "run").exists()


# OUTPUT_DIR


def test_what_others_write_meanwhile_stays(
    fastreid_root: Path, tmp_path: Path, fastreid_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "logs"
    build = fastreid.engine.DefaultTrainer.build_train_loader

    def slowly(cls: Any, cfg: Any) -> Any:
        (output / "other").mkdir()
        (output / "other" / "model_best.pth").write_text("mine", encoding="utf-8")
        (output / "notes.txt").write_text("mine", encoding="utf-8")
        return build.__func__(cls, cfg)

    monkeypatch.setattr(fastreid.engine.DefaultTrainer, "build_train_loader", classmethod(slowly))
    error_line(run(*fastreid_options(output, **{"SOLVER.IMS_PER_BATCH": 32})))
    assert content(output) == {output / "notes.txt": b"mine", output / "other" / "model_best.pth": b"mine"}


# Data that do not go with the settings

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
    fastreid_root: Path,
    output: Path,
    tmp_path: Path,
    fastreid_options: Options,
) -> None:
    message = error_line(run(*fastreid_options(output, **changes)))
    assert [words for words in expected if words not in message] == []
    assert list(tmp_path.iterdir()) == []


# Checkpoints


def in_the_way(trained: Path) -> dict[str, object]:
    return {"MODEL.BACKBONE.DEPTH": "x0_5", "MODEL.BACKBONE.FEAT_DIM": 256}


def weights_alone(trained: Path) -> dict[str, object]:
    for path in trained.glob("*.pth"):
        torch.save(torch.load(path, weights_only=False)["model"], path)
    return {}


def weights_of_nothing(trained: Path) -> dict[str, object]:
    for path in trained.glob("*.pth"):
        states = torch.load(path, weights_only=False)
        torch.save({**states, "model": {"layer": torch.zeros(3)}}, path)
    return {}


@pytest.mark.parametrize("use", ["--resume", "--eval-only MODEL.WEIGHTS", "MODEL.WEIGHTS"])
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (in_the_way, ("another model", "has shape (16, 3, 7, 7) there and (32, 3, 7, 7) in the model")),
        (weights_alone, ("no `model` in it, so it is no checkpoint of FastReID",)),
        (weights_of_nothing, ("another model", "is missing")),
    ],
    ids=lambda value: getattr(value, "__name__", "-"),
)
def test_bad_checkpoints_leave_the_run_as_it_was(
    use: str,
    damage: Callable[[Path], dict[str, object]],
    expected: tuple[str, ...],
    trained: Path,
    fastreid_root: Path,
    fastreid_options: Options,
) -> None:
    settings = {"SOLVER.MAX_EPOCH": 2, **damage(trained)}
    if use != "--resume":
        settings["MODEL.WEIGHTS"] = trained / "model_final.pth"
    before = content(trained)
    switches = [word for word in use.split() if word.startswith("--")]
    message = error_line(run(*switches, *fastreid_options(trained, **settings)))
    assert message.startswith(f"{use} {trained / 'model_final.pth'}: ")
    assert [words for words in expected if words not in message] == []
    assert content(trained) == before


def test_resume_leaves_the_configuration_of_a_run_that_fastreid_made(
    trained: Path, fastreid_root: Path, fastreid_options: Options
) -> None:
    (trained / "metrics.jsonl").unlink()
    before = content(trained)
    error_line(run("--resume", *fastreid_options(trained, **{"SOLVER.MAX_EPOCH": 2, **in_the_way(trained)})))
    assert content(trained) == before


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(
            {"SOLVER.OPT": "AdamW"},
            "the state of another SOLVER.OPT than AdamW",
            marks=pytest.mark.skipif(
                not issubclass(torch.optim.AdamW, torch.optim.Adam), reason="this torch tells them apart by their class"
            ),
        ),
    ],
    ids=str,
)
def test_what_cannot_go_on(
    changes: dict[str, object], expected: str, trained: Path, fastreid_root: Path, fastreid_options: Options
) -> None:
    before = content(trained)
    message = error_line(run("--resume", *fastreid_options(trained, **{"SOLVER.MAX_EPOCH": 4, **changes})))
    assert message.startswith("--resume")
    assert expected in message
    assert content(trained) == before


@pytest.mark.parametrize("missing", ["optimizer", "epoch"])
def test_resume_from_weights_without_a_state(
    missing: str, trained: Path, fastreid_root: Path, fastreid_options: Options
) -> None:
    states = torch.load(trained / "model_final.pth", weights_only=False)
    del states[missing]
    torch.save(states, trained / "model_final.pth")
    message = error_line(run("--resume", *fastreid_options(trained, **{"SOLVER.MAX_EPOCH": 2})))
    assert f"no {missing} in it, so training cannot go on from it" in message


@pytest.mark.parametrize("there", [True, False], ids=["an empty folder", "no folder"])
def test_resume_without_a_checkpoint(there: bool, unread: None, output: Path, fastreid_options: Options) -> None:
    if there:
        output.mkdir(parents=True)
    message = error_line(run("--resume", *fastreid_options(output)))
    assert message.startswith(f"--resume: OUTPUT_DIR {output} has no checkpoint to go on from")
    assert list(output.parent.rglob("*")) == ([output] if there else [])


def test_resume_from_a_checkpoint_that_is_gone(unread: None, trained: Path, fastreid_options: Options) -> None:
    (trained / "model_final.pth").unlink()
    before = content(trained)
    message = error_line(run("--resume", *fastreid_options(trained, **{"SOLVER.MAX_EPOCH": 2})))
    assert message.startswith("--resume: ")
    assert "model_final.pth, which is not there" in message
    assert content(trained) == before


def test_an_evaluation_resumes_nothing(unread: None, trained: Path, fastreid_options: Options) -> None:
    options = fastreid_options(trained, **{"MODEL.WEIGHTS": trained / "model_final.pth"})
    assert error_line(run("--resume", "--eval-only", *options)).startswith("--resume --eval-only: ")


def test_an_evaluation_of_random_weights(unread: None, trained: Path, fastreid_options: Options) -> None:
    before = content(trained)
    message = error_line(run("--eval-only", *fastreid_options(trained)))
    assert message == "--eval-only: of random weights; name a checkpoint with MODEL.WEIGHTS"
    assert content(trained) == before


def test_an_evaluation_needs_no_settings_of_training(
    fastreid_root: Path, trained: Path, fastreid_options: Options
) -> None:
    training = {"SOLVER.IMS_PER_BATCH": 9, "DATALOADER.NUM_INSTANCE": 1, "DATASETS.NAMES": '("MSMT17",)'}
    options = fastreid_options(trained, **training, **{"MODEL.WEIGHTS": trained / "model_final.pth"})
    assert run("--eval-only", *options).exit_code == 0


# Pretrained weights


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of downloads, and nothing to be downloaded."""

    def download(url: str, output: str, **kwargs: Any) -> None:
        raise OSError("Failed to resolve the host")

    monkeypatch.setattr(gdown, "download", download)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch"


@pytest.mark.parametrize(
    ("model", "file", "source"),
    [
        ({}, "osnet_x0_25_imagenet.pth", "https://drive.google.com"),
        (
            {
                "MODEL.BACKBONE.NAME": "build_resnet_backbone",
                "MODEL.BACKBONE.DEPTH": "18x",
                "MODEL.BACKBONE.FEAT_DIM": 512,
            },
            "resnet18-5c106cde.pth",
            "https://download.pytorch.org",
        ),
    ],
)
def test_pretrained_weights_that_cannot_be_fetched(
    model: dict[str, object],
    file: str,
    source: str,
    no_network: Path,
    fastreid_root: Path,
    output: Path,
    fastreid_options: Options,
) -> None:
    message = error_line(run(*fastreid_options(output, **model, **{"MODEL.BACKBONE.PRETRAIN": True})))
    assert message.startswith("MODEL.BACKBONE.PRETRAIN True: the ImageNet weights of ")
    assert "cannot be fetched (Failed to resolve the host)" in message
    assert f"(from {source}" in message
    assert f"at {no_network / 'checkpoints' / file}, or set MODEL.BACKBONE.PRETRAIN False" in message
    assert not output.parent.exists()


def test_an_evaluation_fetches_nothing(
    no_network: Path, fastreid_root: Path, trained: Path, fastreid_options: Options
) -> None:
    options = {"MODEL.BACKBONE.PRETRAIN": True, "MODEL.WEIGHTS": trained / "model_final.pth"}
    assert run("--eval-only", *fastreid_options(trained, **options)).exit_code == 0


# In the middle of a run


def test_a_learning_rate_that_is_too_high(fastreid_root: Path, output: Path, fastreid_options: Options) -> None:
    options = {"SOLVER.BASE_LR": 1e30, "SOLVER.WARMUP_ITERS": 0}
    message = error_line(run(*fastreid_options(output, **options)))
    assert message.startswith("epoch 1, step 2: ")
    assert "loss_drsl" in message
    assert "a lower SOLVER.BASE_LR" in message
    assert "Traceback" not in (output / "log.txt").read_text(encoding="utf-8")


def test_a_bug_keeps_its_traceback(
    fastreid_root: Path, output: Path, fastreid_options: Options, at_step: Callable[..., None]
) -> None:
    def fail(images: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError("of a team's own code")

    at_step(2, fail)
    assert isinstance(run(*fastreid_options(output)).exception, ZeroDivisionError)
    assert "ZeroDivisionError: of a team's own code" in (output / "log.txt").read_text(encoding="utf-8")
