"""Whatever lies on disk and is typed: a run, or a line for each thing that is wrong; never a traceback, nor a hang.

``DRAWS=1000 pytest tests/toolboxes/test_fuzzing.py`` draws more.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from drawing import draw
from hosting import flat
from hosts import HOSTS, Host
from tiny import tiny

DRAWS = int(os.environ.get("DRAWS", "50"))
"""Of each toolbox."""
FIRST = int(os.environ.get("FIRST_DRAW", "0"))
SECONDS = 30


class Hanging(BaseException):
    """Nothing that a toolbox takes for an unreadable file."""


@pytest.fixture
def alarm() -> Iterator[None]:
    """An error where a run hangs."""

    def ring(*_: Any) -> None:
        raise Hanging(f"no end after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("seed", range(FIRST, FIRST + DRAWS))
def test_a_run_or_a_line(host: Host, demo_root: Path, tmp_path: Path, seed: int) -> None:
    drawn = draw(seed, demo_root, tmp_path / "set", host.typed)
    ended = HOSTS[host.name](drawn.root).run(tmp_path / "run", **{**tiny(host), **drawn.changes})
    if ended.code:
        assert ended.errors, str(drawn)
        return
    resolved = flat(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8")))
    for key, value in drawn.changes.items():
        assert same(resolved[key], value), f"{key} is {resolved[key]!r} of {drawn}"


def same(found: Any, typed: Any) -> bool:
    """Whether a value is what was typed, whatever its type."""
    return str(found).replace("'", "") == str(typed).replace("'", "") or (str(typed) == "nan" and found != found)
