"""Arguments of ``drsl fastreid`` that are wrong, its files of settings, and several things at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hosts import FastReID


def test_all_that_is_wrong_is_told_at_once(unread: None, output: Path, tmp_path: Path, host: FastReID) -> None:
    file = tmp_path / "mine.yml"
    file.write_text("MODEL:\n  DEVISE: cpu\nSOLVER:\n  GAMMA: low\n", encoding="utf-8")
    changes = {
        "SOLVER.BASE_LRR": 1,
        "SOLVER.MAX_EPOCH": "many",
        "SOLVER.OPT": "Lamb",
        "SOLVER.IMS_PER_BATCH": 9,
        "MODEL.LOSSES.DRSL.TEMPERATURE": 0,
        "MODEL.LOSSES.NAME": '("CrossEntropyLoss", "DRSLoss", "Triplet")',
        "TEST.EVAL_PERIOD": 0,
        "INPUT.AFFINE.ENABLED": True,
        "DATASETS.TESTS": '("MSMT17",)',
        "MODEL.WEIGHTS": "missing.pth",
    }
    arguments = ("--config-file", file, "--num-gpus", 2, "--num-machines", 2, "--resume")
    lines = host.command(host.name, *arguments, *host.options(output, **changes)).errors
    expected = (
        f"--config-file {file}: unknown key MODEL.DEVISE",
        f"--config-file {file}: SOLVER.GAMMA takes a value",
        "unknown key SOLVER.BASE_LRR",
        "SOLVER.MAX_EPOCH takes a value",
        "SOLVER.OPT Lamb",
        "SOLVER.IMS_PER_BATCH 9",
        "MODEL.LOSSES.DRSL.TEMPERATURE",
        "MODEL.LOSSES.NAME Triplet",
        "TEST.EVAL_PERIOD 0",
        "INPUT.AFFINE.ENABLED True",
        "DATASETS.TESTS MSMT17",
        "MODEL.WEIGHTS missing.pth",
        "--num-gpus 2",
        "--dist-url auto",
        f"--resume: OUTPUT_DIR {output} has no checkpoint",
    )
    assert [start for start in expected if sum(line.startswith(start) for line in lines) != 1] == []
    assert len(lines) == len(expected)
    assert list(tmp_path.iterdir()) == [file]


def test_an_option_without_its_value_does_not_hide_the_rest(unread: None, host: FastReID) -> None:
    lines = host.command(host.name, "--num-machines", 2, "MODEL.DEVICE", "cpu", "SOLVER.MAX_EPOCH").errors
    assert "options come in pairs, `KEY value`: 'SOLVER.MAX_EPOCH' stands alone" in lines
    assert any(line.startswith("--dist-url auto") for line in lines)


def test_an_argument_after_the_options_is_told_its_place(unread: None, host: FastReID) -> None:
    """And the options in front of it count."""
    expected = "--resume: goes in front of the `KEY value` pairs"
    words = ("MODEL.DEVICE", "cpu", "DATASETS.TESTS", '("Market1501",)', "--resume")
    assert host.command(host.name, *words).errors[0] == expected
    errors = host.command(host.name, "MODEL.DEVICE", "cpu", "--resume").errors
    assert not [line for line in errors if "MODEL.DEVICE" in line]


@pytest.mark.parametrize("arguments", [["--num-gpus", "two"], ["--resume=1"]])
def test_misused_arguments(arguments: list[str], host: FastReID) -> None:
    assert "`drsl fastreid --help` shows the arguments" in host.command(host.name, *arguments).error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--num-gpus", 2), "--num-gpus 2: MODEL.DEVICE is cpu; --num-processes 2"),
        (("--num-gpus", -1), "--num-gpus -1: must be 0 or above"),
        (("--num-processes", 0), "--num-processes 0: must be 1 or above"),
        (("--num-machines", 0), "--num-machines 0: must be 1 or above"),
        (("--num-machines", 2), "--dist-url auto: finds a port for one machine; for several name one, tcp://HOST:PORT"),
        (("--machine-rank", 1), "--machine-rank 1: must be below --num-machines 1"),
        (("--machine-rank", -1), "--machine-rank -1: must be below --num-machines 1"),
        (
            ("--num-machines", 2, "--dist-url", "localhost:29500"),
            "--dist-url localhost:29500: ",
        ),
        (("--num-processes", 3), "SOLVER.IMS_PER_BATCH 8: no multiple of 3 processes of DATALOADER.NUM_INSTANCE 2"),
        (
            ("--num-machines", 4, "--num-processes", 2, "--dist-url", "tcp://127.0.0.1:1"),
            "SOLVER.IMS_PER_BATCH 8: no multiple of 8 processes of DATALOADER.NUM_INSTANCE 2",
        ),
    ],
)
def test_bad_numbers_of_processes(
    arguments: tuple[object, ...], expected: str, unread: None, output: Path, host: FastReID
) -> None:
    assert host.command(host.name, *arguments, *host.options(output)).error.startswith(expected)
    assert not output.parent.exists()


def test_fewer_images_in_a_test_batch_than_processes(unread: None, output: Path, host: FastReID) -> None:
    options = host.options(output, **{"TEST.IMS_PER_BATCH": 1})
    assert host.command(host.name, "--num-processes", 2, *options).error.startswith("TEST.IMS_PER_BATCH 1: ")


def test_processes_for_cuda_are_gpus(
    unread: None, output: Path, host: FastReID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    message = host.command(host.name, "--num-processes", 2, *host.options(output, **{"MODEL.DEVICE": "cuda"})).error
    assert message == "--num-processes 2: is for MODEL.DEVICE cpu; on CUDA --num-gpus 2"


def test_unknown_preset(host: FastReID) -> None:
    message = host.command(host.name, "--config-file", "fastreid/Market1501/bagtricks_R50_drs").error
    assert "no file and no preset called 'fastreid/Market1501/bagtricks_R50_drs'" in message
    assert "did you mean fastreid/Market1501/bagtricks_R50_drsl" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MODEL: Baseline\n", "unknown key MODEL"),
        ("", "expected keys like MODEL.DEVICE, got NoneType"),
        ("_BASE_: missing.yml\n", "missing.yml"),
        ("_BASE_: 7\n", "_BASE_"),
        ("_BASE_: mine.yml\n", "_BASE_"),
        ("_BASE_: list.yml\nSEED: 1\n", "list.yml"),
        ("_BASE_: flat.yml\nSOLVER:\n  OPT: SGD\n", "SOLVER"),
    ],
)
def test_bad_config_file(text: str, expected: str, unread: None, tmp_path: Path, host: FastReID) -> None:
    (tmp_path / "list.yml").write_text("- MODEL\n", encoding="utf-8")
    (tmp_path / "flat.yml").write_text("SOLVER: 1\n", encoding="utf-8")
    file = tmp_path / "mine.yml"
    file.write_text(text, encoding="utf-8")
    message = host.command(host.name, "--config-file", file, *host.options(tmp_path / "run")).error
    assert message.startswith(f"--config-file {file}: ")
    assert expected in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["fastreid", "run"])
def test_torchrun_is_told_what_it_cannot_start(
    command: str, unread: None, tmp_path: Path, host: FastReID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    words = ["main.py"] if command == "run" else host.options(tmp_path / "run")
    assert host.command(command, *words).error.startswith(f"torchrun with 2 processes: drsl {command} ")
    assert not (tmp_path / "run").exists()
