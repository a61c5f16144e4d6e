"""Two runs, or two states, that are to be the same bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hosts import Host

from drsl_plugin.runs.folder import RunFolder


def content(folder: Path) -> dict[Path, bytes]:
    """The files of a folder, and what is in them; of a log only that it is there, since every attempt is logged."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: b"" if path.name == "log.txt" else path.read_bytes() for path in files}


def flat(state: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a checkpoint, each with its place."""
    if isinstance(state, (dict, list, tuple)):
        for key, value in state.items() if isinstance(state, dict) else enumerate(state):
            yield from flat(value, f"{at}/{key}")
    else:
        yield at, state


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    return np.array_equal(one, other) if isinstance(one, np.ndarray) else bool(one == other)


def unequal(one: Any, other: Any) -> list[str]:
    """The places where two states differ."""
    first, second = dict(flat(one)), dict(flat(other))
    return [at for at in first | second if not equal(first.get(at), second.get(at))]


def assert_equal_runs(host: Host, one: Path, other: Path) -> None:
    """The metrics, the features and what the checkpoints hold: the same values, in files of the same names."""
    assert RunFolder(one).rows() == RunFolder(other).rows()
    first, second = host.checkpoints(one), host.checkpoints(other)
    assert first.keys() == second.keys() >= {host.checkpoint(other).name}
    for name, state in first.items():
        assert set(unequal(state, second[name])) <= host.of_this_process, name
    with np.load(host.features(one)) as found, np.load(host.features(other)) as expected:
        assert found.files == expected.files
        assert all(np.array_equal(found[name], expected[name]) for name in found.files)
