"""Settings of either toolbox that are wrong: a line that names the key and what it got, exit code 2, nothing left."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hosts import Host

# What is wrong, by plain names, and what the line holds, where {name} stands for the toolbox's key.
WRONG: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"lr": "fast"}, ("{lr} takes a value of type float, like 0.0003", "got 'fast'")),
    ({"temperature": 0}, ("{temperature} must be a finite number above 0, got 0.0",)),
    ({"temperature": -0.1}, ("{temperature} must be a finite number above 0, got -0.1",)),
    ({"weight": -1}, ("{weight}", "must be a finite number, 0 or above", "-1.0")),
    ({"memory_size": 7}, ("{memory_size} 7: smaller than a batch", "which has", " 8 images", "{batch}", "8 or more")),
    ({"memory_size": 0.5}, ("{memory_size} takes a value of type int, like 0", "got '0.5'")),
    ({"memory_size": -1}, ("{memory_size} must be a whole number, 0 or above, got -1",)),
    ({"memory_warmup": -1}, ("{memory_warmup} must be a whole number, 0 or above",)),
    ({"temperature_schedule": "step"}, ("{temperature_schedule} must be one of 'constant', 'linear'",)),
    (
        {"temperature_schedule": "linear"},
        ("{temperature_end} must be a finite number above 0 where the schedule is linear, got 0.0",),
    ),
    (
        {"temperature_schedule": "cosine"},
        ("{temperature_end} must be a finite number above 0 where the schedule is cosine, got 0.0",),
    ),
    ({"temperature_end": 0.1}, ("{temperature_end} must be left at 0 where the schedule is constant, got 0.1",)),
    ({"backend": "cuda"}, ("{backend} must be one of 'auto', 'unfused', 'chunked', 'triton', got 'cuda'",)),
    ({"backend": "triton"}, ("{backend} triton: needs CUDA, and the run is on the CPU; auto takes it where it runs",)),
    ({"chunk_budget": -5}, ("{chunk_budget} must be a whole number of bytes", "or 0, which chooses, got -5 bytes")),
    (
        {"backend": "chunked", "chunk_budget": 10},
        ("{chunk_budget} 10: must be 248 bytes or above, one query's row of 8 references, of which 1 may be",),
    ),
    (
        {"chunk_budget": 1000, "memory_size": 64},
        ("{chunk_budget} 1000: must be 13560 bytes or above, one query's row of 72 references, of which 17 may be",),
    ),
    ({"chunk_budget": 0.5}, ("{chunk_budget} takes a value of type int, like 0", "got '0.5'")),
    ({"distance": "cos"}, ("{distance} must be one of 'cosine', 'euclidean', got 'cos'",)),
    ({"relaxation": "tanh"}, ("{relaxation} must be one of ", "got 'tanh'")),
    ({"sort": "rank"}, ("{sort}", "got 'rank'")),
    ({"sort_weight": -1}, ("{sort_weight}", "0 or above, got -1.0")),
    ({"batch": 9}, ("{batch} 9: no multiple of {instances} 2", "8 or 10 would do")),
    ({"batch": 1}, ("{batch} 1: no multiple of {instances} 2", "2 or 4 would do")),
    ({"batch": 0}, ("{batch} 0: must be 1 or above",)),
    ({"instances": 0}, ("{instances} 0: must be 1 or above",)),
    ({"instances": 1}, ("{instances} 1: no image has a positive", "use 4, or any number from 2")),
    ({"workers": -1}, ("{workers} -1: must be 0 or above",)),
    ({"lr": -1}, ("{lr} -1.0: must be 0 or above",)),
    ({"epochs": 0}, ("{epochs} 0: must be 1 or above",)),
    ({"weights": "missing.pth"}, ("{weights} missing.pth: no such file",)),
]


@pytest.mark.parametrize(("changes", "expected"), WRONG, ids=lambda value: "-".join(map(str, value)))
def test_bad_settings(
    changes: dict[str, Any], expected: tuple[str, ...], host: Host, unread: None, tmp_path: Path
) -> None:
    output = tmp_path / "logs" / "run"
    error = host.refusal(output, **changes)
    assert [words for words in (each.format(**host.keys) for each in expected) if words not in error] == []
    assert not output.parent.exists()


def test_an_unknown_key_of_drsl(host: Host, unread: None, tmp_path: Path) -> None:
    right = host.key("temperature")
    node, dot, name = right.rpartition(".")
    wrong = node + dot + name[:5] + name[6:]
    error = host.refusal(tmp_path / "run", **{wrong: 1})
    assert error.startswith(f"unknown key {wrong}; did you mean {right}")
    assert host.refusal(tmp_path / "run", **{node: 1}).startswith(f"unknown key {node};")
    assert not (tmp_path / "run").exists()


def test_more_identities_in_a_batch_than_there_are(host: Host, tmp_path: Path) -> None:
    error = host.refusal(tmp_path / "run", batch=32)
    assert error.startswith(f"{host.key('batch')} 32: needs 16 identities ({host.key('instances')} 2")
    assert f"{host.target} has 8" in error
    assert re.search("at most 16|16 at most", error)
    assert not (tmp_path / "run").exists()


def test_the_least_budget_is_enough_when_the_memory_is_full(host: Host, tmp_path: Path) -> None:
    changes = {"epochs": 3, "memory_size": 16, "backend": "chunked"}
    error = host.refusal(tmp_path / "refused", chunk_budget=1, **changes)
    least = re.search(r"must be (\d+) bytes or above", error)
    assert least is not None
    host.train(tmp_path / "run", chunk_budget=int(least[1]), **changes)


@pytest.mark.parametrize("name", ["sources", "targets"])
def test_a_data_set_that_is_named_twice(name: str, host: Host, unread: None, tmp_path: Path) -> None:
    changes = host.evaluated_on(host.target, host.target)
    if name == "sources":
        (names,) = changes.values()
        changes = {host.several_sources: names}
    assert host.refusal(tmp_path / "run", **changes) == f"{host.key(name)} {host.target}: named 2 times; once is enough"
    assert not (tmp_path / "run").exists()
