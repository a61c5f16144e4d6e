from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hosts import FastReID


@pytest.fixture
def fastreid_root(demo_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The rendered Market-1501 as FastReID's root of data sets, in this process and in those that it starts."""
    from drsl_plugin.fastreid.host import fastreid

    monkeypatch.setenv("FASTREID_DATASETS", str(demo_root))
    monkeypatch.setattr(fastreid.data.build, "_root", str(demo_root))
    return demo_root


@pytest.fixture(scope="session")
def fastreid_options() -> Callable[..., list[str]]:
    """``fastreid_options(output_dir, **{"SOLVER.BASE_LR": 0.1})``: the options of the smallest run, with changes."""

    def options(output_dir: Path, **changes: Any) -> list[str]:
        settings = {**FastReID.smallest, "OUTPUT_DIR": output_dir, **changes}
        return [str(word) for pair in settings.items() for word in pair]

    return options


@pytest.fixture(scope="session")
def host(demo_root: Path) -> FastReID:
    """The toolbox as the tests of both see it."""
    return FastReID(demo_root)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The folder of a run, below one that is yet to be made too."""
    return tmp_path / "logs" / "run"


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The trainable tensors that each step moved, filled step by step."""
    from trained_models import watch_moves

    return watch_moves(monkeypatch)


@pytest.fixture
def log_handlers() -> Iterator[None]:
    """FastReID's log as it was, whoever sets it up meanwhile."""
    from drsl_plugin.fastreid.host import fastreid

    logger = logging.getLogger("fastreid")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before
    fastreid.utils.logger.setup_logger.cache_clear()
    fastreid.utils.logger._cached_log_stream.cache_clear()
