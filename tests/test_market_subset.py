"""The subset of Market-1501 that small comparisons use: who is in it, that it can be drawn again, how it lies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from drsl_plugin.errors import DRSLError

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import market_subset

HOME = Path("market1501", "Market-1501-v15.09.15")
TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of Market-1501's names: 6 identities to train on, 5 to test on, distractors, junk, and what is neither.

    0012 has gallery images and no query, 0013 a query alone, and 0006 of the training images has both.
    """
    root = tmp_path_factory.mktemp("root")
    frames = {
        TRAIN: [(f"{pid:04}", 3) for pid in range(1, 7)],
        QUERY: [(f"{pid:04}", 2) for pid in (*range(7, 12), 13, 6)],
        GALLERY: [(f"{pid:04}", 4) for pid in (*range(7, 13), 6)] + [("0000", 9), ("-1", 5)],
    }
    for folder, identities in frames.items():
        (root / HOME / folder).mkdir(parents=True)
        (root / HOME / folder / "Thumbs.db").touch()
        for name, images in identities:
            for frame in range(images):
                path = root / HOME / folder / f"{name}_c{frame % 6 + 1}s1_{frame:06}_00.jpg"
                path.write_text(f"{folder}/{path.name}")
    return root


def draw(market: Path, output: Path, *arguments: str) -> dict[str, list[str]]:
    """The names of the images in each folder of a subset that the command makes."""
    market_subset.main(["--root", str(market), "--output", str(output), *arguments])
    return {
        folder: sorted(path.name for path in (output / HOME / folder).iterdir()) for folder in (TRAIN, QUERY, GALLERY)
    }


SMALL = ("--train", "3", "--test", "2", "--distractors", "4")


def identities(names: list[str]) -> set[str]:
    return {name.split("_")[0] for name in names}


def test_the_chosen_identities_are_whole_and_others_are_not_there(market: Path, tmp_path: Path) -> None:
    names = draw(market, tmp_path, *SMALL)

    trained, tested = identities(names[TRAIN]), identities(names[QUERY])
    assert len(trained) == 3
    assert len(tested) == 2
    assert trained <= {f"{pid:04}" for pid in range(1, 7)}
    assert tested <= {f"{pid:04}" for pid in range(7, 12)}  # those with queries and gallery images, not trained on
    assert identities(names[GALLERY]) == tested | {"0000"}
    assert {folder: len(files) for folder, files in names.items()} == {TRAIN: 9, QUERY: 4, GALLERY: 2 * 4 + 4}
    for folder, files in names.items():
        for name in files:
            assert (tmp_path / HOME / folder / name).read_text() == f"{folder}/{name}"


def test_a_seed_gives_the_same_subset_and_another_seed_another(market: Path, tmp_path: Path) -> None:
    first = draw(market, tmp_path / "first", *SMALL, "--seed", "1")

    assert draw(market, tmp_path / "again", *SMALL, "--seed", "1") == first
    others = [draw(market, tmp_path / f"{seed}", *SMALL, "--seed", f"{seed}") for seed in range(2, 6)]
    for folder in first:
        assert len({tuple(each[folder]) for each in [first, *others]}) > 1
    # Written down, for a change of the draw would make every published number one of another subset.
    assert identities(first[TRAIN]) == {"0002", "0005", "0006"}
    assert identities(first[QUERY]) == {"0009", "0011"}


def test_a_larger_subset_holds_the_smaller_one(market: Path, tmp_path: Path) -> None:
    small = draw(market, tmp_path / "small", *SMALL)
    large = draw(market, tmp_path / "large", "--train", "4", "--test", "3", "--distractors", "5")

    for folder, names in small.items():
        assert set(names) < set(large[folder])


def test_junk_is_there_where_it_is_asked_for(market: Path, tmp_path: Path) -> None:
    names = draw(market, tmp_path, *SMALL, "--junk", "2")

    assert sum(name.startswith("-1_") for name in names[GALLERY]) == 2
    assert "2 junk" in (tmp_path / "market_subset.txt").read_text()


def test_the_list_names_the_identities_and_counts_the_images(market: Path, tmp_path: Path) -> None:
    names = draw(market, tmp_path, *SMALL, "--seed", "7")
    text = (tmp_path / "market_subset.txt").read_text()

    assert "with seed 7\n" in text
    assert f"Train: {' '.join(sorted(identities(names[TRAIN])))}\n" in text
    assert f"Test: {' '.join(sorted(identities(names[QUERY])))}\n" in text
    assert "3 identities to train on: 9 images\n" in text
    assert "4 queries, 12 gallery images, of which 4 distractors and 0 junk\n" in text
    assert ".jpg" not in text


def test_fastreid_finds_it_too(market: Path, tmp_path: Path) -> None:
    draw(market, tmp_path, *SMALL)

    assert (tmp_path / "Market-1501-v15.09.15" / QUERY).is_dir()


def test_where_the_disk_has_no_hard_links_images_are_copied(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("Invalid cross-device link")

    linked = draw(market, tmp_path / "linked", *SMALL)
    monkeypatch.setattr("os.link", refuse)

    assert draw(market, tmp_path / "copied", *SMALL) == linked
    assert (tmp_path / "linked" / HOME / TRAIN / linked[TRAIN][0]).stat().st_nlink > 1
    copy = tmp_path / "copied" / HOME / TRAIN / linked[TRAIN][0]
    assert copy.stat().st_nlink == 1
    assert copy.read_text() == f"{TRAIN}/{copy.name}"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--train", "7"], "--train 7: there are 6"),
        (["--test", "6"], "--test 6: there are 5"),
        (["--distractors", "10"], "--distractors 10: there are 9"),
        (["--junk", "6"], "--junk 6: there are 5"),
        (["--train", "1"], "--train must be 2 or above, got 1"),
        (["--seed", "-1"], "--seed must be 0 or above, got -1"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_and_leaves_nothing(
    market: Path, tmp_path: Path, arguments: list[str], line: str
) -> None:
    with pytest.raises(DRSLError) as caught:
        draw(market, tmp_path / "output", *SMALL, *arguments)

    assert str(caught.value) == line
    assert not (tmp_path / "output").exists()


def test_a_root_without_market_1501_is_one_line_and_exit_code_2(market: Path, tmp_path: Path) -> None:
    script = Path(market_subset.__file__)
    command = [sys.executable, str(script), "--root", str(tmp_path), "--output", str(tmp_path / "output")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)

    assert result.returncode == 2
    assert result.stderr.startswith(f"error: --root {tmp_path}: no {tmp_path / HOME / TRAIN}; ")
    assert result.stderr.count("\n") == 1


def test_a_folder_that_has_one_already_is_left_alone(market: Path, tmp_path: Path) -> None:
    first = draw(market, tmp_path, *SMALL, "--seed", "1")

    with pytest.raises(DRSLError, match="is there already; delete it or name another folder"):
        draw(market, tmp_path, *SMALL, "--seed", "2")
    assert sorted(path.name for path in (tmp_path / HOME / TRAIN).iterdir()) == first[TRAIN]
