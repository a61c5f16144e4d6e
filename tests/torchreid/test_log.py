"""The run's log, and the console that it stands in for."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from drsl_plugin.torchreid.log import Console, RunLog

PROGRAM = """
import sys
from pathlib import Path
from drsl_plugin.torchreid.log import RunLog
with RunLog(echo=True) as log:
    print("before")
    log.open(Path(sys.argv[1]), "train")
    print("after")
del log
print("the console is open")
"""


@pytest.mark.parametrize("echo", [True, False])
def test_the_log_holds_all_and_the_console_what_it_is_told(
    echo: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunLog(echo=echo) as log:
        print("before")
        path = log.open(tmp_path / "run", "train")
        print("after")
    assert path.read_text() == "before\nafter\n"
    assert path.name.startswith("train.log-")
    assert capsys.readouterr().out == ("before\nafter\n" if echo else "")


def test_nothing_is_written_before_the_log_is_opened(tmp_path: Path) -> None:
    with RunLog(echo=False):
        print("an error follows")
    assert list(tmp_path.iterdir()) == []


def test_a_log_leaves_nothing_behind_to_complain_of(tmp_path: Path) -> None:
    """Python 3.13, and before it the development mode, print what goes wrong when a file is collected."""
    command = [sys.executable, "-X", "dev", "-W", "ignore", "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "before\nafter\nthe console is open\n"
    assert done.stderr == ""


def test_a_console_survives_being_closed() -> None:
    stream = io.StringIO()
    console = Console(stream)
    console.close()
    print("still here", file=stream)
    assert not console.isatty()
