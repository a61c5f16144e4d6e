"""``docs/settings.md`` has every key of both toolboxes, with its default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from drsl_plugin.toolbox.merging import leaves

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


def read_table(title: str) -> dict[str, tuple[str, str]]:
    section = PAGE.read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| (.+) \|$", section, re.MULTILINE)
    table = {key: (default, where) for key, default, where in rows}
    assert len(table) == len(rows) == section.count("\n| `")
    return table


def check(title: str, defaults: dict[str, Any]) -> None:
    table = read_table(title)
    assert table.keys() == defaults.keys()
    assert {key: default for key, (default, _) in table.items()} == {k: str(v) or "''" for k, v in defaults.items()}
    known = {name for _, where in table.values() for name in re.findall(r"`([A-Za-z_]+\.[A-Za-z_.]+)", where)}
    assert known <= table.keys()


def test_torchreid() -> None:
    pytest.importorskip("drsl_plugin.torchreid.host")
    from drsl_plugin.torchreid.config import get_default_config, settings

    defaults = {key: value for key, value in settings(get_default_config()).items() if ".drsl." not in key}
    check("Torchreid", {"use_gpu": True, **defaults})


def test_fastreid() -> None:
    pytest.importorskip("drsl_plugin.fastreid.host")
    from drsl_plugin.fastreid.config import get_cfg

    check("FastReID", {key: value for key, value in leaves(get_cfg()) if ".DRSL." not in key})
