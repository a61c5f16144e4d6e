"""What bad input gets: one line that names the setting and what it got, exit code 2, nothing written over."""

from __future__ import annotations

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


# Settings

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
    ({"test.visrank": True}, ("test.visrank True", "set test.evaluate True")),
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


# --config-file


def test_unknown_preset() -> None:
    message = error_line(run("--config-file", "osnet_x1_0_drsl_256x128_market151"))
    assert "no file and no preset called 'osnet_x1_0_drsl_256x128_market151'" in message
    assert "did you mean torchreid/osnet_x1_0_drsl_256x128_market1501," in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
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


def weights_only(trained: Path) -> dict[str, object]:
    checkpoint = torch.load(trained / "model" / "model.pth.tar-1", weights_only=False)
    path = trained.parent / "weights.pth"
    torch.save(checkpoint["state_dict"], path)
    return {"model.resume": path}


def weights_of_nothing(trained: Path) -> dict[str, object]:
    path = trained.parent / "strange.pth"
    torch.save({"layer": torch.zeros(3)}, path)
    return {"model.load_weights": path}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (weights_only, ("no epoch and no optimizer in it", "model.load_weights starts from its weights")),
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


def test_downloads_are_torchreids_own_again(no_network: Path, demo_root: Path, small_options: Options) -> None:
    before = gdown.download, model_zoo.load_url, torch.load
    run(*small_options(demo_root, no_network, **{"model.pretrained": True}))
    assert (gdown.download, model_zoo.load_url, torch.load) == before


# In the middle of a run


def test_nan_in_the_weights(trained: Path, demo_root: Path, save_dir: Path, small_options: Options) -> None:
    checkpoint = torch.load(trained / "model" / "model.pth.tar-1", weights_only=False)
    checkpoint["state_dict"]["conv1.conv.weight"].fill_(torch.nan)
    poisoned = trained.parent / "poisoned.pth"
    torch.save(checkpoint, poisoned)
    message = error_line(run(*small_options(demo_root, save_dir, **{"model.load_weights": poisoned})))
    assert message.startswith("epoch 1, step 1: NaN or infinity in the embeddings (loss_drsl nan")
    assert not list(save_dir.rglob("*.pth.tar*"))


# The toolbox


@pytest.mark.parametrize(
    ("missing", "expected"), [("torchreid", "Torchreid is not installed"), ("cv2", "Torchreid needs cv2")]
)
def test_toolbox_not_installed(missing: str, expected: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from drsl_plugin.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "torchreid"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f'drsl: error: {expected}: pip install "drsl-plugin[torchreid]"\n'


def test_an_option_without_its_values_is_one_line() -> None:
    assert "`drsl torchreid --help` shows the arguments" in error_line(run("-s"))


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


def test_an_evaluation_of_random_weights(demo_root: Path, trained: Path, small_options: Options) -> None:
    before = content(trained)
    message = error_line(run(*small_options(demo_root, trained, **{"test.evaluate": True})))
    assert message == "test.evaluate True: of random weights; name a file with model.load_weights"
    assert content(trained) == before
