from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="session")
def trained(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``trained(epochs=2)``: the folder of a run with these changes, trained once; copy it to write there."""
    made: dict[str, Path] = {}

    def folder(**changes: Any) -> Path:
        key = str(sorted(changes.items()))
        if key not in made:
            path = tmp_path_factory.mktemp(f"{host.name}-trained") / "run"
            host.train(path, **changes)
            made[key] = path
        return made[key]

    return folder


@pytest.fixture
def unread(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that must not be read: what is wrong is known before."""

    def read(*args: Any, **kwargs: Any) -> None:
        pytest.fail("data were read")

    monkeypatch.setattr(host.data_set, "__init__", read)
