from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import drsl_plugin
from drsl_plugin.cli import app, main
from drsl_plugin.presets import preset_names, preset_path

PRESET = "torchreid/osnet_x1_0_drsl_256x128_market1501"


def drsl(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_version() -> None:
    assert drsl("--version").output == f"{drsl_plugin.__version__}\n"


def test_module_is_the_command() -> None:
    done = python("-m", "drsl_plugin", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{drsl_plugin.__version__}\n", "")


def test_importing_the_package_imports_no_toolbox() -> None:
    done = python("-c", "import drsl_plugin, sys; print({'torchreid', 'fastreid', 'typer', 'cv2'} & set(sys.modules))")
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_help_lists_the_commands() -> None:
    result = drsl("--help")
    assert result.exit_code == 0
    listed = re.findall(r"^  (\w+)  ", result.output, flags=re.MULTILINE)
    assert {"torchreid", "fastreid", "run", "doctor", "demo", "evaluate", "presets"} <= set(listed)


def test_torchreid_help_shows_upstreams_arguments_and_one_other() -> None:
    result = drsl("torchreid", "--help")
    assert result.exit_code == 0
    options = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", result.output.split("options:")[1].split("example:")[0]))
    upstreams = {"-h", "--help", "--config-file", "-s", "--sources", "-t", "--targets", "--transforms", "--root"}
    assert options == {*upstreams, "--trust-checkpoints"}
    assert "drsl torchreid --config-file torchreid/" in result.output


def test_torchreid_help_gives_an_example_that_parses() -> None:
    from drsl_plugin.torchreid.main import configure, parser

    example = next(line for line in drsl("torchreid", "--help").output.splitlines() if line.startswith("  drsl "))
    cfg, preset, _ = configure(parser().parse_args(example.split()[2:]))
    assert (preset, cfg.data.root, cfg.train.max_epoch) == (PRESET, "reid-data", 60)


# presets


def test_presets_are_one_full_name_a_line() -> None:
    result = drsl("presets")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == preset_names()


def test_presets_on_a_terminal_are_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    app(["presets"], standalone_mode=False)
    plain = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue())
    lists = plain.split("\nrun one:")[0]
    for toolbox, text in zip(("fastreid", "torchreid"), re.split(r"torchreid/\n", lists), strict=True):
        words = text.removeprefix("fastreid/\n").split()
        assert sorted(words) == [name.partition("/")[2] for name in preset_names(toolbox)]
        assert len(text.removeprefix("fastreid/\n").splitlines()[0].split()) > 1
    assert "drsl torchreid --config-file NAME --root DIR" in plain
    assert "FASTREID_DATASETS=DIR drsl fastreid --config-file NAME" in plain


def test_presets_show() -> None:
    assert drsl("presets", "show", PRESET).stdout == preset_path(PRESET).read_text(encoding="utf-8")


def test_presets_copy_refuses_to_overwrite(tmp_path: Path) -> None:
    target = tmp_path / "new" / "mine.yaml"
    assert drsl("presets", "copy", PRESET, target).stdout == f"{target}\n"
    assert target.read_bytes() == preset_path(PRESET).read_bytes()

    target.write_text("mine", encoding="utf-8")
    result = drsl("presets", "copy", PRESET, target)
    assert (result.exit_code, result.stderr) == (2, f"drsl: error: {target} exists already and is not overwritten\n")
    assert target.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("command", [("show",), ("copy", ".")], ids=lambda command: command[0])
def test_unknown_preset(command: tuple[str, ...]) -> None:
    result = drsl("presets", command[0], "osnet_x1_0_drsl_256x128_market", *command[1:])
    assert result.exit_code == 2
    assert result.stderr.startswith("drsl: error: no preset called 'osnet_x1_0_drsl_256x128_market'; did you mean ")
    assert PRESET in result.stderr


# run


def test_run_without_a_script() -> None:
    result = drsl("run")
    assert result.exit_code == 2
    expected = "the following arguments are required: script, arguments; `drsl run --help` shows the arguments"
    assert result.stderr == f"drsl: error: {expected}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "cannot be read as a Python script ([Errno 2] No such file or directory"),
        ("import torchreid as\n", "cannot be read as a Python script (invalid syntax"),
        (
            "import torch\n",
            "it imports neither torchreid nor fastreid; say which it runs with --toolbox torchreid or fastreid",
        ),
        ("import torchreid, fastreid.engine\n", "it imports fastreid and torchreid; say which it runs with --toolbox"),
        ("import torchreid\n", "needs upstream's default_config.py with get_default_config beside it"),
    ],
)
def test_run_of_a_script_that_cannot_be_run(text: str | None, expected: str, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    if text is not None:
        script.write_text(text, encoding="utf-8")
    before = sys.path[:], sys.argv, sys.stdout
    result = drsl("run", script, "--root", "x")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"drsl: error: drsl run {script}: ")
    assert result.stderr.count("\n") == 1
    assert expected in result.stderr
    assert before == (sys.path[:], sys.argv, sys.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nonsense", "No such command 'nonsense'."),
        ("presets shw", "No such command 'shw'."),
        ("demo --epochs 0", "Invalid value for '--epochs': 0 is not in the range x>=1."),
        ("demo --seed x", "Invalid value for '--seed': 'x' is not a valid int"),
        ("demo --nope", "No such option: --nope"),
    ],
)
def test_what_typer_finds_wrong_is_one_line(
    arguments: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["drsl", *arguments.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    line, *others = capsys.readouterr().err.splitlines()
    assert not others
    assert line.startswith("drsl: error: ")
    assert message.split("'")[0].split(":")[0].strip() in line


@pytest.mark.parametrize(("arguments", "code"), [("--version", 0), ("presets", 0), ("presets show nothing", 2)])
def test_the_process_ends_with_the_commands_code(arguments: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["drsl", *arguments.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == code


def test_without_arguments_the_help_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["drsl"])
    with pytest.raises(SystemExit):
        main()
    captured = capsys.readouterr()
    assert "presets" in captured.out + captured.err
    assert "error" not in captured.err
