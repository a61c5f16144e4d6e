from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from drsl_plugin.errors import DRSLError, raise_all
from drsl_plugin.presets import preset_names, preset_path
from drsl_plugin.torchreid.config import (
    add_drsl_config,
    dump,
    get_default_config,
    settings,
)
from drsl_plugin.torchreid.main import configure, parser
from drsl_plugin.torchreid.merging import merge_options


def configured(*argv: str) -> tuple[Any, str | None]:
    cfg, preset, wrong = configure(parser().parse_args(argv))
    raise_all(wrong)
    return cfg, preset


def merged(*options: str) -> Any:
    cfg = get_default_config()
    raise_all(merge_options(cfg, options))
    return cfg


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("train.lr", "1", 1.0),
        ("train.lr", "3e-4", 0.0003),
        ("train.max_epoch", "60", 60),
        ("test.evaluate", "True", True),
        ("test.evaluate", "false", False),
        ("model.name", "osnet_x1_0", "osnet_x1_0"),
        ("data.save_dir", "2024", "2024"),
        ("train.stepsize", "30", [30]),
        ("train.stepsize", "[20, 40]", [20, 40]),
        ("train.stepsize", "(20, 40)", [20, 40]),
        ("data.norm_mean", "[0, 0, 1]", [0.0, 0.0, 1.0]),
        ("data.sources", "market1501", ["market1501"]),
        ("data.transforms", "['random_flip', 'random_erase']", ["random_flip", "random_erase"]),
        ("data.transforms", "[]", []),
    ],
)
def test_option_takes_the_type_of_its_key(key: str, text: str, value: object) -> None:
    found = settings(merged(key, text))[key]
    assert found == value
    assert type(found) is type(value)
    if isinstance(value, list):
        assert [type(each) for each in found] == [type(each) for each in value]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("train.max_epoch", "1.0"),
        ("train.max_epoch", "True"),
        ("train.lr", "True"),
        ("train.lr", "[0.1]"),
        ("test.evaluate", "1"),
        ("train.stepsize", "[20, 'x']"),
        ("train.stepsize", "[]"),
    ],
)
def test_option_of_another_type(key: str, text: str) -> None:
    before = settings(get_default_config())[key]
    with pytest.raises(DRSLError, match=rf"^{key} takes a value of type {type(before).__name__}, like .*; got .*"):
        merged(key, text)


def test_last_option_wins() -> None:
    assert merged("train.lr", "0.1", "train.lr", "0.2").train.lr == 0.2


def test_text_list_that_a_file_emptied_takes_text_again() -> None:
    assert merged("data.transforms", "[]", "data.transforms", "random_flip").data.transforms == ["random_flip"]


def test_file_then_arguments_then_options(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("train: {lr: 1, max_epoch: 5}\ndata: {root: a, sources: [cuhk03]}\n", encoding="utf-8")
    argv = ["--config-file", str(file), "--root", "b", "-s", "msmt17", "--transforms", "random_erase", "-t", "viper"]
    cfg, preset = configured(*argv, "--root", "c", "train.lr", "0.5", "data.targets", "grid")
    assert preset is None
    assert (cfg.train.lr, cfg.train.max_epoch, cfg.train.batch_size) == (0.5, 5, 32)
    assert (cfg.data.root, cfg.data.sources, cfg.data.targets) == ("c", ["msmt17"], ["grid"])
    assert cfg.data.transforms == ["random_erase"]


@pytest.mark.parametrize("cuda", [True, False])
def test_use_gpu_where_there_is_one(cuda: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert configured()[0].use_gpu is cuda
    assert configured("use_gpu", "False")[0].use_gpu is False


@pytest.mark.parametrize("name", preset_names("torchreid"))
def test_preset_by_name(name: str) -> None:
    cfg, preset = configured("--config-file", name, "train.max_epoch", "3")
    assert preset == name
    assert cfg.train.max_epoch == 3
    for key, value in settings(yaml.safe_load(preset_path(name).read_text(encoding="utf-8"))).items():
        assert key == "train.max_epoch" or settings(cfg)[key] == value


def test_copied_preset_is_no_preset(tmp_path: Path) -> None:
    name = "torchreid/osnet_x1_0_drsl_256x128_market1501"
    copy = tmp_path / "mine.yaml"
    copy.write_bytes(preset_path(name).read_bytes())
    cfg, preset = configured("--config-file", str(copy))
    assert preset is None
    assert cfg == configured("--config-file", name)[0]


def test_add_drsl_config_adds_one_node() -> None:
    cfg = get_default_config()
    node = cfg.loss.pop("drsl")
    stock = cfg.clone()
    add_drsl_config(cfg)
    assert cfg.loss.drsl == node
    assert dict(node) == {
        "weight": 1.0,
        "weight_x": 1.0,
        "distance": "cosine",
        "temperature": 0.05,
        "relaxation": "sigmoid",
        "sort": "angle",
        "sort_weight": 1.0,
        "gradient": "error",
        "terms": "error",
        "center": False,
        "memory_size": 0,
        "memory_share": 0.0,
        "memory_warmup": 0,
        "temperature_schedule": "constant",
        "temperature_end": 0.0,
        "sub_batch": 0,
        "memory_fill": "fresh",
        "backend": "auto",
        "chunk_budget": 0,
    }
    cfg.loss.pop("drsl")
    assert cfg == stock


def test_defaults_are_not_shared() -> None:
    get_default_config().data.transforms.append("random_erase")
    assert get_default_config().data.transforms == ["random_flip"]


@pytest.mark.parametrize("loss", ["drsl", "triplet", "softmax"])
def test_dump_round_trip(loss: str, tmp_path: Path) -> None:
    options = ("loss.name", loss, "train.stepsize", "[20, 40]", "train.lr", "1", "data.save_dir", "2024")
    if loss == "drsl":
        options += ("loss.drsl.temperature", "0.01")
    cfg, _ = configured(*options)
    cfg.freeze()
    file = tmp_path / "config.yaml"
    file.write_text(dump(cfg), encoding="utf-8")
    assert configured("--config-file", str(file))[0] == cfg
    assert "drsl" in cfg.loss


@pytest.mark.parametrize(("loss", "has_node"), [("drsl", True), ("triplet", False), ("softmax", False)])
def test_stock_torchreid_reads_a_dump_without_drsl(loss: str, has_node: bool, tmp_path: Path) -> None:
    cfg = merged("loss.name", loss)
    text = dump(cfg)
    assert ("drsl" in yaml.safe_load(text)["loss"]) is has_node
    stock = get_default_config()
    stock.loss.pop("drsl")
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    if has_node:
        with pytest.raises(KeyError, match=r"Non-existent config key: loss\.drsl"):
            stock.merge_from_file(str(file))
    else:
        stock.merge_from_file(str(file))
        add_drsl_config(stock)
        assert stock == cfg
