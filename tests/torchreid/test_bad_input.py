"""What bad input gets: one line that names the setting and what it got, exit code 2, nothing written over."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdown
import pytest
import torch
import torchreid
from torch.utils import model_zoo
from typer.testing import CliRunner, Result

from drsl_plugin.cli import app
from drsl_plugin.torchreid.host import registry
from drsl_plugin.torchreid.main import configure, parser

Options = Callable[..., list[str]]
LOSS_PARTS = ("loss_drsl", "ranking", "sorting", "ap", "above_all", "loss_x")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["torchreid", *map(str, arguments)])


def error_line(result: Result) -> str:
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    # torch 1.13 announces a download on the error stream.
    line, *others = (line for line in result.stderr.splitlines() if not line.startswith("Downloading: "))
    assert not others
    assert "Traceback" not in result.output
    assert line.startswith("drsl: error: ")
    return line.removeprefix("drsl: error: ")


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def save_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory, demo_root: Path, small_options: Options) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    assert run(*small_options(demo_root, folder)).exit_code == 0
    return folder


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """The folder of a run of one epoch, a copy for the test."""
    return shutil.copytree(trained_once, tmp_path / "trained")


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``at_step(epoch, step, action)`` gives what ``action`` makes of that step's images to the engine."""
    original = torchreid.engine.Engine.parse_data_for_train

    def install(epoch: int, step: int, action: Callable[[torch.Tensor], torch.Tensor]) -> None:
        def parse(engine: Any, data: Any) -> Any:
            images, pids = original(engine, data)
            here = (engine.epoch + 1, engine.batch_idx + 1) == (epoch, step)
            return (action(images) if here else images), pids

        monkeypatch.setattr(torchreid.engine.Engine, "parse_data_for_train", parse)

    return install


# Settings

BAD_SETTINGS: list[tuple[dict[str, object], tuple[str, ...]]] = [
    ({"loss.drsl.temprature": 1}, ("unknown key loss.drsl.temprature", "did you mean loss.drsl.temperature")),
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
    ({"train.lr": "fast"}, ("train.lr takes a value of type float, like 0.0003", "got 'fast'")),
    ({"train.max_epoch": 1.5}, ("train.max_epoch takes a value of type int, like 60", "got '1.5'")),
    ({"use_gpu": "perhaps"}, ("use_gpu takes a value of type bool, like", "got 'perhaps'")),
    ({"test.ranks": "first"}, ("test.ranks takes a value of type list, like [1, 5, 10, 20]", "got 'first'")),
    ({"test.ranks": "[]"}, ("test.ranks takes a value of type list", "got '[]'")),
    ({"loss.drsl.temperature": 0}, ("loss.drsl.temperature must be a finite number above 0, got 0.0",)),
    ({"loss.drsl.temperature": -0.1}, ("loss.drsl.temperature must be a finite number above 0, got -0.1",)),
    ({"loss.drsl.memory_size": 7}, ("loss.drsl.memory_size 7: smaller than a batch, which has 8 images", "8 or more")),
    ({"loss.drsl.memory_size": 0.5}, ("loss.drsl.memory_size takes a value of type int, like 0", "got '0.5'")),
    (
        {"loss.drsl.temperature_schedule": "step"},
        ("loss.drsl.temperature_schedule must be one of 'constant', 'linear'",),
    ),
    (
        {"loss.drsl.temperature_schedule": "linear"},
        ("loss.drsl.temperature_end must be a finite number above 0 where the schedule is linear, got 0.0",),
    ),
    ({"loss.drsl.distance": "cos"}, ("loss.drsl.distance must be one of 'cosine', 'euclidean', got 'cos'",)),
    ({"loss.drsl.weight": -1}, ("loss.drsl.weight must be a finite number, 0 or above, got -1.0",)),
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
    ({"train.batch_size": 9}, ("train.batch_size 9: no multiple of sampler.num_instances 2", "8 or 10 would do")),
    ({"train.batch_size": 1}, ("train.batch_size 1: no multiple of sampler.num_instances 2", "2 or 4 would do")),
    ({"train.batch_size": 0}, ("train.batch_size 0: must be 1 or above",)),
    (
        {"train.batch_size": 32},
        ("train.batch_size 32: needs 16 identities", "sampler.num_instances 2", "market1501 has 8", "at most 16"),
    ),
    (
        {"train.batch_size": 64, "sampler.train_sampler": "SequentialSampler", "loss.name": "softmax"},
        ("train.batch_size 64: no batch can be filled from 32 training images",),
    ),
    ({"sampler.num_instances": 0}, ("sampler.num_instances 0: must be 1 or above",)),
    ({"sampler.num_instances": 1}, ("sampler.num_instances 1: no image has a positive", "use 4, or any number from 2")),
    (
        {"sampler.train_sampler": "RandomSampler"},
        ("sampler.train_sampler RandomSampler: puts positives in a batch only by chance", "use RandomIdentitySampler"),
    ),
    ({"data.height": 0}, ("data.height 0: must be 1 or above",)),
    ({"train.lr": -1}, ("train.lr -1.0: must be 0 or above",)),
    ({"train.max_epoch": 0}, ("train.max_epoch 0: must be 1 or above",)),
    ({"train.print_freq": 0}, ("train.print_freq 0: must be 1 or above",)),
    ({"test.ranks": "[1, 0]"}, ("test.ranks [1, 0]: must be 1 or above",)),
    ({"test.visrank": True}, ("test.visrank True", "set test.evaluate True")),
    ({"model.load_weights": "missing.pth"}, ("model.load_weights missing.pth: no such file",)),
    ({"model.resume": "missing.pth"}, ("model.resume missing.pth: no such file",)),
]


@pytest.mark.parametrize(("changes", "expected"), BAD_SETTINGS, ids=lambda value: "-".join(map(str, value)))
def test_bad_settings(
    changes: dict[str, object], expected: tuple[str, ...], demo_root: Path, save_dir: Path, small_options: Options
) -> None:
    message = error_line(run(*small_options(demo_root, save_dir, **changes)))
    assert [words for words in expected if words not in message] == []
    assert not save_dir.exists()


def test_use_gpu_without_one(
    demo_root: Path, save_dir: Path, small_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = error_line(run(*small_options(demo_root, save_dir, use_gpu=True)))
    assert message.startswith("use_gpu True: torch finds no CUDA device here")


@pytest.mark.parametrize(
    ("words", "alone"),
    [
        (["train.lr"], "train.lr"),
        (["train.lr", "1.0", "nonsense", "train.gamma", "0.1"], "nonsense"),
        (["train.lr", "train.gamma", "0.1"], "train.lr"),
    ],
)
def test_options_that_are_no_pairs(words: list[str], alone: str, demo_root: Path) -> None:
    assert error_line(run("--root", demo_root, *words)) == f"options come in pairs, `key value`: {alone!r} stands alone"


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_save_dir_is_a_file(below: str, demo_root: Path, tmp_path: Path, small_options: Options) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine", encoding="utf-8")
    message = error_line(run(*small_options(demo_root, file / below)))
    assert message.startswith(f"data.save_dir {file / below}: {file} is a file")
    assert file.read_text(encoding="utf-8") == "mine"


# --config-file


def test_unknown_preset() -> None:
    message = error_line(run("--config-file", "osnet_x1_0_drsl_256x128_market151"))
    assert "no file and no preset called 'osnet_x1_0_drsl_256x128_market151'" in message
    assert "did you mean torchreid/osnet_x1_0_drsl_256x128_market1501," in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model:\n  nam: osnet_x1_0\n", "unknown key model.nam; did you mean model.name"),
        ("train:\n  lr: [1]\n", "train.lr takes a value of type float, like 0.0003; got [1]"),
        ("model:\n\tname: x\n", "cannot start any token"),
        ("", "expected keys like model.name, got NoneType"),
    ],
)
def test_bad_config_file(text: str, expected: str, tmp_path: Path, demo_root: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    message = error_line(run("--config-file", file, "--root", demo_root))
    assert message.startswith(f"--config-file {file}: ")
    assert expected in message


# Options that take every word behind them


@pytest.mark.parametrize(
    ("option", "value"), [("--transforms", ["random_crop", "random_flip"]), ("-s", ["msmt17"]), ("-t", ["cuhk03"])]
)
def test_swallowed_options(
    option: str, value: list[str], tmp_path: Path, small_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = error_line(run(option, *value, "model.name", "osnet_x0_5", "train.lr", "0.1"))
    assert "takes every word behind it, model.name too" in message
    assert list(tmp_path.iterdir()) == []

    shown = re.search(r"as in `(.+)`", message)
    assert shown
    long_option, *right_order = shlex.split(shown[1])
    cfg, _, _ = configure(parser().parse_args([long_option, *right_order]))
    assert cfg.data[long_option.removeprefix("--")] == value
    assert (cfg.model.name, cfg.train.lr) == ("osnet_x0_5", 0.1)


def test_swallowed_options_behind_unknown_transforms() -> None:
    message = error_line(run("--transforms", "a", "b", "model.name", "x"))
    assert message.startswith("--transforms a b model.name: takes every word behind it")


# Data


@pytest.mark.parametrize(
    ("name", "folder", "how"),
    [
        ("market1501", "market1501", "unpack Market-1501-v15.09.15.zip"),
        ("msmt17", "msmt17", "MSMT17_V1"),
        ("dukemtmcreid", "dukemtmc-reid", "withdrawn"),
        ("viper", "viper", "Torchreid's documentation"),
    ],
)
def test_data_set_not_on_disk(
    name: str, folder: str, how: str, tmp_path: Path, save_dir: Path, small_options: Options
) -> None:
    message = error_line(
        run(*small_options(tmp_path / "data", save_dir, **{"data.sources": name, "data.targets": name}))
    )
    assert message.startswith(f"--sources {name}: not on disk, no folder {tmp_path / 'data' / folder} ")
    assert how in message
    assert list(tmp_path.iterdir()) == []  # Torchreid would make the folder and try a download


def test_data_set_without_its_files(tmp_path: Path, save_dir: Path, small_options: Options) -> None:
    (tmp_path / "market1501").mkdir()
    message = error_line(run(*small_options(tmp_path, save_dir)))
    assert f'"{tmp_path}/market1501/bounding_box_train" is not found (--root is {tmp_path})' in message


# Files of weights


def weights_of_another_shape(trained: Path) -> dict[str, object]:
    return {"model.name": "osnet_x0_5", "model.load_weights": trained / "model" / "model.pth.tar-1"}


def other_model(trained: Path) -> dict[str, object]:
    return {"model.name": "osnet_x0_5", "model.resume": trained / "model" / "model.pth.tar-1"}


def already_trained(trained: Path) -> dict[str, object]:
    return {"model.resume": trained / "model" / "model.pth.tar-1"}


def weights_only(trained: Path) -> dict[str, object]:
    checkpoint = torch.load(trained / "model" / "model.pth.tar-1", weights_only=False)
    path = trained.parent / "weights.pth"
    torch.save(checkpoint["state_dict"], path)
    return {"model.resume": path}


def no_checkpoint(trained: Path) -> dict[str, object]:
    path = trained.parent / "notes.txt"
    path.write_text("not a checkpoint", encoding="utf-8")
    return {"model.resume": path}


def weights_of_nothing(trained: Path) -> dict[str, object]:
    path = trained.parent / "strange.pth"
    torch.save({"layer": torch.zeros(3)}, path)
    return {"model.load_weights": path}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (other_model, ("has shape (16, 3, 7, 7) there and (32, 3, 7, 7) in the model", "conv1.conv.weight")),
        (already_trained, ("has 1 epochs behind it and train.max_epoch is 1", "a larger one trains on")),
        (weights_only, ("no epoch and no optimizer in it", "model.load_weights starts from its weights")),
        (no_checkpoint, ("torch cannot read it",)),
        (weights_of_nothing, ("weights of another model, 0 of the ",)),
        (weights_of_another_shape, ("weights of another model", "tensors of OSNet are in it with their shape")),
    ],
)
def test_bad_weights_leave_the_run_as_it_was(
    changes: Callable[[Path], dict[str, object]],
    expected: tuple[str, ...],
    trained: Path,
    demo_root: Path,
    small_options: Options,
) -> None:
    before = content(trained)
    settings = changes(trained)
    message = error_line(run(*small_options(demo_root, trained, **settings)))
    key = next(name for name in settings if name != "model.name")
    assert message.startswith(f"{key} {settings[key]}: ")
    assert [words for words in expected if words not in message] == []
    assert content(trained) == before


# Pretrained weights


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Torch's home in a folder of the test, and no way to fetch anything into it."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("no route to host\n\n\tsee the manual")

    home = tmp_path / "torch-home"
    monkeypatch.setenv("TORCH_HOME", str(home))
    monkeypatch.setattr(gdown, "download", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return home


PRETRAINED = [
    ("osnet_x0_25", "conv1.conv.weight", "checkpoints/osnet_x0_25_imagenet.pth"),
    ("osnet_ain_x0_25", "conv1.conv.weight", "checkpoints/osnet_ain_x0_25_imagenet.pth"),
    ("resnet18", "conv1.weight", "hub/checkpoints/resnet18-5c106cde.pth"),
    ("shufflenet_v2_x0_5", "conv1.0.weight", "hub/checkpoints/shufflenetv2_x0.5-f707e7126e.pth"),
]


@pytest.mark.parametrize(("model", "layer", "place"), PRETRAINED)
def test_pretrained_weights_that_cannot_be_fetched(
    model: str,
    layer: str,
    place: str,
    no_network: Path,
    demo_root: Path,
    save_dir: Path,
    small_options: Options,
) -> None:
    still = {"train.lr": 0, "train.weight_decay": 0}
    options = small_options(demo_root, save_dir, **{"model.name": model, "model.pretrained": True, **still})
    message = error_line(run(*options))
    assert message.startswith(f"model.pretrained True: the ImageNet weights of {model} cannot be fetched (no route to")
    assert message.endswith(f" at {no_network / place}, or set model.pretrained False")
    assert "put the file (from http" in message
    assert not save_dir.exists()

    weights = torchreid.models.build_model(model, num_classes=1000, pretrained=False).state_dict()
    (no_network / place).parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights, no_network / place)
    assert run(*options).exit_code == 0
    trained = torch.load(save_dir / "model" / "model.pth.tar-1", weights_only=False)["state_dict"]
    assert torch.equal(trained[layer], weights[layer])


def test_pretrained_weights_that_are_no_weights(
    no_network: Path, demo_root: Path, save_dir: Path, small_options: Options
) -> None:
    place = no_network / "checkpoints" / "osnet_x0_25_imagenet.pth"
    place.parent.mkdir(parents=True)
    place.write_text("<html>quota exceeded</html>", encoding="utf-8")
    message = error_line(run(*small_options(demo_root, save_dir, **{"model.pretrained": True})))
    assert message.startswith("model.pretrained True: the ImageNet weights of osnet_x0_25 cannot be loaded")
    assert f"delete {place}" in message
    assert not save_dir.exists()


def test_downloads_are_torchreids_own_again(no_network: Path, demo_root: Path, small_options: Options) -> None:
    before = gdown.download, model_zoo.load_url, torch.load
    run(*small_options(demo_root, no_network, **{"model.pretrained": True}))
    assert (gdown.download, model_zoo.load_url, torch.load) == before


# In the middle of a run


@pytest.mark.parametrize(
    ("loss", "parts"), [("drsl", LOSS_PARTS), ("triplet", ("loss_t", "loss_x")), ("softmax", ("loss",))]
)
def test_nan_names_the_step_and_the_parts(
    loss: str,
    parts: tuple[str, ...],
    demo_root: Path,
    save_dir: Path,
    small_options: Options,
    at_step: Callable[..., None],
) -> None:
    last = save_dir / "model" / "model.pth.tar-1"
    saved = []

    def poison(images: torch.Tensor) -> torch.Tensor:
        saved.append(last.read_bytes())
        return images * torch.nan

    at_step(2, 2, poison)
    options = {"loss.name": loss, "loss.triplet.weight_x": 1, "train.max_epoch": 2}
    message = error_line(run(*small_options(demo_root, save_dir, **options)))
    assert message.startswith("epoch 2, step 2: NaN or infinity in the embeddings (")
    assert [part for part in parts if f"{part} " not in message] == []
    assert "nan" in message
    assert [last.read_bytes()] == saved
    assert [path.name for path in last.parent.iterdir()] == ["model.pth.tar-1"]
    rows = [json.loads(line) for line in (save_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["epoch"] for row in rows].count(2) == 1


def test_nan_in_the_weights(trained: Path, demo_root: Path, save_dir: Path, small_options: Options) -> None:
    checkpoint = torch.load(trained / "model" / "model.pth.tar-1", weights_only=False)
    checkpoint["state_dict"]["conv1.conv.weight"].fill_(torch.nan)
    poisoned = trained.parent / "poisoned.pth"
    torch.save(checkpoint, poisoned)
    message = error_line(run(*small_options(demo_root, save_dir, **{"model.load_weights": poisoned})))
    assert message.startswith("epoch 1, step 1: NaN or infinity in the embeddings (loss_drsl nan")
    assert not list(save_dir.rglob("*.pth.tar*"))


def interrupt(images: torch.Tensor) -> torch.Tensor:
    raise KeyboardInterrupt


def test_interrupted_run_goes_on_from_the_checkpoint_it_names(
    demo_root: Path, save_dir: Path, small_options: Options, at_step: Callable[..., None]
) -> None:
    last = save_dir / "model" / "model.pth.tar-1"
    options = small_options(demo_root, save_dir, **{"train.max_epoch": 2})
    at_step(2, 2, interrupt)
    result = run(*options)
    assert result.exit_code == 130
    assert result.stderr == f"drsl: interrupted; to go on: model.resume {last}\n"

    at_step(1, 1, interrupt)  # which the resumed run must not come to again
    assert run(*options, "model.resume", last).exit_code == 0
    assert torch.load(last.with_name("model.pth.tar-2"), weights_only=False)["epoch"] == 2


def test_interrupted_before_the_first_checkpoint(
    demo_root: Path, save_dir: Path, small_options: Options, at_step: Callable[..., None]
) -> None:
    at_step(1, 2, interrupt)
    result = run(*small_options(demo_root, save_dir))
    assert (result.exit_code, result.stderr) == (130, "drsl: interrupted; no checkpoint yet\n")


@pytest.mark.parametrize("reason", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_checkpoint_that_cannot_be_finished(
    reason: BaseException,
    demo_root: Path,
    save_dir: Path,
    small_options: Options,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save = torch.save

    def save_half(state: dict[str, Any], file: Path) -> None:
        save(state, file)
        if state["epoch"] == 2:
            os.truncate(file, file.stat().st_size // 2)
            raise reason

    monkeypatch.setattr(torch, "save", save_half)
    assert run(*small_options(demo_root, save_dir, **{"train.max_epoch": 2})).exit_code != 0
    assert [path.name for path in (save_dir / "model").iterdir()] == ["model.pth.tar-1"]
    assert torch.load(save_dir / "model" / "model.pth.tar-1", weights_only=False)["epoch"] == 1


# The toolbox


@pytest.mark.parametrize(
    ("missing", "expected"), [("torchreid", "Torchreid is not installed"), ("cv2", "Torchreid needs cv2")]
)
def test_toolbox_not_installed(missing: str, expected: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from drsl_plugin.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "torchreid"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f'drsl: error: {expected}: pip install "drsl-plugin[torchreid]"\n'


@pytest.mark.parametrize("arguments", [["--nope"], ["--config-file"], ["-s"]])
def test_misused_options_are_one_line(arguments: list[str]) -> None:
    assert "`drsl torchreid --help` shows the arguments" in error_line(run(*arguments))


def test_split_that_a_data_set_has_not(demo_root: Path, save_dir: Path, small_options: Options) -> None:
    class Split(torchreid.data.ImageDataset):
        def __init__(self, split_id: int = 0, **kwargs: Any) -> None:
            raise ValueError(f"split_id exceeds range, received {split_id}, but expected between 0 and 1")

    torchreid.data.register_image_dataset("split", Split)
    try:
        options = {"data.sources": ["split"], "data.targets": ["split"], "data.split_id": 7}
        assert "received 7" in error_line(run(*small_options(demo_root, save_dir, **options)))
    finally:
        registry(torchreid.data.datasets, "__image_datasets").pop("split")
    assert not save_dir.exists()


def test_sampler_that_torchreid_refuses_to_build(demo_root: Path, save_dir: Path, small_options: Options) -> None:
    options = {"loss.name": "softmax", "sampler.train_sampler": "RandomDomainSampler", "sampler.num_cams": 3}
    assert "sampler.train_sampler RandomDomainSampler" in error_line(
        run(*small_options(demo_root, save_dir, **options))
    )


def test_interrupted_before_its_own_first_checkpoint_names_the_resumed_one(
    trained: Path, demo_root: Path, small_options: Options, at_step: Callable[..., None]
) -> None:
    def interrupt(images: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    at_step(2, 1, interrupt)
    checkpoint = trained / "model" / "model.pth.tar-1"
    options = {"train.max_epoch": 2, "model.resume": checkpoint}
    result = run(*small_options(demo_root, trained, **options))
    assert result.exit_code == 130
    assert result.stderr == f"drsl: interrupted; to go on: model.resume {checkpoint}\n"


def test_an_evaluation_of_random_weights(demo_root: Path, trained: Path, small_options: Options) -> None:
    before = content(trained)
    message = error_line(run(*small_options(demo_root, trained, **{"test.evaluate": True})))
    assert message == "test.evaluate True: of random weights; name a file with model.load_weights"
    assert content(trained) == before
