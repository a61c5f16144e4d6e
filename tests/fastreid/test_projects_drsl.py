"""``projects/DRSL``: DRSL in the shape of FastReID's other projects, beside the plugin and in a clone of FastReID.

A folder like a clone is made of PyPI's package and of the presets, which stand in for FastReID's own ``configs/``.
Run by hand, with ``FASTREID_CLONE=fast-reid``: the same with the package and the ``configs/`` of a clone.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import drsl_plugin
from drsl_plugin.errors import DRSLError
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.runs.folder import RunFolder

Options = Callable[..., list[str]]
PROJECT = Path(__file__).resolve().parents[2] / "projects" / "DRSL"
LEAVES = sorted(path.name for path in (PROJECT / "configs").glob("*.yml"))
PRESETS = PROJECT.parents[1] / "configs" / "fastreid"
CLONE = os.environ.get("FASTREID_CLONE", "")
BY_HAND = pytest.mark.skipif(
    not CLONE, reason="by hand: FASTREID_CLONE names no clone of FastReID, whose files it reads"
)


@pytest.fixture(autouse=True)
def left_as_it_was(monkeypatch: pytest.MonkeyPatch, log_handlers: None) -> None:
    """The import path and FastReID's log, which the script sets up for its process."""
    monkeypatch.setattr(sys, "path", sys.path[:])


@pytest.fixture
def config(fastreid_options: Options, tmp_path: Path) -> Callable[..., Path]:
    """``config(**{"SOLVER.BASE_LR": 0.1})``: the smallest run as a file, with changes."""

    def write(**changes: Any) -> Path:
        words = fastreid_options(tmp_path / "run", **changes)
        tree: dict[str, Any] = {}
        for key, value in zip(words[::2], words[1::2], strict=True):
            *nodes, name = key.split(".")
            node = tree
            for each in nodes:
                node = node.setdefault(each, {})
            node[name] = yaml.safe_load(value)
        path = tmp_path / "small.yml"
        path.write_text(yaml.safe_dump(tree))
        return path

    return write


@pytest.fixture
def train_net(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    def run(*argv: Any) -> dict[str, Any]:
        script = PROJECT / "train_net.py"
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, argv)])
        return runpy.run_path(str(script), run_name="__main__")

    return run


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    model: dict[str, torch.Tensor] = torch.load(path)["model"]
    return model


@pytest.mark.usefixtures("fastreid_root")
def test_it_trains_resumes_and_evaluates(train_net: Any, config: Any, tmp_path: Path) -> None:
    file = config()
    train_net("--config-file", file, "MODEL.LOSSES.DRSL.TEMPERATURE", 0.02)
    folder = RunFolder(tmp_path / "run")
    rows = folder.rows()
    assert {"loss_cls", "loss_drsl", "ap"} <= set(rows[0])
    assert "TEMPERATURE: 0.02" in (folder.path / "config.yaml").read_text()
    environment = json.loads((folder.path / "environment.json").read_text())
    assert environment["seed"] == 1
    assert environment["argv"] == ["--config-file", str(file), "MODEL.LOSSES.DRSL.TEMPERATURE", "0.02"]
    first = weights_of(folder.path / "model_final.pth")

    train_net("--config-file", file, "--resume", "MODEL.LOSSES.DRSL.TEMPERATURE", 0.02, "SOLVER.MAX_EPOCH", 2)
    resumed = folder.rows()
    assert resumed[: len(rows)] == rows
    assert {row["epoch"] for row in resumed} == {1, 2}
    second = weights_of(folder.path / "model_final.pth")
    moved = [key for key in first if key.endswith("conv.weight") and not torch.equal(first[key], second[key])]
    assert moved

    weights = folder.path / "model_final.pth"
    train_net("--config-file", file, "--eval-only", "MODEL.WEIGHTS", weights, "OUTPUT_DIR", tmp_path / "eval")
    with (
        np.load(folder.path / "features-Market1501.npz") as trained,
        np.load(tmp_path / "eval/features-Market1501.npz") as evaluated,
    ):
        np.testing.assert_allclose(evaluated["query_features"], trained["query_features"], rtol=1e-4, atol=1e-5)


def test_it_knows_its_arguments(train_net: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        train_net("--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for argument in ("--config-file", "--resume", "--eval-only", "--num-gpus", "--num-processes", "--dist-url"):
        assert argument in text


@pytest.mark.usefixtures("fastreid_root")
@pytest.mark.parametrize(
    ("changes", "flags", "lines"),
    [
        (
            {"MODEL.LOSSES.NAME": '["CrossEntropyLoss", "drsloss"]', "SOLVER.IMS_PER_BATCH": 7},
            [],
            [
                "MODEL.LOSSES.NAME drsloss: unknown to Baseline, which would train without it; did you mean DRSLoss?",
                "SOLVER.IMS_PER_BATCH 7: no multiple of DATALOADER.NUM_INSTANCE 2",
            ],
        ),
        ({"MODEL.LOSSES.DRSL.SORT": "upwards"}, [], ["MODEL.LOSSES.DRSL.SORT "]),
        ({}, ["--resume"], ["--resume: OUTPUT_DIR "]),
        ({}, ["--eval-only"], ["--eval-only: of random weights; name a checkpoint with MODEL.WEIGHTS"]),
        ({"DATASETS.TESTS": '["Market"]'}, [], ["DATASETS.TESTS Market: no data set of this name"]),
    ],
)
def test_bad_settings_end_it_in_lines(
    changes: dict[str, Any],
    flags: list[str],
    lines: list[str],
    train_net: Any,
    config: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        train_net("--config-file", config(**changes), *flags)
    assert ended.value.code == 2
    written = capsys.readouterr()
    told = written.err.splitlines()
    assert told[0].startswith("error: ")
    assert len(told) == len(lines)
    assert all(line in each for line, each in zip(lines, told, strict=True))
    assert "Traceback" not in written.out + written.err
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("fastreid_root")
@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["MODEL.LOSSES.DRSL.TEMPRATURE", "0.1"], "TEMPRATURE"),
        (["--config-file", "nowhere.yml"], "nowhere.yml"),
        (["SOLVER.OPT"], ""),
    ],
)
def test_a_wrong_key_or_file_ends_it_in_a_line(
    argv: list[str], line: str, train_net: Any, config: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        train_net("--config-file", config(), *argv)
    assert ended.value.code == 2
    assert [line in each for each in capsys.readouterr().err.splitlines()] == [True]


@pytest.mark.usefixtures("fastreid_root")
def test_processes_on_the_cpu_are_asked_for(train_net: Any, config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def launch(*args: Any, **kwargs: Any) -> None:
        asked.append((args[1], kwargs["cpu"], kwargs["num_machines"], kwargs["args"][0].config_file))

    monkeypatch.setattr(drsl_plugin.fastreid, "launch", launch)
    file = config()
    train_net("--config-file", file, "--num-processes", 3)
    train_net("--config-file", file, "--num-gpus", 4, "--num-machines", 2)
    train_net("--config-file", file)
    assert asked == [(3, True, 1, str(file)), (4, None, 2, str(file)), (1, None, 1, str(file))]


def test_an_error_of_another_process_ends_it_in_its_lines(
    train_net: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def launch(*_args: Any, **_kwargs: Any) -> None:
        raise DRSLError("a line")

    monkeypatch.setattr(drsl_plugin.fastreid, "launch", launch)
    with pytest.raises(SystemExit) as ended:
        train_net("--num-gpus", 2)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: a line\n"


# In a clone


@pytest.fixture(params=["PyPI's", pytest.param("a clone's", marks=BY_HAND)])
def clone(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder like a clone of FastReID with this project in it."""
    folder = tmp_path / "fast-reid"
    (folder / "projects").mkdir(parents=True)
    parts = {"fastreid": Path(fastreid.__file__).parent, "configs": PRESETS}
    if request.param == "a clone's":
        parts = {name: Path(CLONE).resolve() / name for name in parts}
    for name, place in parts.items():
        (folder / name).symlink_to(place, target_is_directory=True)
    shutil.copytree(PROJECT, folder / "projects" / "DRSL")
    return folder


@pytest.mark.parametrize("leaf", LEAVES)
def test_each_leaf_builds_on_fastreids_own(leaf: str, clone: Path) -> None:
    cfg = fastreid.config.get_cfg()
    drsl_plugin.fastreid.add_drsl_config(cfg)
    cfg.merge_from_file(str(clone / "projects/DRSL/configs" / leaf))
    assert "DRSLoss" in cfg.MODEL.LOSSES.NAME
    assert cfg.OUTPUT_DIR.startswith("projects/DRSL/logs/")


@pytest.mark.slow
def test_it_runs_in_a_clone(clone: Path, fastreid_root: Path, fastreid_options: Options, tmp_path: Path) -> None:
    package = str(Path(drsl_plugin.__file__).parents[1])
    path = [str(clone), package, *filter(None, [os.environ.get("PYTHONPATH")])]
    script, leaf = "projects/DRSL/train_net.py", "projects/DRSL/configs/osnet_x1_0_drsl.yml"
    options = fastreid_options(tmp_path / "run", **{"TEST.IMS_PER_BATCH": 16, "SOLVER.SCHED": "MultiStepLR"})
    done = subprocess.run(
        [sys.executable, script, "--config-file", leaf, *options],
        cwd=clone,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    folder = RunFolder(tmp_path / "run")
    assert "loss_drsl" in folder.rows()[0]
    assert "mAP" in folder.rows()[-1]
    environment = json.loads((folder.path / "environment.json").read_text())
    assert environment["toolbox"].startswith(str(clone))
