"""Files of a data set that are no images: one line each, before or during a training; left out where that is asked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hosts import Host
from PIL import Image

from drsl_plugin.runs.features import read_features

DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:500]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not an image", encoding="utf-8"),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


def images(root: Path, folder: str) -> list[Path]:
    """The images of the rendered set in one of its three folders."""
    return sorted(root.resolve().glob(f"market1501/*/{folder}/*.jpg"))


def named(path: Path) -> str:
    """The end of a path as both toolboxes spell it: FastReID has the set by a link."""
    return f"Market-1501-v15.09.15/{path.parent.name}/{path.name}"


@pytest.fixture
def away(host: Host, tmp_path: Path) -> Host:
    """The toolbox with a copy of the data set."""
    return type(host)(shutil.copytree(host.root, tmp_path / "data", symlinks=True))


@pytest.mark.parametrize(("damage", "workers"), [*((damage, 0) for damage in DAMAGES), ("cut off", 1)])
def test_a_training_image_that_is_none(damage: str, workers: int, away: Host, tmp_path: Path) -> None:
    path = images(away.root, "bounding_box_train")[3]
    DAMAGES[damage](path)
    ended = away.run(tmp_path / "run", workers=workers, batch=16, instances=2)
    file, _, reason = ended.error.partition(": cannot be read as an image (")
    assert file.endswith(named(path))
    assert reason.endswith(f"); put it right, or leave out what cannot be read by {away.key('skip')} True")
    assert "Will redo" not in ended.output


@pytest.mark.parametrize("folder", ["query", "bounding_box_test"])
def test_an_image_of_the_evaluation_that_is_none(folder: str, away: Host, tmp_path: Path) -> None:
    path = images(away.root, folder)[-1]
    DAMAGES["cut off"](path)
    error = away.refusal(tmp_path / "run")
    assert error.partition(": cannot be read as an image (")[0].endswith(named(path))


def test_a_file_that_can_be_read_the_second_time(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stock, refused = Image.open, set()

    def stumbling(file: object, *args: object, **kwargs: object) -> Image.Image:
        name = getattr(file, "name", file)
        if len(refused) < 5 and name not in refused:
            refused.add(name)
            raise OSError("the file server has gone to lunch")
        return stock(file, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Image, "open", stumbling)
    host.train(tmp_path / "run")
    assert len(refused) == 5


def test_files_that_cannot_be_read_are_left_out(away: Host, tmp_path: Path) -> None:
    train = images(away.root, "bounding_box_train")
    first = [path for path in train if path.name[:4] == train[0].name[:4]]
    distractor = next(path for path in images(away.root, "bounding_box_test") if path.name.startswith("0000"))
    bad = [*first, train[-1], images(away.root, "query")[0], distractor]
    for path, damage in zip(bad, [*DAMAGES.values(), *DAMAGES.values()], strict=False):
        damage(path)
    run = tmp_path / "run"
    away.train(run, skip=True)
    told = [line.partition("left out: ")[2] for line in away.log(run).splitlines() if "left out" in line]
    assert {line.partition(": cannot be read")[0].rpartition("/")[2] for line in told} == {path.name for path in bad}
    paths = read_features(away.features(run)).query_paths
    assert paths is not None
    assert {Path(path).name for path in paths} == {path.name for path in images(away.root, "query") if path not in bad}
    # The identity of which nothing is left is no class: the others are numbered without it.
    weights = away.parameters(away.checkpoint(run))
    assert {len(each) for name, each in weights.items() if name in ("classifier.weight", "heads.weight")} == {7}


def test_nothing_is_left(away: Host, tmp_path: Path) -> None:
    for path in images(away.root, "query"):
        DAMAGES["text"](path)
    error = away.refusal(tmp_path / "run", skip=True)
    assert error == f"{away.key('skip')} True: none of the queries of {away.target} can be read"


def test_what_is_left_fills_no_batch(away: Host, tmp_path: Path) -> None:
    for path in images(away.root, "bounding_box_train")[4:]:
        DAMAGES["empty"](path)
    error = away.refusal(tmp_path / "run", skip=True)
    assert error.startswith(f"{away.key('batch')} 8: needs 4 identities")
    assert f"{away.target} has 1" in error
