from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from drsl_plugin.errors import DRSLError
from drsl_plugin.losses import DRSLoss
from drsl_plugin.presets import copy_preset, finding, preset_names, preset_path, preset_text, resolve_config

REPOSITORY = Path(__file__).resolve().parent.parent
MODELS = ("osnet_x1_0", "osnet_x0_25", "osnet_ain_x1_0", "resnet50")
DATASETS = ("market1501", "msmt17", "cuhk03")
LOSSES = ("drsl", "softmax", "triplet")


def preset_name(model: str, loss: str, dataset: str) -> str:
    return f"torchreid/{model}_{loss}_256x128_{dataset}"


ALL = [preset_name(*parts) for parts in itertools.product(MODELS, LOSSES, DATASETS)]


def load(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(preset_path(name).read_text(encoding="utf-8"))
    return config


@pytest.fixture
def both_toolboxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configs/ with presets of both toolboxes, and with files that are none."""
    root = tmp_path / "configs"
    for file in (
        "torchreid/osnet.yaml",
        "torchreid/shared.yaml",
        "torchreid/notes.txt",
        "fastreid/shared.yml",
        "fastreid/Market1501/agw_R50.yml",
        "fastreid/Base-DRSL.yml",
        "fastreid/Market1501/_defaults.yml",
        "fastreid/_parts/optimiser.yml",
    ):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("SEED: 1\n", encoding="utf-8")
    monkeypatch.setattr(finding, "_configs_folder", lambda: root)
    return root


# The presets themselves


def test_every_model_has_every_loss_on_every_dataset() -> None:
    assert preset_names("torchreid") == sorted(ALL)


@pytest.mark.parametrize(("model", "dataset"), itertools.product(MODELS, DATASETS))
def test_twins_differ_in_the_loss_and_where_they_save(model: str, dataset: str) -> None:
    rest = []
    for loss in LOSSES:
        config = load(preset_name(model, loss, dataset))
        assert config["loss"].pop("name") == loss
        assert config["data"].pop("save_dir") == f"log/{model}_{loss}_256x128_{dataset}"
        if loss != "softmax":
            assert config["loss"].pop(loss)["weight_x"] == 1.0
        rest.append(config)
    assert rest[0] == rest[1] == rest[2]


@pytest.mark.parametrize("name", ALL)
def test_a_batch_is_made_of_whole_identities(name: str) -> None:
    config = load(name)
    assert config["sampler"]["train_sampler"] == "RandomIdentitySampler"
    assert config["sampler"]["num_instances"] > 1
    assert config["train"]["batch_size"] % config["sampler"]["num_instances"] == 0


@pytest.mark.parametrize("name", ALL)
def test_a_preset_is_what_its_name_says(name: str) -> None:
    config = load(name)
    dataset = name.rpartition("_")[2]
    assert name.startswith(f"torchreid/{config['model']['name']}_{config['loss']['name']}_")
    assert f"_{config['data']['height']}x{config['data']['width']}_" in name
    assert config["data"]["sources"] == config["data"]["targets"] == [dataset]


@pytest.mark.parametrize("name", ALL)
def test_a_preset_merges_into_the_default_config(name: str) -> None:
    # yacs refuses a key that the defaults lack and a value of another type.
    pytest.importorskip("torchreid", exc_type=ImportError)
    from drsl_plugin.torchreid.config import get_default_config

    defaults = get_default_config()
    defaults.merge_from_file(str(preset_path(name)))
    for node, settings in load(name).items():
        for key, value in settings.items():
            if not isinstance(value, dict):
                assert defaults[node][key] == value


@pytest.mark.parametrize("name", [name for name in ALL if "_drsl_" in name])
def test_the_loss_takes_its_settings(name: str) -> None:
    settings = load(name)["loss"]["drsl"]
    weights = {key: settings.pop(key) for key in ("weight", "weight_x")}
    assert weights == {"weight": 1.0, "weight_x": 1.0}
    criterion = DRSLoss(**settings)
    assert (criterion.gradient, criterion.center, criterion.lacks_memory) == ("error", True, True)


@pytest.mark.parametrize("model", MODELS)
def test_torchreid_builds_what_a_recipe_names(model: str) -> None:
    torchreid = pytest.importorskip("torchreid", exc_type=ImportError)
    train = load(preset_name(model, "triplet", "market1501"))["train"]
    network = torchreid.models.build_model(name=model, num_classes=2, loss="triplet", pretrained=False)
    optimizer = torchreid.optim.build_optimizer(network, optim=train["optim"], lr=train["lr"])
    torchreid.optim.build_lr_scheduler(
        optimizer,
        lr_scheduler=train["lr_scheduler"],
        stepsize=train.get("stepsize", 1),
        max_epoch=train["max_epoch"],
    )
    for layer in train["open_layers"]:
        assert hasattr(network, layer)


@pytest.mark.parametrize("name", ALL)
def test_torchreid_knows_every_transform(name: str) -> None:
    # Torchreid passes over a transform that it does not know: count what it builds.
    torchreid = pytest.importorskip("torchreid", exc_type=ImportError)
    build = torchreid.data.transforms.build_transforms
    wanted = load(name)["data"]["transforms"]
    plain, _ = build(256, 128, transforms=[])
    augmented, _ = build(256, 128, transforms=wanted)
    assert len(augmented.transforms) == len(plain.transforms) + len(wanted)


# Finding them


def test_bases_and_other_files_are_no_presets(both_toolboxes: Path) -> None:
    assert preset_names("torchreid") == ["torchreid/osnet", "torchreid/shared"]
    assert preset_names("fastreid") == ["fastreid/Market1501/agw_R50", "fastreid/shared"]
    assert preset_names() == [*preset_names("fastreid"), *preset_names("torchreid")]


def test_an_unknown_toolbox_is_refused() -> None:
    with pytest.raises(DRSLError, match="toolbox: 'torchred' is none of fastreid, torchreid"):
        preset_names("torchred")


@pytest.mark.parametrize(
    "name",
    [
        "fastreid/Market1501/agw_R50",
        "Market1501/agw_R50",
        "Market1501/agw_R50.yml",
        "configs/fastreid/Market1501/agw_R50.yml",
        "fastreid\\Market1501\\agw_R50",
    ],
)
def test_a_name_may_be_written_in_several_ways(both_toolboxes: Path, name: str) -> None:
    assert preset_path(name) == both_toolboxes / "fastreid/Market1501/agw_R50.yml"


def test_a_name_without_its_toolbox_may_be_ambiguous(both_toolboxes: Path) -> None:
    with pytest.raises(DRSLError, match="'shared' is ambiguous: fastreid/shared or torchreid/shared"):
        preset_path("shared")


@pytest.mark.parametrize(
    ("wrong", "offered"),
    [
        ("osnet_x1_0_drsl_market1501", "torchreid/osnet_x1_0_drsl_256x128_market1501"),
        ("torchreid/resnet_drsl_256x128_msmt17.yaml", "torchreid/resnet50_drsl_256x128_msmt17"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(wrong: str, offered: str) -> None:
    with pytest.raises(DRSLError) as caught:
        preset_path(wrong)
    assert str(caught.value).startswith(f"no preset called {wrong!r}; did you mean {offered}")


# What --config-file takes


def test_a_file_wins_over_a_preset(both_toolboxes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_config("osnet", "torchreid") == both_toolboxes / "torchreid/osnet.yaml"
    Path("osnet").write_text("", encoding="utf-8")
    assert resolve_config("osnet", "torchreid") == Path("osnet")


@pytest.mark.parametrize(
    ("toolbox", "file"), [("torchreid", "torchreid/shared.yaml"), ("fastreid", "fastreid/shared.yml")]
)
def test_the_toolbox_settles_an_ambiguous_name(both_toolboxes: Path, toolbox: str, file: str) -> None:
    assert resolve_config("shared", toolbox) == both_toolboxes / file


def test_a_preset_of_the_other_toolbox_names_its_command(both_toolboxes: Path) -> None:
    with pytest.raises(DRSLError, match="--config-file: torchreid/osnet is a preset for `drsl torchreid`"):
        resolve_config("osnet", "fastreid")


def test_neither_file_nor_preset_offers_near_names_of_the_toolbox(both_toolboxes: Path) -> None:
    with pytest.raises(DRSLError) as caught:
        resolve_config("torchreid/share", "torchreid")
    assert str(caught.value) == (
        "--config-file: no file and no preset called 'torchreid/share'"
        "; did you mean torchreid/shared or torchreid/osnet?"
    )


def test_a_folder_is_no_config_file(both_toolboxes: Path) -> None:
    with pytest.raises(DRSLError, match="no file and no preset"):
        resolve_config(str(both_toolboxes), "torchreid")


# Writing them out whole


@pytest.fixture
def leaf(both_toolboxes: Path) -> Path:
    """A preset on a base in another folder, which builds on one beside it."""
    folder = both_toolboxes / "fastreid"
    (folder / "Base-below.yml").write_text(
        """\
# Below: a paper.

MODEL:  # nets
  HEADS:
    SCALE: 64  # of the paper
    LOSS: ("A", "B",)  # both
  NAME: net # 1
INPUT:
  SIZE: [ 384,128 ]
""",
        encoding="utf-8",
    )
    (folder / "Base-DRSL.yml").write_text(
        """\
# Base: another paper.
_BASE_: Base-below.yml
MODEL:
  # ours
  HEADS: {SCALE: 32, NECK: after}  # flow
LR: 0.0000007 # "small"
""",
        encoding="utf-8",
    )
    leaf = folder / "Market1501" / "agw_R50.yml"
    leaf.write_text(
        """\
# Leaf.
_BASE_: "../Base-DRSL.yml"

MODEL:
  NAME: "other # net"
  NEW:  # node
    KEY: off
OUTPUT_DIR: logs
""",
        encoding="utf-8",
    )
    return leaf


def test_a_preset_on_bases_is_written_out_whole(leaf: Path) -> None:
    assert preset_text("fastreid/Market1501/agw_R50") == (
        """\
# fastreid/Market1501/agw_R50, with all that it builds on in this one file.
#
# agw_R50.yml:
# Leaf.
#
# Base-DRSL.yml:
# Base: another paper.
# ours
#
# Base-below.yml:
# Below: a paper.

MODEL:  # nets
  HEADS:  # flow
    SCALE: 32
    LOSS: ("A", "B",)  # both
    NECK: after
  NAME: "other # net"
  NEW:  # node
    KEY: off

INPUT:
  SIZE: [384, 128]

LR: 0.0000007  # "small"

OUTPUT_DIR: logs
"""
    )


def test_line_ends_make_no_difference_to_what_is_merged(leaf: Path) -> None:
    expected = preset_text("Market1501/agw_R50")
    for path in (leaf, *leaf.parent.parent.glob("Base-*.yml")):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert preset_text("Market1501/agw_R50") == expected


@pytest.mark.parametrize("content", [b"SEED: 1  # one\r\n\r\n", "# Größe\n[1, 2]".encode(), b"# nothing\n", b""])
def test_a_preset_without_a_base_stays_as_it_is(both_toolboxes: Path, tmp_path: Path, content: bytes) -> None:
    (both_toolboxes / "torchreid" / "osnet.yaml").write_bytes(content)
    assert preset_text("osnet").encode() == content
    assert copy_preset("osnet", tmp_path).read_bytes() == content


@pytest.mark.parametrize("name", ALL)
def test_torchreids_presets_stay_as_they_are(name: str) -> None:
    assert preset_text(name).encode() == preset_path(name).read_bytes()


def test_the_text_of_an_unknown_preset() -> None:
    with pytest.raises(DRSLError, match="no preset called 'resnet51'"):
        preset_text("resnet51")


# Copying them


def test_a_copy_is_whole(leaf: Path, tmp_path: Path) -> None:
    copy = copy_preset("Market1501/agw_R50", tmp_path / "new")
    assert copy == tmp_path / "new" / "agw_R50.yml"
    assert copy.read_bytes().decode() == preset_text("Market1501/agw_R50")


@pytest.mark.parametrize(
    ("destination", "written"),
    [
        ("", "resnet50_drsl_256x128_cuhk03.yaml"),
        ("new/folder", "new/folder/resnet50_drsl_256x128_cuhk03.yaml"),
        ("new/mine.yml", "new/mine.yml"),
    ],
)
def test_copy_into_a_folder_or_to_a_file(tmp_path: Path, destination: str, written: str) -> None:
    copy = copy_preset("resnet50_drsl_256x128_cuhk03", tmp_path / destination)
    assert copy == tmp_path / written
    assert copy.read_bytes() == preset_path("torchreid/resnet50_drsl_256x128_cuhk03").read_bytes()


def test_copy_overwrites_nothing(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("mine", encoding="utf-8")
    with pytest.raises(DRSLError, match=r"mine\.yaml exists already and is not overwritten"):
        copy_preset("resnet50_drsl_256x128_cuhk03", mine)
    assert mine.read_text(encoding="utf-8") == "mine"


def test_copy_of_an_unknown_preset_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(DRSLError, match="no preset called 'resnet51'"):
        copy_preset("resnet51", tmp_path / "new" / "mine.yaml")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("destination", ["file", "file/mine.yaml", "file/new/mine.yaml"])
def test_copy_below_a_file_is_one_clear_error(tmp_path: Path, destination: str) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(DRSLError, match="file"):
        copy_preset("resnet50_drsl_256x128_cuhk03", tmp_path / destination)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


# An installed wheel


def test_a_wheel_brings_all_of_the_package_and_of_the_configurations(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="70.1")  # builds wheels on its own from here on
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.cfg", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    for name in ("drsl_plugin", "configs"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = source.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)

    show = """
import json
from drsl_plugin.presets import preset_names, preset_path, preset_text, table_path
table_path("demo")
print(json.dumps([[str(preset_path(name)), preset_text(name)] for name in preset_names()]))
"""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    run = subprocess.run(
        [sys.executable, "-c", show], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )

    shipped = {
        Path(path).relative_to(installed / "drsl_plugin" / "configs"): text for path, text in json.loads(run.stdout)
    }
    assert shipped == {
        preset_path(name).relative_to(REPOSITORY / "configs"): preset_text(name) for name in preset_names()
    }
    (metadata,) = installed.glob("*.dist-info/METADATA")
    description = metadata.read_text(encoding="utf-8")
    assert "# drsl-plugin" in description
    assert re.findall(r"\]\((?!https?:|#)", description) == []  # they lead nowhere where only the README is shown
    for name in ("docs/imbalance.png", "projects/own_dataset", "CHANGELOG.md"):
        assert f"`{name}`" in description
    for folder, place in (("drsl_plugin", installed), ("configs", installed / "drsl_plugin")):
        for file in (REPOSITORY / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert (place / file.relative_to(REPOSITORY)).read_bytes() == file.read_bytes()
