"""``drsl run``: a main of upstream's shape, unmodified; and the README's lines for a main of one's own."""

from __future__ import annotations

import io
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchreid
from hosts import HOSTS
from scripts import write_script

from drsl_plugin import run
from drsl_plugin.errors import DRSLError, SettingError
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.toolbox.main_program import plain_config_errors
from drsl_plugin.torchreid import VideoDRSLEngine, get_default_config, unregister
from drsl_plugin.torchreid.script import _drsl_for_triplet

Options = Callable[..., list[str]]
README = Path(__file__).parents[2] / "README.md"


POSITIONAL = """torchreid.engine.ImageTripletEngine(
            datamanager, model, optimizer, cfg.loss.triplet.margin, cfg.loss.triplet.weight_t,
            cfg.loss.triplet.weight_x, scheduler, cfg.use_gpu, cfg.loss.softmax.label_smooth)"""


@pytest.fixture
def script(demo_root: Path, tmp_path: Path) -> Path:
    return Path(write_script(HOSTS["torchreid"](demo_root), tmp_path)[0])


def test_arguments_by_position_reach_the_engine(
    script: Path, demo_root: Path, tmp_path: Path, small_options: Options
) -> None:
    text = re.sub(
        r"torchreid\.engine\.ImageTripletEngine\(.*?\*\*common\)", POSITIONAL, script.read_text(), flags=re.DOTALL
    )
    assert POSITIONAL in text
    script.write_text(text)
    options = {"train.max_epoch": 2, "train.stepsize": [1], "train.lr": 0.1}
    run.main([str(script), *small_options(demo_root, tmp_path / "run", **options)])
    rates = {row["epoch"]: row["lr"] for row in RunFolder(tmp_path / "run").rows() if "lr" in row}
    assert rates == pytest.approx({1: 0.1, 2: 0.01})


def test_the_last_configuration_that_the_script_makes_counts(
    script: Path, demo_root: Path, tmp_path: Path, small_options: Options
) -> None:
    script.write_text(
        script.read_text().replace("    cfg = get_default", "    get_default_config()\n    cfg = get_default")
    )
    run.main([str(script), *small_options(demo_root, tmp_path / "run")])
    assert "loss_drsl" in RunFolder(tmp_path / "run").rows()[0]


def test_video_engines_of_a_script_are_understood() -> None:
    cfg = get_default_config()
    cfg.use_gpu, cfg.loss.name, cfg.data.type, cfg.video.pooling_method = False, "drsl", "video", "max"
    datamanager = SimpleNamespace(train_loader=[], test_loader={}, num_train_pids=3)
    model = torch.nn.Linear(2, 3)
    arguments = (datamanager, model, torch.optim.SGD(model.parameters(), lr=0.1))
    stock = torchreid.engine.VideoTripletEngine
    with _drsl_for_triplet([cfg], []):
        engine = torchreid.engine.VideoTripletEngine(*arguments, margin=0.3, use_gpu=False)
        assert isinstance(engine, VideoDRSLEngine)
        assert engine.pooling_method == "max"
        cfg.loss.name = "triplet"
        assert isinstance(torchreid.engine.VideoTripletEngine(*arguments, use_gpu=False), stock)
    assert torchreid.engine.VideoTripletEngine is stock


def test_a_configuration_file_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingError, match=r"^drsl run: no such file: 'nix\.yaml'$"), plain_config_errors():
        get_default_config().merge_from_file("nix.yaml")


def test_a_script_without_default_config_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text("import torchreid\n")
    with pytest.raises(DRSLError, match=r"needs upstream's default_config\.py"):
        run.main([str(script)])


@pytest.mark.skipif(hasattr(torchreid, "utils") and "torchreid.utils" in sys.modules, reason="a GitHub checkout")
def test_pypi_has_no_torchreid_utils() -> None:
    """When this fails, PyPI's Torchreid has its modules where upstream's scripts look, and ``flat_modules`` can go."""
    with pytest.raises(ModuleNotFoundError):
        __import__("torchreid.utils")


def test_the_readmes_lines_in_a_main_of_ones_own(
    script: Path, demo_root: Path, tmp_path: Path, small_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = re.search(r"<!-- three lines -->\n```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    first, second, third = (line for line in block.group(1).splitlines() if line and not line.startswith("#"))
    for before, line in (
        ("from default_config import get_default_config\n", first),
        ("    cfg = get_default_config()\n", f"    {second}"),
        ("def build_engine(cfg, datamanager, model, optimizer, scheduler):\n", f"    {third}"),
    ):
        text = script.read_text()
        assert before in text
        script.write_text(text.replace(before, f"{before}{line}\n"))
    # A main of one's own names the modules where one's distribution has them.
    script.write_text(script.read_text().replace("from torchreid.utils", f"from {torchreid.utils.__name__}"))
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.setattr(sys, "argv", [str(script), *small_options(demo_root, tmp_path / "run")])
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # upstream's Logger closes what it finds there
    monkeypatch.delitem(sys.modules, "default_config", raising=False)
    try:
        globals_ = runpy.run_path(str(script), run_name="__main__")
    finally:
        unregister()
        sys.modules.pop("default_config", None)
    assert globals_["torchreid"] is torchreid
    sys.stdout.flush()
    assert "sorting" in (tmp_path / "run/train.log").read_text()
    assert (tmp_path / "run/model/model.pth.tar-1").exists()
