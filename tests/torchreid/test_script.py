"""``drsl run``: a main of upstream's shape, unmodified; and the README's lines for a main of one's own."""

from __future__ import annotations

import io
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchreid
import yaml

from drsl_plugin import run
from drsl_plugin.errors import DRSLError
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.torchreid import VideoDRSLEngine, get_default_config, unregister
from drsl_plugin.torchreid.recording import RecordedRun
from drsl_plugin.torchreid.script import _drsl_for_triplet

Options = Callable[..., list[str]]
README = Path(__file__).parents[2] / "README.md"

DEFAULT_CONFIG = """
from yacs.config import CfgNode
from drsl_plugin.torchreid.config import DEFAULTS

def get_default_config():
    return CfgNode(DEFAULTS).clone()
"""

# What upstream's scripts/main.py does, in its order and by its means, in fewer words.
MAIN = """
import argparse, os.path as osp, sys
import torch
import torchreid
from torchreid.utils import Logger, set_random_seed, resume_from_checkpoint, check_isfile
from default_config import get_default_config

def build_engine(cfg, datamanager, model, optimizer, scheduler):
    common = dict(optimizer=optimizer, scheduler=scheduler, use_gpu=cfg.use_gpu,
                  label_smooth=cfg.loss.softmax.label_smooth)
    if cfg.loss.name == 'softmax':
        return torchreid.engine.ImageSoftmaxEngine(datamanager, model, **common)
    else:
        return torchreid.engine.ImageTripletEngine(
            datamanager, model, margin=cfg.loss.triplet.margin, weight_t=cfg.loss.triplet.weight_t,
            weight_x=cfg.loss.triplet.weight_x, **common)

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--config-file', type=str, default='')
    parser.add_argument('opts', default=None, nargs=argparse.REMAINDER)
    args = parser.parse_args()
    cfg = get_default_config()
    cfg.use_gpu = torch.cuda.is_available()
    if args.config_file:
        cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    set_random_seed(cfg.train.seed)
    sys.stdout = Logger(osp.join(cfg.data.save_dir, 'train.log'))
    datamanager = torchreid.data.ImageDataManager(
        root=cfg.data.root, sources=cfg.data.sources, targets=cfg.data.targets, height=cfg.data.height,
        width=cfg.data.width, batch_size_train=cfg.train.batch_size, batch_size_test=cfg.test.batch_size,
        workers=cfg.data.workers, num_instances=cfg.sampler.num_instances, train_sampler=cfg.sampler.train_sampler)
    model = torchreid.models.build_model(
        name=cfg.model.name, num_classes=datamanager.num_train_pids, loss=cfg.loss.name,
        pretrained=cfg.model.pretrained, use_gpu=cfg.use_gpu)
    optimizer = torchreid.optim.build_optimizer(model, optim=cfg.train.optim, lr=cfg.train.lr)
    scheduler = torchreid.optim.build_lr_scheduler(optimizer, stepsize=cfg.train.stepsize)
    if cfg.model.resume and check_isfile(cfg.model.resume):
        cfg.train.start_epoch = resume_from_checkpoint(cfg.model.resume, model, optimizer=optimizer)
    engine = build_engine(cfg, datamanager, model, optimizer, scheduler)
    engine.run(save_dir=cfg.data.save_dir, max_epoch=cfg.train.max_epoch, start_epoch=cfg.train.start_epoch,
               print_freq=cfg.train.print_freq)

if __name__ == '__main__':
    main()
"""


POSITIONAL = """torchreid.engine.ImageTripletEngine(
            datamanager, model, optimizer, cfg.loss.triplet.margin, cfg.loss.triplet.weight_t,
            cfg.loss.triplet.weight_x, scheduler, cfg.use_gpu, cfg.loss.softmax.label_smooth)"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "default_config.py").write_text(DEFAULT_CONFIG)
    (folder / "main.py").write_text(MAIN)
    return folder / "main.py"


def test_a_script_of_upstreams_trains_with_drsl(
    script: Path, demo_root: Path, tmp_path: Path, small_options: Options, capsys: pytest.CaptureFixture[str]
) -> None:
    modules, path, console = set(sys.modules), sys.path[:], sys.stdout
    options = {"loss.drsl.temperature": 0.02, "loss.drsl.weight_x": 0.5}
    run.main([str(script), *small_options(demo_root, tmp_path / "run", **options)])
    print("the console is open")
    assert "the console is open" in capsys.readouterr().out

    folder = RunFolder(tmp_path / "run")
    assert "loss_drsl" in folder.rows()[0]
    assert "mAP" in folder.rows()[-1]
    config = yaml.safe_load((folder.path / "config.yaml").read_text())
    assert (config["loss"]["drsl"]["temperature"], config["loss"]["drsl"]["weight_x"]) == (0.02, 0.5)
    assert (folder.path / "model/model.pth.tar-1").exists()

    assert (sys.path, sys.stdout) == (path, console)
    assert not {name for name in set(sys.modules) - modules if name.startswith(("torchreid.utils", "default_config"))}
    assert torchreid.engine.ImageTripletEngine.__module__.startswith("torchreid.")
    assert not hasattr(torchreid.losses, "DRSLoss")


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


def test_a_script_resumes_where_it_stopped(
    script: Path, demo_root: Path, tmp_path: Path, small_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"train.max_epoch": 2}
    run.main([str(script), *small_options(demo_root, tmp_path / "whole", **options)])
    with monkeypatch.context() as patch:
        save = RecordedRun._save

        def cut(self: Any, *args: Any, **kwargs: Any) -> None:
            save(self, *args, **kwargs)
            raise KeyboardInterrupt

        patch.setattr(RecordedRun, "_save", cut)
        with pytest.raises(KeyboardInterrupt):
            run.main([str(script), *small_options(demo_root, tmp_path / "cut", **options)])
    options["model.resume"] = tmp_path / "cut/model/model.pth.tar-1"
    run.main([str(script), *small_options(demo_root, tmp_path / "cut", **options)])
    assert RunFolder(tmp_path / "cut").rows() == RunFolder(tmp_path / "whole").rows()


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


def test_other_losses_of_the_script_are_left_alone(
    script: Path, demo_root: Path, tmp_path: Path, small_options: Options
) -> None:
    options = {"loss.name": "triplet", "loss.triplet.weight_x": 1.0}
    run.main([str(script), *small_options(demo_root, tmp_path / "run", **options)])
    checkpoint = tmp_path / "run/model/model.pth.tar-1"
    resumed = {"model.resume": checkpoint, "train.max_epoch": 2}
    run.main([str(script), *small_options(demo_root, tmp_path / "run", **options, **resumed)])
    assert (tmp_path / "run/model/model.pth.tar-2").exists()


def test_bad_settings_stop_the_script(script: Path, demo_root: Path, tmp_path: Path, small_options: Options) -> None:
    options = small_options(demo_root, tmp_path / "run", **{"sampler.train_sampler": "RandomSampler"})
    with pytest.raises(DRSLError, match=r"sampler.train_sampler RandomSampler"):
        run.main([str(script), *options])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss.drsl.temprature": 0.1}, "drsl run: Non-existent key: loss.drsl.temprature"),
        ({"loss.drsl.temperature": "abc"}, "drsl run: Type mismatch"),
        ({"data.root": "nowhere"}, "--sources market1501: not on disk"),
    ],
)
def test_options_of_a_script_are_checked_in_one_line(
    changes: dict[str, str], message: str, script: Path, demo_root: Path, tmp_path: Path, small_options: Options
) -> None:
    with pytest.raises(DRSLError, match=message):
        run.main([str(script), *small_options(demo_root, tmp_path / "run", **changes)])
    assert not (tmp_path / "run" / "model").exists()


def test_a_script_without_default_config_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text("import torchreid\n")
    with pytest.raises(DRSLError, match=r"needs upstream's default_config\.py"):
        run.main([str(script)])


@pytest.mark.skipif(hasattr(torchreid, "utils") and "torchreid.utils" in sys.modules, reason="a GitHub checkout")
def test_pypi_has_no_torchreid_utils() -> None:
    """When this fails, PyPI's Torchreid has its modules where upstream's scripts look, and ``_flat_modules`` can go."""
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
