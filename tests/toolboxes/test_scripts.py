"""``drsl run``: a script of each toolbox's shape, unmodified, trains with DRSL as the toolbox's own command does."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from comparing import assert_equal_runs
from hosts import Ended, Host, interrupted
from scripts import fastreid_left_as_it_was, write_script
from tiny import tiny

from drsl_plugin.runs.checkpoint_files import load
from drsl_plugin.runs.folder import RunFolder

MEMORY = {"memory_size": 20, "memory_warmup": 2, "memory_fill": "stored"}
COSINE = {"temperature": 0.2, "temperature_schedule": "cosine", "temperature_end": 0.02}
SAMPLER = {"torchreid": "RandomSampler", "fastreid": "TrainingSampler"}

RunScript = Callable[..., Ended]


@pytest.fixture(autouse=True)
def left_as_it_was(host: Host) -> Iterator[None]:
    with fastreid_left_as_it_was() if host.name == "fastreid" else contextlib.nullcontext():
        yield


@pytest.fixture
def script(host: Host, tmp_path: Path) -> RunScript:
    """``script("run", epochs=2)``: how ``drsl run`` ends with the toolbox's script, which leaves that folder."""
    words = write_script(host, tmp_path)

    def run(folder: str, **changes: Any) -> Ended:
        return host.command("run", *words, *host.words(tmp_path / folder, **{**tiny(host), **changes}))

    return run


def test_an_unmodified_script_trains_with_drsl(
    host: Host, script: RunScript, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    modules, path, console = set(sys.modules), sys.path[:], sys.stdout
    ended = script("run", temperature=0.02, weight_x=0.5)
    assert (ended.code, ended.lines) == (0, [])
    print("the console is open")
    assert "the console is open" in capsys.readouterr().out

    folder = RunFolder(tmp_path / "run")
    first, last = folder.rows()[0], folder.rows()[-1]
    assert {"loss_drsl", "ap", "sorting"} <= first.keys()
    assert host.of_classes <= first.keys()
    assert 0 <= last["mAP"] <= 1
    config = yaml.safe_load((folder.path / "config.yaml").read_text())
    for name, value in (("temperature", 0.02), ("weight_x", 0.5)):
        node = config
        for key in host.key(name).split("."):
            node = node[key]
        assert node == value
    checkpoint = host.checkpoint(folder.path)
    assert all(tensor.isfinite().all() for tensor in host.parameters(checkpoint).values())
    assert (folder.path / "environment.json").exists()

    assert (sys.path, sys.stdout) == (path, console)
    new = set(sys.modules) - modules
    assert not {name for name in new if name.startswith(("torchreid.utils", "default_config", "train_net"))}


def test_what_a_toolbox_says_of_it(host: Host, script: RunScript, tmp_path: Path) -> None:
    assert script("run").code == 0
    if host.name == "torchreid":
        assert host.package.engine.ImageTripletEngine.__module__.startswith("torchreid.")
        assert not hasattr(host.package.losses, "DRSLoss")
    else:
        assert "META_ARCHITECTURE: Baseline" in (tmp_path / "run" / "config.yaml").read_text()
        assert "Baseline is built as DRSLBaseline" in host.log(tmp_path / "run")
        assert {"model_final.pth", "metrics.json"} <= {path.name for path in (tmp_path / "run").iterdir()}


def test_a_resumed_script_equals_an_uninterrupted_one(host: Host, script: RunScript, tmp_path: Path) -> None:
    options = {**MEMORY, **COSINE, "epochs": 3}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert script("whole", **options).code == 0
    in_epoch_1 = len([row for row in host.steps(whole) if row["epoch"] == 1])
    with interrupted(in_epoch_1 + 2):  # the memory is then ahead of the checkpoint
        assert script("cut", **options).code == 130
    torch.rand(7)
    assert script("cut", **options, resume=host.checkpoint(cut)).code == 0
    assert_equal_runs(host, cut, whole)
    (memory,) = load(host.checkpoint(cut), "")["drsl_memory"]
    taken = len(host.steps(whole))
    assert (memory["filled"], memory["batches"], memory["position"]) == (20, taken, 8 * taken % 20)
    assert memory["embeddings"].abs().sum() > 0


def test_other_losses_of_a_script_are_left_alone(host: Host, script: RunScript, tmp_path: Path) -> None:
    assert script("run", losses="triplet").code == 0
    if host.name == "fastreid":  # which records every run, where Torchreid's own engine is as it is
        first = RunFolder(tmp_path / "run").rows()[0]
        assert {host.triplet, *host.of_classes} <= first.keys()
        assert "loss_drsl" not in first
    assert script("run", losses="triplet", epochs=2, resume=True).code == 0
    assert host.epoch(host.checkpoint(tmp_path / "run")) == 2


@pytest.mark.parametrize("losses", ["drsl", "triplet"])
def test_a_resumed_script_has_the_rate_that_it_is_given(
    losses: str, host: Host, script: RunScript, tmp_path: Path
) -> None:
    settings, keys = {**tiny(host), "losses": losses}, (host.key("lr"), host.key("seed"), host.key("weights"))
    assert script("run", **settings, lr=0.02).code == 0
    path = host.checkpoint(tmp_path / "run")
    ended = script("run", **settings, lr=0.04, seed=7, weights=path, epochs=2, resume=True)
    assert ended.code == 0
    assert load(host.checkpoint(tmp_path / "run"), "")["optimizer"]["param_groups"][0]["lr"] == 0.04
    said = ended.output + (host.log(tmp_path / "run") if host.name == "fastreid" else "")
    assert f"Changed since the checkpoint: {keys[0]} 0.02 -> 0.04; the learning rate goes on" in said
    assert f"{keys[2]} {path} is not used: " in said
    knows_the_seed = losses == "drsl" or host.name == "fastreid"  # Torchreid's own engine saves none
    assert (f"{keys[1]} 7 is not used: " in said) == knows_the_seed


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"temperature": -1.0}, "{temperature}"),
        ({"sampler": None}, "{sampler} {other}"),
        ({"batch": 7}, "{batch} 7"),
    ],
)
def test_bad_settings_stop_the_script(
    changes: dict[str, Any], start: str, host: Host, script: RunScript, tmp_path: Path
) -> None:
    other = SAMPLER[host.name]
    ended = script("run", **{name: other if value is None else value for name, value in changes.items()})
    assert ended.code == 2
    (error,) = ended.errors
    names = {name: host.key(name) for name in ("temperature", "sampler", "batch")}
    assert error.startswith(start.format(**names, other=other))
    assert not (tmp_path / "run" / "model").exists()


def test_options_of_a_script_are_checked_in_one_line(host: Host, script: RunScript, tmp_path: Path) -> None:
    key = host.key("temperature").replace("EMPERATURE", "EMPRATURE").replace("emperature", "emprature")
    for changes, message in (
        ({key: 0.1}, f"drsl run: Non-existent key: {key}"),
        ({"temperature": "'abc'"}, "drsl run: Type mismatch"),
    ):
        ended = script("run", **changes)
        assert ended.code == 2
        (error,) = ended.errors
        assert error.startswith(message)
    assert not (tmp_path / "run" / "model").exists()


def test_data_of_a_script_that_are_not_on_disk(host: Host, tmp_path: Path) -> None:
    nowhere = type(host)(tmp_path / "nowhere")
    words = write_script(host, tmp_path)
    ended = nowhere.command("run", *words, *nowhere.words(tmp_path / "run"))
    assert ended.code == 2
    assert {error.partition(f" {host.target}: ")[2][:11] for error in ended.errors} == {"not on disk"}
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("skip", [False, True])
def test_a_broken_image(skip: bool, host: Host, tmp_path: Path) -> None:
    away = type(host)(shutil.copytree(host.root, tmp_path / "data", symlinks=True))
    path = next((away.root / away.market / "bounding_box_train").glob("*.jpg"))
    path.write_bytes(path.read_bytes()[:500])
    words = away.words(tmp_path / "run", **tiny(away), batch=16, skip=skip)
    ended = away.command("run", *write_script(away, tmp_path), *words)
    if skip:
        assert (ended.code, ended.lines) == (0, [])
    else:
        assert ended.error.partition(": cannot be read as an image (")[0] == str(path)
        assert ended.error.endswith(f"leave out what cannot be read by {away.key('skip')} True")
