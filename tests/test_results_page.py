"""What the page of results says of the subset of Market-1501 is what the committed values give."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from statistics import mean, stdev

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/RESULTS.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = PAGE[PAGE.index("## A memory in re-ID") : PAGE.index("## From ImageNet")]
NAMES = {
    "triplet, margin 0.3": "triplet",
    "cross-entropy alone": "softmax",
    "Smooth-AP (`sort none`, `gradient slope`)": "slope, sort none",
    "Smooth-AP, memory of 1,024": "filled 1024, slope, sort none",
    "DRSL, error-driven": "error, sort angle",
    "DRSL, error-driven, centred, memory of 1,024": "filled, error, centred, memory_size 1024, sort angle",
    "DRSL, error-driven, memory of 1,024, filled": "filled 1024, error, euclidean, center False, sort angle",
    "likewise, stored in 25 steps": "memory 1024, error, euclidean, center False, sort angle",
    "likewise, centred scores": "memory 1024, error, euclidean, center True, sort angle",
}
Values = dict[str, dict[int, tuple[float, float]]]


def read(name: str) -> Values:
    """mAP and Rank-1 of each row by seed, percent."""
    values: Values = {}
    with (ROOT / "docs/results" / name).open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            of_row = values.setdefault(line["row"], {})
            of_row[int(line["seed"])] = (100 * float(line["mAP"]), 100 * float(line["rank1"]))
    return values


TORCHREID, FASTREID = read("market_subset.csv"), read("market_subset_fastreid.csv")


def cells(of_row: dict[int, tuple[float, float]], seeds: tuple[int, ...] = (1, 2, 3)) -> list[str]:
    pairs = [of_row.get(seed) for seed in seeds]
    written = ["not run" if pair is None else f"{pair[0]:.1f} / {pair[1]:.1f}" for pair in pairs]
    whole = [pair for pair in pairs if pair is not None]
    means = " / ".join(f"{mean(each):.1f}" for each in zip(*whole, strict=True))
    return [*written, means if len(whole) == len(seeds) else ""]


def tables(text: str) -> list[dict[str, list[str]]]:
    """The cells of each table of seeds, without the stars, by the rows' names in the files."""
    found = []
    for block in re.findall(r"\| with cross-entropy \|.*\n\|---.*\n((?:\|.*\n)+)", text):
        rows = [[cell.strip().strip("*") for cell in line.strip("|").split("|")] for line in block.splitlines()]
        found.append({NAMES.get(name, name.strip("`")): rest for name, *rest in rows})
    return found


@pytest.mark.parametrize("text", [SECTION, README], ids=["page", "README"])
def test_tables_are_those_of_the_files(text: str) -> None:
    torchreid, fastreid = tables(text)
    assert torchreid == {row: cells(TORCHREID[row]) for row in torchreid}
    assert fastreid == {row: cells(FASTREID[row]) for row in fastreid}
    if text == SECTION:
        assert set(torchreid) == set(TORCHREID)
        assert set(fastreid) == set(FASTREID)


def test_the_table_of_the_whole_set_is_that_of_the_file() -> None:
    whole = read("market_small.csv")
    (block,) = re.findall(r"\| whole set \|.*\n\|---.*\n((?:\|.*\n)+)", PAGE)
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in block.splitlines()]
    assert {name: rest for name, *rest in rows} == {name: cells(whole.get(name, {}), (1, 2)) for name, *_ in rows}
    assert set(whole) <= {name for name, *_ in rows}


def test_the_table_from_imagenet_is_that_of_the_file() -> None:
    found = read("market_subset_imagenet.csv")
    (block,) = re.findall(r"\| from ImageNet \|.*\n\|---.*\n((?:\|.*\n)+)", PAGE)
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in block.splitlines()]
    assert dict(rows) == {name: cells(values, (1,))[0] for name, values in found.items()}
    more = [
        found[f"{toolbox}, error"][1][0] - found[f"{toolbox}, {other}"][1][0]
        for toolbox, other in (("Torchreid", "triplet"), ("Torchreid", "Smooth-AP"), ("FastReID", "triplet"))
    ]
    assert "{:.1f} above triplet and {:.1f} above Smooth-AP in Torchreid, and {:.1f} above triplet".format(
        *more
    ) in " ".join(PAGE.split())


def difference(values: Values, row: str, other: str) -> str:
    """Mean difference of mAP and its standard error, paired by seed."""
    less = [values[row][seed][0] - values[other][seed][0] for seed in (1, 2, 3)]
    return f"{mean(less):+.2f} ± {stdev(less) / 3**0.5:.2f}".replace("-", "−")


def test_differences_are_those_of_the_files() -> None:
    smooth_ap, with_memory = "slope, sort none", "filled 1024, slope, sort none"
    drsl = "filled, error, centred, memory_size 1024, sort angle"
    pairs = [
        (smooth_ap, "triplet"),
        (with_memory, smooth_ap),
        (drsl, "triplet"),
        (drsl, smooth_ap),
        (drsl, with_memory),
    ]
    pairs += [("error, sort angle", smooth_ap), (drsl, "error, sort angle")]
    expected = [difference(TORCHREID, *pair) for pair in pairs]
    expected += [
        difference(FASTREID, NAMES[label], "triplet")
        for label in list(NAMES)
        if NAMES[label] in FASTREID and label.startswith(("DRSL", "likewise"))
    ]
    assert re.findall(r"[+−]\d+\.\d\d ± \d\.\d\d", SECTION) == expected
