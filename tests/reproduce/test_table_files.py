from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from drsl_plugin.errors import DRSLError
from drsl_plugin.reproduce.runs import table_runs
from drsl_plugin.reproduce.table_files import Table, read_table

GOOD: dict[str, Any] = {
    "title": "Losses",
    "seeds": [1, 2],
    "overrides": {"torchreid": {"data.workers": 0, "train.lr": 0.1}},
    "columns": [
        {"data": "market1501", "metric": "mAP"},
        {"data": "msmt17", "metric": "rank1", "title": "R1"},
    ],
    "rows": [
        {"name": "triplet", "toolbox": "torchreid", "preset": "osnet_x1_0_triplet_256x128_{data}"},
        {
            "name": "DRSL",
            "toolbox": "torchreid",
            "preset": "osnet_x1_0_drsl_256x128_{data}",
            "overrides": {"train.lr": 0.2},
            "grid": {"loss.drsl.temperature": [0.02, 0.05], "loss.drsl.sort": ["none", "angle"]},
            "baseline": "triplet",
            "published": [
                {"data": "market1501", "metric": "mAP", "value": 84.9, "source": "somebody"},
                {"data": "msmt17", "metric": "rank1", "value": "not public", "source": "the paper"},
            ],
        },
        {"name": "BoT", "toolbox": "fastreid", "preset": "{data}/bagtricks_R50_drsl", "data": ["msmt17"]},
    ],
}


def written(path: Path, table: Any) -> Path:
    path.write_text(yaml.safe_dump(table, sort_keys=False), encoding="utf-8")
    return path


def read(tmp_path: Path, change: Callable[[dict[str, Any]], Any] = lambda table: None) -> Table:
    table = copy.deepcopy(GOOD)
    change(table)
    return read_table(written(tmp_path / "table.yaml", table))


def test_rows_columns_and_seeds(tmp_path: Path) -> None:
    table = read(tmp_path)
    assert (table.title, table.seeds, table.demo) == ("Losses", (1, 2), None)
    assert [column.title for column in table.columns] == ["Market-1501 mAP", "R1"]
    assert [(row.name, row.baseline) for row in table.rows] == [
        ("triplet", None),
        ("DRSL, temperature 0.02, sort none", "triplet"),
        ("DRSL, temperature 0.02, sort angle", "triplet"),
        ("DRSL, temperature 0.05, sort none", "triplet"),
        ("DRSL, temperature 0.05, sort angle", "triplet"),
        ("BoT", None),
    ]
    row = table.rows[2]
    assert row.overrides == {
        "data.workers": 0,
        "train.lr": 0.2,  # the row's own goes over the table's
        "loss.drsl.temperature": 0.02,
        "loss.drsl.sort": "angle",
    }
    assert row.published["market1501", "mAP"] == (pytest.approx(0.849), "somebody")
    assert row.published["msmt17", "rank1"] == (None, "the paper")
    assert table.rows[-1].overrides == {}


def test_data_sets_are_spelled_as_the_toolbox_does(tmp_path: Path) -> None:
    table = read(tmp_path)
    assert table.rows[0].config("msmt17").name == "osnet_x1_0_triplet_256x128_msmt17.yaml"
    assert table.rows[-1].config("msmt17").parts[-2:] == ("MSMT17", "bagtricks_R50_drsl.yml")


def test_a_preset_may_be_a_file_beside_the_table(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("model: {name: osnet_x0_25}\n", encoding="utf-8")
    table = read(tmp_path, lambda table: table["rows"][0].update(preset="mine.yaml"))
    assert table.rows[0].config("market1501") == tmp_path / "mine.yaml"


def test_the_baseline_of_a_grid_has_the_same_values_of_the_keys_in_common(tmp_path: Path) -> None:
    def change(table: dict[str, Any]) -> None:
        table["rows"][0]["grid"] = {"sampler.num_instances": [2, 4]}
        table["rows"][1]["grid"] = {"sampler.num_instances": [2, 4], "loss.drsl.memory_size": [0, 512]}

    baselines = {row.name: row.baseline for row in read(tmp_path, change).rows}
    assert baselines["DRSL, num_instances 4, memory_size 512"] == "triplet, num_instances 4"
    assert baselines["DRSL, num_instances 2, memory_size 0"] == "triplet, num_instances 2"


def test_a_baseline_that_is_one_row_of_a_grid(tmp_path: Path) -> None:
    name = "DRSL, temperature 0.05, sort angle"
    table = read(tmp_path, lambda table: table["rows"][2].update(baseline=name))
    assert table.rows[-1].baseline == name


def row(place: int, **settings: Any) -> Callable[[dict[str, Any]], None]:
    return lambda table: table["rows"][place].update(settings)


def column(**settings: Any) -> Callable[[dict[str, Any]], None]:
    return lambda table: table["columns"][0].update(settings)


def published(**settings: Any) -> Callable[[dict[str, Any]], None]:
    return lambda table: table["rows"][1]["published"][0].update(settings)


BAD = [
    (row(0, preset="osnet_x1_0_tripel_256x128_{data}"), "row 'triplet': preset: .*did you mean .*triplet"),
    (row(0, preset="Market1501/bagtricks_R50"), "row 'triplet': preset: .* is a preset for `drsl fastreid`"),
    (row(0, toolbox="openreid"), "row 'triplet': toolbox: fastreid or torchreid, not openreid"),
    (row(0, presets="x"), "row 'triplet': unknown key presets; did you mean preset?"),
    (row(0, preset=3), "row 'triplet': preset: expected text, not 3"),
    (row(0, overrides=["train.lr"]), "row 'triplet': overrides: expected keys and values"),
    (row(0, data=["cuhk03"]), "row 'triplet': data: of the columns' market1501, msmt17, not cuhk03"),
    (row(0, name="BoT"), "rows: two are called 'BoT'"),
    (row(0, name=True), r"rows\[0\]: name: expected text, not True"),
    (row(1, baseline="tripplet"), "baseline: no row is called 'tripplet'; did you mean triplet?"),
    (row(0, baseline="triplet"), "row 'triplet': baseline: the row itself"),
    (row(2, baseline="DRSL"), "row 'BoT': baseline: 4 rows of 'DRSL' would be it"),
    (row(1, grid={"loss.drsl.sort": "none"}), "grid: loss.drsl.sort: a list of values, not 'none'"),
    (row(1, grid={"loss.drsl.sort": []}), "grid: loss.drsl.sort: a list of values"),
    (column(metric="map"), r"columns\[0\]: metric: one of mAP, mINP, rank1, .*, not map"),
    (column(data="msmt17", metric="rank1"), r"columns\[1\]: msmt17 rank1 is a column already"),
    (lambda table: table.pop("columns"), "columns: a table needs one"),
    (lambda table: table.update(columns={}), "columns: expected a list"),
    (lambda table: table.update(rows=[]), "rows: a table needs one"),
    (lambda table: table.update(rows=["triplet"]), r"rows\[0\]: expected keys and values, not 'triplet'"),
    (lambda table: table.update(seed=3), "unknown key seed; did you mean seeds?"),
    (lambda table: table.update(seeds=[1, 1]), r"seeds: different whole numbers from 0 on, not \[1, 1\]"),
    (lambda table: table.update(seeds=[True]), "seeds: different whole numbers"),
    (lambda table: table.update(overrides={"pytorch": {}}), "overrides: unknown key pytorch"),
    (published(value=0.849), r"published\[0\]: value: percent, not 0.849"),
    (published(value="unknown"), "value: percent, or not public, not unknown"),
    (published(metric="rank5"), "market1501 rank5 is no column of the table"),
    (lambda table: table["rows"][1]["published"][0].pop("source"), r"published\[0\]: source is missing"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_tables_get_one_line(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(DRSLError, match=message) as caught:
        read(tmp_path, change)
    assert str(caught.value).startswith(str(tmp_path / "table.yaml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a list", "rows: [", "", "\x80"])
def test_what_is_no_table_gets_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.yaml"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(DRSLError, match=r"table.yaml: (expected keys|cannot be read)") as caught:
        read_table(path)
    assert "\n" not in str(caught.value)


# which folder is a run's


def folders(tmp_path: Path, change: Callable[[dict[str, Any]], Any] = lambda table: None) -> list[str]:
    return [run.folder.name for run in table_runs(read(tmp_path, change), tmp_path)]


def test_all_rows_with_one_seed_come_before_the_next_seed(tmp_path: Path) -> None:
    runs = table_runs(read(tmp_path), tmp_path)
    assert [run.seed for run in runs] == [1] * 11 + [2] * 11
    assert len({run.folder for run in runs}) == len(runs)
    assert [(run.row.name, run.data) for run in runs[:2]] == [("triplet", "market1501"), ("triplet", "msmt17")]


@pytest.mark.parametrize(
    "change",
    [
        row(0, overrides={"train.lr": 0.3}),
        row(0, preset="osnet_x0_25_triplet_256x128_{data}"),
        lambda table: table["overrides"]["torchreid"].update({"data.workers": 1}),
        lambda table: table.update(demo={"identities": 4}),
    ],
)
def test_a_changed_row_has_a_folder_of_its_own(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    before, after = folders(tmp_path)[0], folders(tmp_path, change)[0]
    assert before != after


@pytest.mark.parametrize(
    "change",
    [
        row(2, name="Bag of tricks"),
        row(0, published=[{"data": "market1501", "metric": "mAP", "value": 80, "source": "x"}]),
        lambda table: table.update(title="Others"),
        lambda table: table["columns"].append({"data": "market1501", "metric": "mINP"}),
        row(1, overrides={"train.lr": 0.3}),
    ],
)
def test_what_makes_no_other_result_keeps_the_folder(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    before, after = folders(tmp_path), folders(tmp_path, change)
    assert (before[0], before[10]) == (after[0], after[10])


def test_a_changed_file_beside_the_table_is_another_row_and_a_comment_is_not(tmp_path: Path) -> None:
    names = []
    for text in ("train: {lr: 0.1}", "train: {lr: 0.1}  # slow", "train: {lr: 0.2}"):
        (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
        names.append(folders(tmp_path, row(0, preset="mine.yaml"))[0])
    assert names[0] == names[1] != names[2]


def test_a_file_that_another_builds_on_counts(tmp_path: Path) -> None:
    names = []
    for rate in (0.1, 0.2):
        (tmp_path / "Base.yml").write_text(f"SOLVER: {{BASE_LR: {rate}}}", encoding="utf-8")
        (tmp_path / "leaf.yml").write_text("_BASE_: Base.yml\nSOLVER: {MAX_EPOCH: 3}", encoding="utf-8")
        names.append(folders(tmp_path, row(2, preset="leaf.yml"))[-1])
    assert names[0] != names[1]


def test_runs_of_release_0_1_0_are_found_again(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("train: {lr: 0.2}", encoding="utf-8")
    (tmp_path / "Base.yml").write_text("SOLVER: {BASE_LR: 0.1, MAX_EPOCH: 2}", encoding="utf-8")
    (tmp_path / "leaf.yml").write_text("_BASE_: Base.yml\nSOLVER: {MAX_EPOCH: 3}", encoding="utf-8")
    grid = {"loss.drsl.sort": ["none", "angle"]}
    table = {
        "seeds": [1, 2],
        "columns": [{"data": "market1501", "metric": "mAP"}],
        "overrides": {"torchreid": {"train.lr": 0.1}},
        "demo": {"identities": 4},
        "rows": [
            {"name": "a", "toolbox": "torchreid", "preset": "mine.yaml", "grid": grid},
            {"name": "b", "toolbox": "fastreid", "preset": "leaf.yml", "overrides": {"SOLVER.STEPS": [20, 40]}},
        ],
    }
    runs = table_runs(read_table(written(tmp_path / "table.yaml", table)), tmp_path)
    assert [run.folder.name for run in runs] == [
        "mine-market1501-seed-1-ed3fb2bf",
        "mine-market1501-seed-1-03ca62a4",
        "leaf-market1501-seed-1-9b360ac9",
        "mine-market1501-seed-2-4cef74d7",
        "mine-market1501-seed-2-8e6308a7",
        "leaf-market1501-seed-2-7e02d517",
    ]


def test_all_that_is_wrong_with_a_table_is_told_at_once(tmp_path: Path) -> None:
    def change(table: dict[str, Any]) -> None:
        row(0, presets="x")(table)
        column(metric="map")(table)

    with pytest.raises(DRSLError) as caught:
        read(tmp_path, change)
    assert len(caught.value.errors) == 2
