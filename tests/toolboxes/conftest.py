from __future__ import annotations

from pathlib import Path

import pytest
from hosts import HOSTS, Host
from jobs import do_as_one, do_as_two
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


@pytest.fixture(scope="session")
def one(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process left of the jobs whose gradients are to be those of two."""
    return do_as_one(host, tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="session")
def two(host: Host, tmp_path_factory: pytest.TempPathFactory, one: Path) -> Path:
    """What a world of two processes left."""
    return do_as_two(host, tmp_path_factory.mktemp("two"), one)
