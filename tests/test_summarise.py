"""The summary of runs: numbers computed by hand, pairs by seed and by name, and what cannot be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from drsl_plugin.errors import DRSLError
from drsl_plugin.reproduce.results import ResultTable, RunResult
from drsl_plugin.reproduce.tables import runs_to_csv

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import summarise

METRICS = ("mAP", "mINP", "rank1", "rank5", "rank10", "rank20")

# By row: seed and mAP in percent. b has seed 3 that a has not, and lacks seed 2.
RUNS = {
    "a": {1: 50, 2: 52, 4: 57},
    "b": {1: 51, 3: 90, 4: 60},
    "x none, t 1": {1: 10, 2: 20},
    "y none, t 2": {1: 30, 2: 40},
    "z none, t 9": {1: 99},
    "x angle, t 1, w": {1: 11, 2: 22},
    "y angle, t 2, w": {1: 29, 2: 44},
}


def write(path: Path, runs: dict[str, dict[int, float]] = RUNS, data: str = "market1501") -> Path:
    """A file as ``drsl reproduce`` writes it: Rank-1 is a tenth above mAP."""
    results = [
        RunResult(row, "torchreid", data, seed, {name: value / 100 + (name == "rank1") / 10 for name in METRICS})
        for row, values in runs.items()
        for seed, value in values.items()
    ]
    path.write_text(runs_to_csv(ResultTable("", [], [], runs=results)), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write(Path("runs.csv"))


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    summarise.main([*map(str, arguments)])
    return capsys.readouterr().out


def table(text: str, heading: str) -> dict[str, list[str]]:
    """The cells of the lines below a heading of a table's first column, by their first."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    found = {}
    for line in [lines[start], *lines[start + 2 :]]:
        if not line:
            break
        first, *others = (cell.strip() for cell in line.strip("|").split(" | "))
        found[first.replace("\\", "")] = others
    return found


def test_each_row_has_its_mean_deviation_and_values_by_seed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = table(printed(capsys, file), "row")

    assert found["row"] == ["mean", "sd", "n", "seed 1", "seed 2", "seed 3", "seed 4"]
    # a: mean 159 / 3 = 53; deviations -3, -1, 4: sd = sqrt(26 / 2) = 3.6056
    assert found["a"] == ["53.00", "3.61", "3", "50.00", "52.00", "—", "57.00"]
    # b: mean 67; deviations -16, 23, -7: sd = sqrt(834 / 2) = 20.4206
    assert found["b"] == ["67.00", "20.42", "3", "51.00", "—", "90.00", "60.00"]
    assert found["z none, t 9"] == ["99.00", "—", "1", "99.00", "—", "—", "—"]


def test_rank_1_follows_in_a_section_of_its_own(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, file)

    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "## runs.csv, market1501, mAP",
        "## runs.csv, market1501, rank1",
    ]
    second = text[text.index("rank1") :]
    assert table(second, "row")["a"] == ["63.00", "3.61", "3", "60.00", "62.00", "—", "67.00"]
    only = printed(capsys, file, "--metrics", "mINP")
    assert [line for line in only.splitlines() if line.startswith("#")] == ["## runs.csv, market1501, mINP"]


def test_differences_to_a_baseline_are_paired_by_seed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = table(printed(capsys, file, "--baseline", "a"), "less a")

    assert found["less a"] == ["mean difference", "standard error", "above 0", *(f"seed {n}" for n in (1, 2, 4))]
    # b less a, at seeds 1 and 4: 1 and 3; mean 2, sd sqrt(2), standard error sqrt(2) / sqrt(2) = 1
    assert found["b"] == ["+2.00", "1.00", "2 of 2", "+1.00", "—", "+3.00"]
    # -40 and -32: mean -36, sd sqrt(32), standard error 4
    assert found["x none, t 1"] == ["−36.00", "4.00", "0 of 2", "−40.00", "−32.00", "—"]
    assert found["z none, t 9"] == ["+49.00", "—", "1 of 1", "+49.00", "—", "—"]
    assert "a" not in found


def test_rows_without_a_seed_in_common_have_no_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "runs.csv", {"a": {1: 50}, "b": {2: 51}})
    assert table(printed(capsys, path, "--baseline", "a"), "less a")["b"] == ["—", "—", "0 of 0"]


def test_equal_is_not_above(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "runs.csv", {"a": {1: 50, 2: 50}, "b": {1: 50, 2: 51}})
    found = table(printed(capsys, path, "--baseline", "a"), "less a")
    assert found["b"] == ["+0.50", "0.50", "1 of 2", "0.00", "+1.00"]


def test_families_of_rows_are_pooled(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, file, "--pairs", "* angle, t *, w", "* none, t *")
    found = table(text, "pooled, pairs of rows: 2")

    # x: 1, 2; y: -1, 4. Mean 6 / 4 = 1.5; deviations -0.5, 0.5, -2.5, 2.5: sd sqrt(13 / 3) = 2.0817, over 2: 1.0408
    # Seed 1: (1 - 1) / 2 = 0; seed 2: (2 + 4) / 2 = 3
    assert found["* angle, t *, w less * none, t *"] == ["+1.50", "1.04", "3 of 4", "0.00", "+3.00"]
    assert "Without a counterpart: z none, t 9." in text


def test_the_first_family_less_the_second(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, file, "--pairs", "* none, t *", "* angle, t *, w", "--pairs", "a", "b")
    assert table(text, "pooled, pairs of rows: 2")["* none, t * less * angle, t *, w"][:3] == [
        "−1.50",
        "1.04",
        "1 of 4",
    ]
    assert table(text, "pooled, pairs of rows: 1")["a less b"] == ["−2.00", "1.00", "0 of 2", "−1.00", "−3.00"]


def test_rows_are_no_pair_where_the_stars_differ() -> None:
    names = ["p none, t 1", "p angle, t 2", "q angle, t 1", "p angle, t 1"]
    pairs, alone = summarise.find_pairs(names, "* angle, t *", "* none, t *")
    assert pairs == [("p angle, t 1", "p none, t 1")]
    assert alone == ["p angle, t 2", "q angle, t 1"]


def test_files_and_data_sets_are_kept_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write(tmp_path / "one.csv", {"a": {1: 50}, "b": {1: 51}})
    second = write(tmp_path / "two.csv", {"a": {1: 70}}, data="msmt17")
    second.write_text(second.read_text() + "a,torchreid,cuhk03,1,0.8,0.8,0.8,0.8,0.8,0.8\n")
    text = printed(capsys, first, second, "--metrics", "mAP", "--baseline", "b")
    sections = [part.splitlines() for part in text.split("## ")[1:]]
    titles = ["one.csv, market1501, mAP", "two.csv, msmt17, mAP", "two.csv, cuhk03, mAP"]
    assert [lines[0].rpartition("/")[2] for lines in sections] == titles
    assert ["| a | 50.00 | — | 1 | 50.00 |" in lines for lines in sections] == [True, False, False]
    assert ["| a | 80.00 | — | 1 | 80.00 |" in lines for lines in sections] == [False, False, True]
    assert [any(line.startswith("| less b") for line in lines) for lines in sections] == [True, False, False]


def test_names_do_not_break_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "runs.csv", {"a|b *c*": {1: 50}})
    assert r"| a\|b \*c\* | 50.00 |" in printed(capsys, path)


HEAD = "row,toolbox,data,seed,mAP,mINP,rank1,rank5,rank10,rank20\n"
RUN = "a,torchreid,market1501,1,0.5,0.5,0.5,0.5,0.5,0.5\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (HEAD.replace("seed,", "") + RUN, "bad.csv: no column seed: no runs.csv of drsl reproduce"),
        ("", "bad.csv: no column data, row, seed: no runs.csv of drsl reproduce"),
        (HEAD + RUN + RUN, "bad.csv, line 3: row 'a' has a run on market1501 with seed 1 already"),
        (HEAD + RUN.replace("0.5", "half", 1), "bad.csv, line 2: a seed or a metric that is no number"),
        (HEAD + RUN.replace("1,0.5", "one,0.5", 1), "bad.csv, line 2: a seed or a metric that is no number"),
        (HEAD + RUN.replace("0.5", "nan", 1), "bad.csv, line 2: a seed or a metric that is no number"),
        (HEAD + "a,torchreid\n", "bad.csv, line 2: a seed or a metric that is no number"),
        (HEAD, "bad.csv: holds no run"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    text: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.csv").write_text(text)
    with pytest.raises(DRSLError) as caught:
        summarise.main(["bad.csv"])
    assert str(caught.value) == line
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--baseline", "bb"], "--baseline 'bb': no row of this name; did you mean b?"),
        (["--pairs", "* none", "a"], "--pairs '* none' 'a': must have as many * in the one as in the other"),
        (["--pairs", "*q", "*r"], "--pairs '*q' '*r': no two rows of these names, alike where * stands"),
    ],
)
def test_rows_that_are_not_there_are_one_line(arguments: list[str], line: str, file: Path) -> None:
    with pytest.raises(DRSLError) as caught:
        summarise.main([str(file), *arguments])
    assert str(caught.value) == line


def test_a_missing_file_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, summarise.__file__, str(tmp_path / "runs.csv")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {tmp_path / 'runs.csv'}: cannot be read: ")
    assert result.stderr.count("\n") == 1
