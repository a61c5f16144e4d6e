"""Arguments of either toolbox's command that are misused, and files of settings that are wrong: one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hosts import HOSTS, Host


@pytest.mark.parametrize("arguments", [["--nope"], ["--config-file"]])
def test_misused_arguments(arguments: list[str], host: Host) -> None:
    error = host.command(host.name, *arguments).error
    assert f"`drsl {host.name} --help` shows the arguments" in error


@pytest.mark.parametrize(
    ("words", "alone"),
    [
        (["{lr}"], "{lr}"),
        (["{lr}", "1.0", "nonsense", "{gamma}", "0.1"], "nonsense"),
        (["{lr}", "{gamma}", "0.1"], "{lr}"),
    ],
)
def test_options_that_are_no_pairs(words: list[str], alone: str, host: Host, unread: None, tmp_path: Path) -> None:
    spelled = [word.format(**host.keys) for word in words]
    error = host.command(host.name, *host.options(tmp_path / "run"), *spelled).error
    assert error.lower() == f"options come in pairs, `key value`: {alone.format(**host.keys)!r} stands alone".lower()


def test_an_option_after_the_pairs(host: Host, unread: None, tmp_path: Path) -> None:
    option = {"torchreid": ["--root", "elsewhere"], "fastreid": ["--resume"]}[host.name]
    error = host.command(host.name, *host.options(tmp_path / "run"), *option).error
    assert error.lower() == f"{option[0]}: goes in front of the `key value` pairs"


# --config-file


def refusal_of_file(host: Host, *words: object) -> str:
    return host.command(host.name, "--config-file", *words).error


def test_unknown_preset(host: Host) -> None:
    error = refusal_of_file(host, host.preset[:-1])
    assert f"no file and no preset called {host.preset[:-1]!r}" in error
    assert f"did you mean {host.preset}" in error


def test_a_preset_of_another_toolbox(host: Host) -> None:
    for name, other in HOSTS.items():
        if name != host.name:
            error = refusal_of_file(host, other.preset)
            expected = f"--config-file: {other.preset} is a preset for `drsl {name}`, not for {host.name}"
            assert error == expected


def written(settings: dict[str, Any], file: Path) -> Path:
    """Write a file of settings, whose keys are dotted, as the nested YAML that both toolboxes read."""
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        *nodes, name = key.split(".")
        inner = nested
        for node in nodes:
            inner = inner.setdefault(node, {})
        inner[name] = value
    file.write_text(yaml.safe_dump(nested), encoding="utf-8")
    return file


def test_a_file_with_an_unknown_key(host: Host, unread: None, tmp_path: Path) -> None:
    wrong = host.key("lr") + "x"
    file = written({wrong: 1}, tmp_path / "mine.yml")
    error = refusal_of_file(host, file, *host.options(tmp_path / "run"))
    assert error.startswith(f"--config-file {file}: unknown key {wrong}; did you mean {host.key('lr')}")
    assert not (tmp_path / "run").exists()


def test_a_file_with_a_value_of_another_type(host: Host, unread: None, tmp_path: Path) -> None:
    file = written({host.key("lr"): [1]}, tmp_path / "mine.yml")
    error = refusal_of_file(host, file, *host.options(tmp_path / "run"))
    assert error == f"--config-file {file}: {host.key('lr')} takes a value of type float, like 0.0003; got [1]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr:\n\tname: x\n", "cannot start any token"),
        ("", "got NoneType"),
        ("just words\n", "got str"),
        ("- one\n- two\n", "got list"),
        ("7\n", "got int"),
        ("a: !!python/object:os.system x\n", "could not determine a constructor"),
    ],
)
def test_a_file_that_holds_no_settings(text: str, expected: str, host: Host, unread: None, tmp_path: Path) -> None:
    file = tmp_path / "mine.yml"
    file.write_text(text, encoding="utf-8")
    error = refusal_of_file(host, file, *host.options(tmp_path / "run"))
    assert error.startswith(f"--config-file {file}: ")
    assert expected in error
    assert ("expected keys like" in error) == expected.startswith("got")
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_no_text(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "mine.yml"
    file.write_bytes(b"\xff\xfe\x00")
    assert refusal_of_file(host, file).startswith(f"--config-file {file}: ")


def test_all_that_is_wrong_is_told_at_once(host: Host, unread: None, tmp_path: Path) -> None:
    file = written({host.key("lr") + "x": 1, host.key("gamma"): "low"}, tmp_path / "mine.yml")
    changes = {"epochs": "many", "batch": 9, "temperature": 0, "weights": "missing.pth"}
    errors = host.command(host.name, "--config-file", file, *host.options(tmp_path / "run", **changes)).errors
    expected = (
        f"--config-file {file}: unknown key {host.key('lr')}x",
        f"--config-file {file}: {host.key('gamma')} takes a value",
        f"{host.key('epochs')} takes a value",
        f"{host.key('batch')} 9",
        f"{host.key('temperature')} must be",
        f"{host.key('weights')} missing.pth",
    )
    assert [start for start in expected if sum(error.startswith(start) for error in errors) != 1] == []
    assert len(errors) == len(expected)
    assert list(tmp_path.iterdir()) == [file]
