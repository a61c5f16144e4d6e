from __future__ import annotations

from pathlib import Path

import pytest
from hosts import HOSTS, Host
from watching import Call, watch_losses


@pytest.fixture(scope="session", params=HOSTS)
def host(request: pytest.FixtureRequest, demo_root: Path) -> Host:
    """Each toolbox in turn, with the rendered Market-1501."""
    pytest.importorskip(f"drsl_plugin.{request.param}.host")
    return HOSTS[request.param](demo_root)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What the losses of the runs of a test get, call by call."""
    return watch_losses(monkeypatch)
