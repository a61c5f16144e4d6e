"""What FastReID says of errors and of very short runs, and what it does where its evaluator cannot be compiled.

When the half of a test fails that asks the stock toolbox, FastReID or torch has mended the fault, and the function that
the docstring names can go.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toys import config

from drsl_plugin.errors import DRSLError
from drsl_plugin.fastreid.compat import (
    hide_known_errors,
)
from drsl_plugin.fastreid.evaluation import FeatureEvaluator, _can_compile
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.recording import LinePrinter


@pytest.fixture
def fastreid_log() -> Iterator[list[str]]:
    """What FastReID and the package log, a line each."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname} {record.getMessage()}")

    handler = Keep()
    logging.getLogger("fastreid").addHandler(handler)
    yield lines
    logging.getLogger("fastreid").removeHandler(handler)


class FailingLoop(fastreid.engine.TrainerBase):  # type: ignore[misc]
    """FastReID's loop around a step that fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def run_step(self) -> None:
        raise self.error


@pytest.fixture
def loop_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("fastreid.engine.train_loop")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_stock_loop_logs_tracebacks(loop_log: pytest.LogCaptureFixture) -> None:
    """When the first half fails, FastReID logs no tracebacks of its own, and ``compat.hide_known_errors`` can go."""

    def logged(error: Exception) -> bool:
        loop_log.clear()
        with pytest.raises(type(error)):
            FailingLoop(error).train(0, 1, 1)
        return any(record.exc_info for record in loop_log.records)

    assert logged(DRSLError("a line"))
    filters = logging.getLogger("fastreid.engine.train_loop").filters[:]
    with hide_known_errors():
        assert not logged(DRSLError("a line"))
        assert logged(ValueError("something else"))
    assert logging.getLogger("fastreid.engine.train_loop").filters == filters


@pytest.mark.usefixtures("log_handlers")
def test_stock_printer_divides_by_zero(fastreid_log: list[str]) -> None:
    """When the first half fails, FastReID prints epochs of one or two steps, and ``LinePrinter.write`` can go."""
    logging.getLogger("fastreid").setLevel(logging.INFO)
    with fastreid.utils.events.EventStorage(5) as storage:
        storage.epoch = 0
        storage.put_scalars(loss_drsl=0.5, drsl_ap=0.25, drsl_above_all=0.125, drsl_ranking=0.75, lr=0.1)
        stock = fastreid.utils.events.CommonMetricPrinter(10)
        stock.write()
        with pytest.raises(ZeroDivisionError):
            stock.write()

        fastreid_log.clear()
        printer = LinePrinter(10)
        printer.write()
        printer.write()
        storage.iter = 6
        printer.write()
        storage.iter = 10
        printer.write()
    values = "loss_drsl: 0.5 drsl_ap: 0.25 drsl_above_all: 0.125 lr: 1.00e-01"
    steps = [" ".join(line.split()) for line in fastreid_log]
    assert steps[:2] == [f"INFO epoch/iter: 0/5 {values}"] * 2
    assert steps[2:] == [f"INFO eta: 0:00:00 epoch/iter: 0/6 {values}"], "and nothing after the last step"


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_handlers: None) -> Iterator[Callable[..., Path]]:
    """``made = build(2)``: a ``make`` that ends with 2 is to build FastReID's Cython part, and leaves a file."""
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setitem(sys.modules, "fastreid.evaluation.rank_cylib.rank_cy", None)
    logging.getLogger("fastreid").setLevel(logging.INFO)

    def make(code: int, *obstacles: str) -> Path:
        (tools / "make").write_text(f"#!/bin/sh\n: > {tmp_path}/made\nexit {code}\n")
        (tools / "make").chmod(0o755)
        monkeypatch.setattr("drsl_plugin.fastreid.evaluation.build_obstacles", lambda _folder: obstacles)
        return tmp_path / "made"

    _can_compile.cache_clear()
    yield make
    _can_compile.cache_clear()


@pytest.mark.skipif(os.name == "nt", reason="its make is a shell script")
def test_stock_evaluator_exits_without_compiler(build: Callable[..., Path], fastreid_log: list[str]) -> None:
    """When the first half fails, FastReID evaluates uncompiled; ``FeatureEvaluator._compile_dependencies`` can go."""
    made = build(2)
    with pytest.raises(SystemExit):
        fastreid.evaluation.ReidEvaluator(config(), 2)
    made.unlink()
    fastreid_log.clear()
    FeatureEvaluator(config(), 2)
    assert made.exists(), "where nothing is known to keep it from being built, it is tried"
    assert fastreid_log[-1] == "WARNING Evaluation runs in Python: FastReID's Cython code could not be built"


@pytest.mark.skipif(os.name == "nt", reason="its make is a shell script")
def test_where_it_can_be_built_it_is(build: Callable[..., Path], fastreid_log: list[str]) -> None:
    made = build(0)
    FeatureEvaluator(config(), 2)
    assert made.exists()
    assert not any("Evaluation runs in Python" in line for line in fastreid_log)


def test_where_it_cannot_be_built_nothing_is_tried(build: Callable[..., Path], fastreid_log: list[str]) -> None:
    made = build(2, "no Cython", "no C compiler")
    for _ in range(2):
        FeatureEvaluator(config(), 2)
    assert not made.exists()
    line = "INFO Evaluation runs in Python: FastReID's Cython part cannot be built here (no Cython, no C compiler)"
    assert fastreid_log == [line], "said once"
