"""Data sets of a user's own, registered with the toolbox: labels that it cannot train with are told before it tries."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hosting import Samples
from hosts import Host

Change = Callable[[str, tuple[Any, ...]], tuple[Any, ...]]


def read_rendered(host: Host) -> Samples:
    """The rendered set as a class of one's own would read it, with training labels from 0."""
    samples: Samples = {}
    folders = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    for part, folder in folders.items():
        found = [(str(path), *map(int, path.name.split("s")[0].split("_c"))) for path in images(host, folder)]
        labels = {pid: label for label, pid in enumerate(sorted({pid for _, pid, _ in found}))}
        samples[part] = [(path, labels[pid] if part == "train" else pid, camera) for path, pid, camera in found]
    return samples


def images(host: Host, folder: str) -> list[Path]:
    return sorted(path for path in (host.root / host.market / folder).glob("*.jpg") if path.name[0] != "-")


@pytest.fixture
def own(host: Host, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``own("mine", change)``: a set of one's own by this name, with what ``change`` makes of part and sample."""

    def register(name: str = "mine", change: Change = lambda part, sample: sample) -> None:
        samples = read_rendered(host)
        changed = {part: [change(part, sample) for sample in each] for part, each in samples.items()}
        host.register(monkeypatch, name, lambda found: {part: list(each) for part, each in changed.items()})

    return register


def refusal(host: Host, tmp_path: Path, sources: tuple[str, ...] = ("mine",), **changes: Any) -> str:
    error = host.refusal(tmp_path / "run", **host.sets(sources, ["mine"]), **changes)
    assert not (tmp_path / "run").exists()
    return error


def option(host: Host, part: str) -> str:
    return host.key("sources" if part == "train" else "targets")


def test_a_set_of_ones_own_trains(host: Host, own: Callable[..., None], tmp_path: Path) -> None:
    own()
    host.train(tmp_path / "run", **host.sets(["mine"], ["mine"]))


@pytest.mark.parametrize("value", ["7", 7.0, np.float32(7)])
@pytest.mark.parametrize("part", ["query", "gallery"])
@pytest.mark.parametrize("column", [1, 2])
def test_labels_of_the_evaluation_that_are_no_integers(
    value: object, part: str, column: int, host: Host, own: Callable[..., None], tmp_path: Path
) -> None:
    own(change=lambda name, sample: (*sample[:column], value, *sample[column + 1 :]) if name == part else sample)
    error = refusal(host, tmp_path)
    what = {1: "identities", 2: "cameras"}[column]
    assert re.match(rf"{option(host, part)} mine: {what} of its {part if part == 'gallery' else 'queries'}", error)
    assert f"must be int, got {type(value).__name__}" in error


def test_paths_that_are_no_text(host: Host, own: Callable[..., None], tmp_path: Path) -> None:
    own(change=lambda part, sample: (Path(sample[0]), *sample[1:]))
    error = refusal(host, tmp_path)
    assert "paths of its " in error
    assert "must be str, got PosixPath" in error


@pytest.mark.parametrize("part", ["train", "query", "gallery"])
def test_nothing_is_found(part: str, host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host.register(monkeypatch, "mine", lambda found: {**read_rendered(host), part: []})
    what = {"train": "training images", "query": "queries", "gallery": "gallery images"}[part]
    assert f" mine: its class found no {what}; see that the files are there" in refusal(host, tmp_path)


def test_a_class_that_fails_on_a_file(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def read(found: Any) -> Samples:
        for img_path in images(host, "query"):
            int(img_path.name)
        return {}

    host.register(monkeypatch, "mine", read)
    error = refusal(host, tmp_path)
    assert re.search(
        r" mine: its class cannot read \S+: ValueError: invalid literal .* in test_own_sets\.py:\d+ \(", error
    )
    assert "raised by `int(img_path.name)`" in error


def test_identities_of_several_types(host: Host, own: Callable[..., None], tmp_path: Path) -> None:
    own("mine")
    own("text", lambda part, sample: (sample[0], f"text_{sample[1]}", *sample[2:]) if part == "train" else sample)
    error = refusal(host, tmp_path, ("mine", "text"))
    assert "identities of " in error
    assert "str 'text_0' of " in error


# Where the toolboxes differ


def test_training_labels_with_a_gap(host: Host, own: Callable[..., None], tmp_path: Path) -> None:
    own(change=lambda part, sample: (sample[0], 3 * sample[1] + 1, *sample[2:]) if part == "train" else sample)
    if host.name == "fastreid":  # which numbers them itself
        host.train(tmp_path / "run", **host.sets(["mine"], ["mine"]))
        return
    error = refusal(host, tmp_path)
    assert error.startswith("--sources mine: identities of its training samples must be 0 to 7, as there are 8, got ")
    assert "from 1 to 22; number them so in its class" in error


def test_numbers_of_numpy(host: Host, own: Callable[..., None], tmp_path: Path) -> None:
    own(change=lambda part, sample: (sample[0], np.int64(sample[1]), *sample[2:]))
    if host.name == "torchreid":  # which makes batches of them
        host.train(tmp_path / "run", **host.sets(["mine"], ["mine"]))
    else:  # which makes None of them
        assert "must be int, got int64" in refusal(host, tmp_path)


def test_the_same_numbers_in_two_sets(host: Host, own: Callable[..., None], tmp_path: Path) -> None:
    own("mine")
    own("other")
    host.train(tmp_path / "run", **host.sets(["mine", "other"], ["mine"]))
    warned = "mine, other: 8 identities, such as 0, are in both and become one class" in host.log(tmp_path / "run")
    assert warned == (host.name == "fastreid")  # Torchreid counts on behind those of the first


def test_a_set_of_ones_own_is_looked_through(host: Host, own: Callable[..., None], tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.touch()
    first = read_rendered(host)["train"][0][0]
    own(change=lambda part, sample: (str(bad), *sample[1:]) if sample[0] == first else sample)
    host.train(tmp_path / "run", **host.sets(["mine"], ["mine"]), skip=True)
    assert f"left out: {bad}: cannot be read as an image (it is empty)" in host.log(tmp_path / "run")
