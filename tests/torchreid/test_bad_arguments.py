"""Arguments of ``drsl torchreid`` that are wrong, its files of settings, and Torchreid not installed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hosts import Torchreid

from drsl_plugin.torchreid.main import configure, parser


def test_unknown_preset(host: Torchreid) -> None:
    message = host.command(host.name, "--config-file", "osnet_x1_0_drsl_256x128_market151").error
    assert "no file and no preset called 'osnet_x1_0_drsl_256x128_market151'" in message
    assert "did you mean torchreid/osnet_x1_0_drsl_256x128_market1501," in message


def test_an_empty_config_file(tmp_path: Path, host: Torchreid) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("", encoding="utf-8")
    message = host.command(host.name, "--config-file", file, "--root", host.root).error
    assert message.startswith(f"--config-file {file}: ")
    assert "expected keys like model.name, got NoneType" in message


@pytest.mark.parametrize(
    ("option", "value"), [("--transforms", ["random_crop", "random_flip"]), ("-s", ["msmt17"]), ("-t", ["cuhk03"])]
)
def test_swallowed_options(
    option: str, value: list[str], tmp_path: Path, host: Torchreid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = host.command(host.name, option, *value, "model.name", "osnet_x0_5", "train.lr", "0.1").error
    assert "takes every word behind it, model.name too" in message
    assert list(tmp_path.iterdir()) == []

    shown = re.search(r"as in `(.+)`", message)
    assert shown
    long_option, *right_order = shlex.split(shown[1])
    cfg, _, _ = configure(parser().parse_args([long_option, *right_order]))
    assert cfg.data[long_option.removeprefix("--")] == value
    assert (cfg.model.name, cfg.train.lr) == ("osnet_x0_5", 0.1)


def test_swallowed_options_after_unknown_transforms(host: Torchreid) -> None:
    message = host.command(host.name, "--transforms", "a", "b", "model.name", "x").error
    assert message.startswith("--transforms a b model.name: takes every word behind it")


def test_an_option_without_its_values_is_one_line(host: Torchreid) -> None:
    assert "`drsl torchreid --help` shows the arguments" in host.command(host.name, "-s").error


@pytest.mark.parametrize(
    ("missing", "expected"), [("torchreid", "Torchreid is not installed"), ("cv2", "Torchreid needs cv2")]
)
def test_toolbox_not_installed(missing: str, expected: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from drsl_plugin.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "torchreid"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f'drsl: error: {expected}: pip install "drsl-plugin[torchreid]"\n'
