"""All that is wrong with a configuration is told at once, before anything is built, from one place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchreid
from typer.testing import CliRunner

from drsl_plugin.cli import app
from drsl_plugin.errors import ConfigError, SettingError
from drsl_plugin.losses.settings import DRSLSettings, TrainingSettings
from drsl_plugin.torchreid import build_drsl_engine, get_default_config
from drsl_plugin.torchreid.config import settings
from drsl_plugin.torchreid.merging import merge_settings
from drsl_plugin.torchreid.problems import problems

Options = Callable[..., list[str]]


def drsl_config(demo_root: Path, **changes: Any) -> Any:
    cfg = get_default_config()
    cfg.use_gpu = False
    usual = {"data.root": str(demo_root), "loss.name": "drsl", "sampler.train_sampler": "RandomIdentitySampler"}
    assert merge_settings(cfg, {**usual, **changes}) == []
    return cfg


def lines(cfg: Any, processes: int = 1) -> list[str]:
    return [str(problem) for problem in problems(cfg, processes)]


def test_a_line_for_each_problem_of_file_options_and_configuration(
    demo_root: Path, tmp_path: Path, small_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchreid.data, "ImageDataManager", lambda **kwargs: pytest.fail("data were read"))
    file = tmp_path / "mine.yaml"
    file.write_text("train: {lrr: 1, gamma: fast}\n", encoding="utf-8")
    changes = {
        "model.nam": "x",
        "train.optim": "adamm",
        "train.batch_size": 9,
        "loss.drsl.temperature": -1,
        "loss.drsl.memory_size": 5,
        "data.sources": "['nowhere', 'msmt17']",
        "test.visrank": True,
        "model.resume": tmp_path / "missing.tar",
        "data.save_dir": file,
    }
    words = ["torchreid", "--config-file", str(file), *small_options(demo_root, tmp_path / "run", **changes)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    begins = [
        f"--config-file {file}: unknown key train.lrr; did you mean",
        f"--config-file {file}: train.gamma takes a value of type float",
        "unknown key model.nam; did you mean model.name",
        "train.optim adamm: unknown; one of",
        "--sources nowhere: no image data set of this name",
        "--sources msmt17: not on disk",
        "train.batch_size 9: no multiple of sampler.num_instances 2",
        "loss.drsl.temperature must be a finite number above 0, got -1.0",
        "loss.drsl.memory_size 5: smaller than a batch, which has 9 images",
        f"model.resume {tmp_path / 'missing.tar'}: no such file",
        "test.visrank True: pictures are made by an evaluation",
        f"data.save_dir {file}: {file} is a file",
    ]
    found = result.stderr.splitlines()
    assert len(found) == len(begins)
    for line, begin in zip(found, begins, strict=True):
        assert line.startswith(f"drsl: error: {begin}")


def test_a_good_configuration_has_none(demo_root: Path) -> None:
    assert lines(drsl_config(demo_root)) == []
    assert lines(drsl_config(demo_root), processes=2) == []


def test_each_is_an_object_that_names_its_setting(demo_root: Path) -> None:
    changes = {"train.batch_size": 9, "loss.drsl.weight": -1.0, "train.lr": -1.0, "data.targets": ["viper"]}
    found = list(problems(drsl_config(demo_root, **changes)))
    assert all(isinstance(each, SettingError) for each in found)
    names = {each.setting: each.got for each in found}
    assert names == {"train.lr": -1.0, "--targets": "viper", "train.batch_size": 9, "loss.drsl.weight": -1.0}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"loss.name": "drls"}, "loss.name drls: unknown; one of softmax, triplet, drsl"),
        ({"sampler.num_instances": 0}, "sampler.num_instances 0: must be 1 or above"),
        ({"train.batch_size": 0, "loss.drsl.sub_batch": 4}, "train.batch_size 0: must be 1 or above"),
        ({"loss.drsl.memory_size": -1}, "loss.drsl.memory_size must be a whole number, 0 or above, got -1"),
        ({"data.root": "nowhere"}, "--sources market1501: not on disk"),
    ],
)
def test_what_follows_from_a_wrong_value_is_not_told_as_well(
    changes: dict[str, Any], line: str, demo_root: Path
) -> None:
    (found,) = lines(drsl_config(demo_root, **changes))
    assert found.startswith(line)


def test_an_engine_that_could_not_train_tells_all_of_it(demo_root: Path) -> None:
    cfg = drsl_config(demo_root, **{"train.batch_size": 30, "loss.drsl.sort": "none", "loss.drsl.weight_x": 0.0})
    cfg.train.fixbase_epoch, cfg.loss.drsl.sub_batch = 2, 7
    with pytest.raises(ConfigError) as raised:
        build_drsl_engine(cfg, None, None, None, None)  # type: ignore[arg-type]  # nothing is built
    found = [str(error) for error in raised.value.errors]
    assert [line.split(":")[0] for line in found] == [
        "train.batch_size 30",
        "loss.drsl.sub_batch 7",
        "train.fixbase_epoch 2",
    ]


def test_the_node_has_every_setting_of_the_loss_and_of_training_with_it(demo_root: Path) -> None:
    known = {**TrainingSettings.settings(), **DRSLSettings.settings()}
    keys = {key.removeprefix("loss.drsl.") for key in settings(get_default_config()) if key.startswith("loss.drsl.")}
    assert keys == set(known)
    shown = CliRunner().invoke(app, ["torchreid", "--help"]).output
    listed = " ".join(shown.split())
    for name, setting in known.items():
        assert f" {name} " in listed
        assert " ".join(f"{setting.meaning} [{setting.in_files}]".split()) in listed


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [("backend", "unfused", "unfused"), ("chunk_budget", 4096, 4096), ("chunk_budget", 0, None)],
)
def test_how_the_loss_is_computed_reaches_it_from_the_configuration(
    key: str, value: Any, found: Any, demo_root: Path
) -> None:
    cfg = drsl_config(demo_root, **{f"loss.drsl.{key}": value})
    datamanager: Any = SimpleNamespace(train_loader=[], test_loader={}, num_train_pids=3)
    model = torch.nn.Linear(2, 3)
    engine = build_drsl_engine(cfg, datamanager, model, torch.optim.SGD(model.parameters(), lr=0.1), None)
    assert getattr(engine.criterion, key) == found
