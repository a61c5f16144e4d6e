"""Checkpoints and weights from a stranger: nothing that a run reads is run, whichever version of torch reads it."""

from __future__ import annotations

import contextlib
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import content
from hostile import FORMS, Payload, as_zip
from hosts import Host
from scripts import fastreid_left_as_it_was, write_script
from test_pretrained import FILE

from drsl_plugin.runs.checkpoint_files import load
from drsl_plugin.runs.reading import UnsafeFileError
from drsl_plugin.toolbox.guarding import guarded_reading

REFUSED = "is refused; --trust-checkpoints reads it all the same"


@pytest.fixture
def run(trained: Callable[..., Path], tmp_path: Path) -> Path:
    """The folder of a run of one epoch, a copy for the test."""
    return shutil.copytree(trained(), tmp_path / "run")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "executed"


def poison(path: Path, marker: Path, form: str = "zip") -> Path:
    """Put into a checkpoint, whose states stay, what makes the marker."""
    FORMS[form]({"payload": Payload(marker), **load(path, "")}, path)
    return path


CASES = [*((form, "weights") for form in FORMS), ("zip", "evaluate"), ("zip", "resume")]


@pytest.mark.parametrize(("form", "way"), CASES)
def test_a_hostile_checkpoint_is_refused(form: str, way: str, host: Host, run: Path, marker: Path) -> None:
    path = poison(host.checkpoint(run), marker, form)
    before = content(run)
    changes: dict[str, Any] = {"resume": True, "epochs": 2} if way == "resume" else {way: path}
    error = host.refusal(run, **changes)
    assert f"{host.key('resume' if way == 'resume' else 'weights')} {path}: " in error
    assert error.endswith(REFUSED)
    assert "open" in error or form == "tar"
    assert not marker.exists()
    assert content(run) == before


@pytest.mark.parametrize("way", ["weights", "evaluate", "resume"])
def test_a_file_that_is_trusted_is_read_all_the_same(way: str, host: Host, run: Path, marker: Path) -> None:
    path = poison(host.checkpoint(run), marker)
    changes: dict[str, Any] = {"resume": True, "epochs": 2} if way == "resume" else {way: path}
    assert host.command(host.name, "--trust-checkpoints", *host.words(run, **changes)).code == 0
    assert marker.exists()


def test_a_program_in_torchscript_is_refused(host: Host, run: Path) -> None:
    path = host.checkpoint(run)
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(path))
    error = host.refusal(run, weights=path)
    assert "is a program in TorchScript; " in error
    assert error.endswith(REFUSED)


def test_hostile_imagenet_weights_are_refused(
    host: Host, tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    place = tmp_path / "home" / FILE
    place.parent.mkdir(parents=True)
    as_zip({"payload": Payload(marker)}, place)
    error = host.refusal(tmp_path / "run", pretrained=True)
    assert error.startswith(f"{host.key('pretrained')} True: {place} holds ")
    assert error.endswith(REFUSED)
    assert not marker.exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("form", "trust"), [("zip", False), ("Python 2", False), ("zip", True)])
def test_a_script_is_kept_from_them_too(
    form: str, trust: bool, host: Host, run: Path, marker: Path, tmp_path: Path
) -> None:
    """Of the toolbox's own readers, which the script calls; Torchreid's tries once more what is of Python 2."""
    path = poison(host.checkpoint(run), marker, form)
    words = write_script(host, tmp_path)
    options = ["--trust-checkpoints"] * trust
    with fastreid_left_as_it_was() if host.name == "fastreid" else guarded_reading():
        ended = host.command("run", *options, *words, *host.words(run, resume=True, epochs=2))
    assert marker.exists() == trust
    if trust:
        assert ended.code == 0
    else:
        assert str(path) in ended.error
        assert ended.error.endswith(REFUSED)


def test_a_scripts_own_word_counts(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "file"
    as_zip({"payload": Payload(marker)}, path)
    with guarded_reading():
        torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("guarded", [False, True])
def test_stock_weights_are_run(guarded: bool, tmp_path: Path, marker: Path) -> None:
    """When this fails, ``guarded_reading`` can go, once torch below 2.6 is no longer supported."""
    as_zip({"payload": Payload(marker)}, tmp_path / "file.pth")
    with guarded_reading() if guarded else contextlib.nullcontext(), contextlib.suppress(UnsafeFileError):
        torch.hub.load_state_dict_from_url("https://nowhere.invalid/file.pth", model_dir=str(tmp_path))
    assert marker.exists() != guarded


def test_a_second_try_with_pickle_is_none(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "file.pth"
    as_zip({"payload": Payload(marker)}, path)
    with guarded_reading(), pytest.raises(UnsafeFileError), path.open("rb") as file:
        torch.load(file, pickle_module=pickle)
    assert not marker.exists()
