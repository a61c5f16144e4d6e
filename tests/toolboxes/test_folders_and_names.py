"""A data set in Market-1501's layout whose folders or file names its reader cannot take: one line before the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hosts import Host

FOLDERS = {"bounding_box_train": "sources", "query": "targets", "bounding_box_test": "targets"}


@pytest.fixture
def away(host: Host, tmp_path: Path) -> Host:
    """The toolbox with a copy of the data set."""
    return type(host)(shutil.copytree(host.root, tmp_path / "data", symlinks=True))


def folder(host: Host, name: str) -> Path:
    """One of the three folders, as the toolbox spells it."""
    return host.root / host.market / name


def empty(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()


@pytest.mark.parametrize("name", FOLDERS)
def test_an_empty_folder(name: str, away: Host, unread: None, tmp_path: Path) -> None:
    path = folder(away, name)
    empty(path)
    error = away.refusal(tmp_path / "run")
    assert error.startswith(f"{path}: no image that ends in .jpg, in small letters; expected names like 0002_c1s1_")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("ending", [".png", ".JPG"])
def test_images_of_another_ending(ending: str, away: Host, unread: None, tmp_path: Path) -> None:
    path = folder(away, "query")
    count = len([file.rename(file.with_suffix(ending)) for file in path.glob("*.jpg")])
    error = away.refusal(tmp_path / "run")
    assert error.startswith(f"{path}: {count} {ending} and none that ends in .jpg, in small letters")
    assert "rename them so" in error


def test_some_images_of_another_ending_are_told_to_be_left_out(away: Host, tmp_path: Path) -> None:
    path = folder(away, "query")
    first = sorted(path.glob("*.jpg"))[0]
    first.rename(first.with_suffix(".png"))
    away.train(tmp_path / "run")
    assert f"{path}: 1 .png are left out, since the reader takes names that end in .jpg" in away.log(tmp_path / "run")


@pytest.mark.parametrize("odd", ["set [x]", "a*b"])
def test_a_path_in_which_the_reader_sees_a_pattern(odd: str, host: Host, unread: None, tmp_path: Path) -> None:
    shutil.copytree(host.root, tmp_path / "a and b", symlinks=True)  # whose images a*b would find, too
    away = type(host)(shutil.copytree(host.root, tmp_path / odd, symlinks=True))
    errors = away.run(tmp_path / "run").errors
    assert [error.partition(": ")[0] for error in errors] == [str(folder(away, name)) for name in FOLDERS]
    assert all("its path has [, * or ?, in which the reader sees a pattern" in error for error in errors)


def test_brackets_that_are_no_pattern(host: Host, tmp_path: Path) -> None:
    type(host)(shutil.copytree(host.root, tmp_path / "set [x", symlinks=True)).train(tmp_path / "run")


def test_a_path_that_the_reader_takes_for_a_person(host: Host, unread: None, tmp_path: Path) -> None:
    away = type(host)(shutil.copytree(host.root, tmp_path / "12_c3", symlinks=True))
    errors = away.run(tmp_path / "run").errors
    assert [error.partition(": ")[0] for error in errors] == [str(folder(away, name)) for name in FOLDERS]
    assert all("the reader would take 12_c3 in this path for person and camera" in error for error in errors)


NAMES = {
    "1502_c1s1_000001_00.jpg": "the reader takes persons from 0 to 1501 alone; number them so, or register a class",
    "-2_c1s1_000001_00.jpg": "the reader takes persons from 0 to 1501 alone",
    "0002_c7s1_000001_00.jpg": "the reader takes cameras from 1 to 6 alone",
    "0002_c0s1_000001_00.jpg": "the reader takes cameras from 1 to 6 alone",
    "0002_c12s1_000001_00.jpg": "the reader takes cameras from 1 to 6 alone, in one digit",
    "0002_c01s1_000001_00.jpg": "the reader takes cameras from 1 to 6 alone, in one digit",
    "holiday.jpg": "the reader finds no person and camera in this name; expected one like 0002_c1s1_",
    "0001-2_c1s1_000001_00.jpg": "the reader finds no person and camera in this name",
}


@pytest.mark.parametrize("place", FOLDERS)
@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_the_reader_cannot_take(name: str, place: str, away: Host, unread: None, tmp_path: Path) -> None:
    path = folder(away, place)
    shutil.copy(next(path.glob("*.jpg")), path / name)
    error = away.refusal(tmp_path / "run")
    assert error.startswith(f"{path / name}: {NAMES[name]}")


def test_many_names_of_a_kind_are_one_line(away: Host, unread: None, tmp_path: Path) -> None:
    path = folder(away, "bounding_box_train")
    for file in path.glob("*.jpg"):
        file.rename(path / f"9{file.name}")
    count = len(list(path.glob("*.jpg")))
    assert away.refusal(tmp_path / "run").endswith(f"({count - 1} more of this kind)")


def test_nothing_but_junk(away: Host, unread: None, tmp_path: Path) -> None:
    path = folder(away, "query")
    for number, file in enumerate(sorted(path.glob("*.jpg"))):
        file.rename(path / f"-1_c1s1_{number:06d}_00.jpg")
    assert away.refusal(tmp_path / "run").startswith(f"{path}: all its images are of person -1, which the reader")


def test_hidden_files_are_nobodys_business(away: Host, tmp_path: Path) -> None:
    (folder(away, "query") / "._0002_c1s1_000001_00.jpg").write_bytes(b"of a Mac")
    away.train(tmp_path / "run")


# Of other sets: what their readers fail on

LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0000/holiday.jpg 0", "IndexError: list index out of range"),
        ("0000/0000_000_01_0303morning_0008_0.jpg zero", "ValueError: invalid literal for int() with base 10: 'zero"),
    ],
)
def test_a_list_with_a_line_that_msmt17s_reader_cannot_take(line: str, reason: str, host: Host, tmp_path: Path) -> None:
    spelled, below = {"torchreid": ("msmt17", "msmt17"), "fastreid": ("MSMT17", "")}[host.name]
    home = tmp_path / "data" / below / "MSMT17_V1"
    for name in ("train", "test"):
        (home / name).mkdir(parents=True)
    for name in LISTS:
        (home / name).write_text("0000/0000_000_01_0303morning_0008_0.jpg 0\n", encoding="utf-8")
    (home / LISTS[2]).write_text(f"{line}\n", encoding="utf-8")
    error = type(host)(tmp_path / "data").refusal(tmp_path / "run", **host.sets([spelled], [spelled]))
    assert f" {spelled}: its class cannot read {line.split()[0]}" in error
    assert reason in error
    assert " in msmt17.py:" in error
    assert str(tmp_path / "data") in error
    assert not (tmp_path / "run").exists()


def test_lists_that_are_empty(host: Host, tmp_path: Path) -> None:
    spelled, below = {"torchreid": ("msmt17", "msmt17"), "fastreid": ("MSMT17", "")}[host.name]
    home = tmp_path / "data" / below / "MSMT17_V1"
    for name in ("train", "test"):
        (home / name).mkdir(parents=True)
    for name in LISTS:
        (home / name).touch()
    error = type(host)(tmp_path / "data").refusal(tmp_path / "run", **host.sets([spelled], [spelled]))
    assert f" {spelled}: its class found no " in error
    assert str(home / "t") in error
