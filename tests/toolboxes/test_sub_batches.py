"""A step in sub-batches reaches the model of each toolbox from its command, and the logs stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hosts import Host
from tiny import Body, tiny
from torch import Tensor, nn

from drsl_plugin.runs.folder import RunFolder

BATCH = 8
GLOBAL_HOOKS = nn.modules.module


@pytest.fixture
def forwarded() -> Iterator[list[tuple[int, bool]]]:
    """How many images the model is given in training, and whether for a graph."""
    seen: list[tuple[int, bool]] = []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, Body) and module.training:
            seen.append((len(inputs[0]), torch.is_grad_enabled()))

    handle = GLOBAL_HOOKS.register_module_forward_pre_hook(watch)
    yield seen
    handle.remove()


def test_the_setting_reaches_the_step_and_the_logs_stay(
    host: Host, tmp_path: Path, forwarded: list[tuple[int, bool]]
) -> None:
    rows = {}
    for size in (0, 2, 4):
        forwarded.clear()
        folder = tmp_path / str(size)
        host.train(folder, **tiny(host), sub_batch=size)
        count = len(host.steps(folder))
        assert count >= 3
        in_pieces = [(size, graph) for graph in (False, True) for _ in range(BATCH // max(size, 1))]
        assert forwarded == count * (in_pieces if size else [(BATCH, True)])
        assert f"{host.key('sub_batch').rpartition('.')[2]}: {size}" in (folder / "config.yaml").read_text()
        rows[size] = RunFolder(folder).rows()
        for one, other in zip(rows[size], rows[0], strict=True):
            assert numbers(one) == pytest.approx(numbers(other), rel=1e-3)
    assert {"loss_drsl", "ranking", "sorting", "ap", "above_all"} <= rows[2][0].keys()
    assert host.of_classes <= rows[2][0].keys()


def numbers(row: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in row.items() if isinstance(value, (int, float)) and "time" not in key}


@pytest.mark.parametrize(
    ("size", "rest"), [(3, "does not divide {batch} 8; 2 or 4 would do"), (-1, "0 (off) or above")]
)
def test_a_size_that_does_not_divide_is_told_before_data_are_read(
    host: Host, size: int, rest: str, tmp_path: Path, unread: None
) -> None:
    error = host.refusal(tmp_path / "run", sub_batch=size)
    assert error.startswith(f"{host.key('sub_batch')} ")
    assert f" {size}" in error
    assert rest.format(batch=host.key("batch")) in error
    assert not (tmp_path / "run").exists()


def test_a_single_image_and_batch_norm(host: Host, tmp_path: Path) -> None:
    error = host.refusal(tmp_path / "run", sub_batch=1)
    assert error.startswith(f"{host.key('sub_batch')} 1: ")
    assert "more than 1 value per channel" in error
