from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hosts import Host, Torchreid
from small_galleries import make_small


@pytest.fixture(scope="session")
def small_options() -> Callable[..., list[str]]:
    """``small_options(root, save_dir, **{"train.lr": 0.1})``: the arguments of the smallest run, with changes."""

    def options(root: Path, save_dir: Path, **changes: Any) -> list[str]:
        settings = {**Torchreid.smallest, "data.root": root, "data.save_dir": save_dir, **changes}
        return [str(word) for pair in settings.items() for word in pair]

    return options


@pytest.fixture(scope="session")
def host(demo_root: Path) -> Torchreid:
    """The toolbox as the tests of both see it."""
    return Torchreid(demo_root)


@pytest.fixture(scope="session")
def small(host: Torchreid, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """Torchreid with a small gallery."""
    return make_small(host, tmp_path_factory.mktemp("small") / "data")
