"""The tables of configs/tables/: that they hold what they say, and that the toolboxes take every row of them."""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import re
from pathlib import Path
from typing import Any

import pytest

from drsl_plugin.presets import preset_names
from drsl_plugin.reproduce.table_files import Row, Table, read_table

TABLES = Path(__file__).resolve().parent.parent.parent / "configs" / "tables"
DATA = ("market1501", "msmt17", "cuhk03")
ABLATION = {
    ("cosine", "sigmoid"): (0.02, 0.05, 0.1),
    ("cosine", "linear"): (0.04, 0.1, 0.2),
    ("euclidean", "sigmoid"): (0.02, 0.03, 0.05),
    ("euclidean", "linear"): (0.04, 0.06, 0.1),
}
# What of OSNet's recipes is ours in the presets, as Torchreid's own configurations have it.
TORCHREIDS = {
    "OSNet x1.0": ("RandomSampler", "euclidean", 250, ["random_flip"]),
    "OSNet-AIN x1.0": ("RandomSampler", "cosine", 100, ["random_flip", "color_jitter"]),
}
# Smooth-AP as published, whatever the presets have beside it.
SMOOTH_AP = {"sort": "none", "gradient": "slope", "center": False, "memory_share": 0.0}


@functools.cache
def table(name: str) -> Table:
    return read_table(TABLES / f"{name}.yaml")


def row(name: str, row_name: str) -> Row:
    (found,) = (each for each in table(name).rows if each.name == row_name)
    return found


def words(row: Row) -> list[str]:
    """The row's overrides as `key value` options."""
    return [str(word) for pair in row.overrides.items() for word in pair]


@pytest.fixture
def torchreid_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Reads a row as Torchreid does, and lets it check all but that the images are there."""
    try:
        from drsl_plugin.torchreid import config, merging, problems
    except ImportError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(problems, "dataset_problems", lambda cfg: ())

    def read(row: Row, data: str) -> Any:
        cfg = config.get_default_config()
        cfg.use_gpu = False
        wrong = merging.merge_file(cfg, row.config(data))
        wrong += merging.merge_options(cfg, [*words(row), "data.save_dir", str(tmp_path / "run")])
        assert [*wrong, *problems.problems(cfg)] == []
        return cfg

    return read


@pytest.fixture
def fastreid_config(tmp_path: Path) -> Any:
    """Reads a row as FastReID does, and lets it check all but that the images are there."""
    try:
        from drsl_plugin.fastreid import config
        from drsl_plugin.fastreid.problems import config_problems
    except ImportError as error:
        pytest.skip(str(error))

    def read(row: Row, data: str) -> Any:
        cfg = config.get_cfg()
        problems = config.merge_file(cfg, row.config(data))
        problems += config.merge_options(cfg, [*words(row), "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path / "run")])
        assert [*problems, *config_problems(cfg)] == []
        return cfg

    return read


# All of them


TORCHREID_TABLES = ("zoo", "ablation", "imbalance", "market_small", "market_subset", "market_subset_imagenet")


@pytest.mark.parametrize("name", TORCHREID_TABLES)
def test_torchreid_takes_every_row(name: str, torchreid_config: Any) -> None:
    for each in table(name).rows:
        for data in each.data if each.toolbox == "torchreid" else ():
            cfg = torchreid_config(each, data)
            assert cfg.data.sources == cfg.data.targets == [data]
            assert not cfg.cuhk03.classic_split


@pytest.mark.parametrize("name", ["zoo", "market_subset_fastreid", "market_subset_imagenet"])
def test_fastreid_takes_every_row(name: str, fastreid_config: Any) -> None:
    for each in table(name).rows:
        for data in each.data if each.toolbox == "fastreid" else ():
            (of_data,) = fastreid_config(each, data).DATASETS.NAMES
            assert of_data.lower() == data


@pytest.mark.parametrize("name", [path.stem for path in TABLES.glob("*.yaml") if path.stem != "demo"])
def test_there_are_as_many_runs_as_the_file_says(name: str) -> None:
    said = re.search(r"(\d+) runs", (TABLES / f"{name}.yaml").read_text(encoding="utf-8"))
    assert said is not None
    assert sum(len(each.data) for each in table(name).rows) * len(table(name).seeds) == int(said[1])
    assert table(name).seeds == {"market_small": (1, 2), "market_subset_imagenet": (1,)}.get(name, (1, 2, 3))


def test_tables_are_no_presets() -> None:
    assert {name.partition("/")[0] for name in preset_names()} == {"fastreid", "torchreid"}


# The zoo


def test_the_zoo_has_every_model_and_loss() -> None:
    assert [each.name for each in table("zoo").rows] == [
        *(
            f"{model}, {loss}"
            for model in TORCHREIDS
            for loss in ("softmax as published", "triplet", "Smooth-AP", "DRSL")
        ),
        *(f"BoT R50, {loss}" for loss in ("triplet as published", "Smooth-AP", "DRSL")),
        *(f"AGW R50, {loss}" for loss in ("weighted triplet as published", "triplet", "Smooth-AP", "DRSL")),
    ]
    assert all(each.data == DATA for each in table("zoo").rows)
    assert [column[:2] for column in table("zoo").columns] == list(itertools.product(DATA, ("mAP", "rank1")))


def test_fastreids_cuhk03_has_labelled_boxes(fastreid_config: Any) -> None:
    from drsl_plugin.fastreid.host import fastreid

    parameters = inspect.signature(fastreid.data.datasets.DATASET_REGISTRY.get("CUHK03").__init__).parameters
    assert parameters["cuhk03_labeled"].default is True
    assert parameters["cuhk03_classic_split"].default is False


def test_cuhk03_is_of_labelled_boxes_in_torchreid_too(torchreid_config: Any) -> None:
    for each in table("zoo").rows:
        if each.toolbox == "torchreid":
            assert torchreid_config(each, "cuhk03").cuhk03.labeled_images
    assert all("labelled" in column.title for column in table("zoo").columns if column.data == "cuhk03")


@pytest.mark.parametrize("model", TORCHREIDS)
def test_osnet_as_published_is_torchreids_recipe(model: str, torchreid_config: Any) -> None:
    cfg = torchreid_config(row("zoo", f"{model}, softmax as published"), "market1501")
    assert cfg.loss.name == "softmax"
    recipe = (cfg.sampler.train_sampler, cfg.test.dist_metric, cfg.train.max_epoch, cfg.data.transforms)
    assert recipe == TORCHREIDS[model]


@pytest.mark.parametrize("model", TORCHREIDS)
@pytest.mark.parametrize("data", DATA)
def test_osnet_differs_in_the_loss_alone(model: str, data: str, torchreid_config: Any) -> None:
    triplet, smooth_ap, drsl = (
        torchreid_config(row("zoo", f"{model}, {loss}"), data) for loss in ("triplet", "Smooth-AP", "DRSL")
    )
    assert (triplet.loss.name, smooth_ap.loss.name, drsl.loss.name) == ("triplet", "drsl", "drsl")
    assert drsl.loss.drsl.memory_share > 0
    drsl.loss.drsl.update(SMOOTH_AP)
    assert drsl == smooth_ap
    triplet.loss, drsl.loss = None, None
    assert drsl == triplet


def test_fastreids_models_differ_in_the_loss_alone(fastreid_config: Any) -> None:
    for model, triplet in (("BoT R50", "triplet as published"), ("AGW R50", "triplet")):
        cfgs = [fastreid_config(row("zoo", f"{model}, {loss}"), "msmt17") for loss in (triplet, "Smooth-AP", "DRSL")]
        names = [cfg.MODEL.LOSSES.NAME for cfg in cfgs]
        assert names == [("CrossEntropyLoss", loss) for loss in ("TripletLoss", "DRSLoss", "DRSLoss")]
        smooth_ap, drsl = (cfg.MODEL.LOSSES.DRSL for cfg in cfgs[1:])
        assert (drsl.SORT, drsl.SCALE, drsl.SORT_WEIGHT, drsl.MEMORY_SHARE > 0) == ("angle", 0.18, 5.6, True)
        drsl.update({key.upper(): value for key, value in SMOOTH_AP.items()}, SCALE=1.0)
        assert drsl == smooth_ap
        assert (cfgs[0].MODEL.LOSSES.TRI.HARD_MINING, cfgs[0].MODEL.LOSSES.TRI.MARGIN) == (True, 0.3)
        for cfg in cfgs:
            cfg.MODEL.LOSSES = None
        assert cfgs[0] == cfgs[1] == cfgs[2]


def test_no_number_stands_beside_drsl_or_smooth_ap() -> None:
    for each in table("zoo").rows:
        if each.name.endswith("DRSL"):
            assert set(each.published) == {column[:2] for column in table("zoo").columns}
            assert {published.value for published in each.published.values()} == {None}
            assert all("10.1145/3532866" in published.source for published in each.published.values())
        elif not each.name.endswith("as published"):
            assert each.published == {}


def test_every_published_number_names_file_and_repository() -> None:
    for name in ("zoo", "ablation", "imbalance"):
        for each in table(name).rows:
            for published in each.published.values():
                assert published.value is None or re.search(r"\S+\.md of \w[\w-]+/[\w-]+, ", published.source)


@pytest.mark.parametrize(("model", "data"), itertools.product(("BoT", "AGW"), ("market1501", "msmt17")))
def test_fastreids_numbers_are_those_of_its_presets(model: str, data: str) -> None:
    (each,) = (each for each in table("zoo").rows if each.name.startswith(model) and each.name.endswith("as published"))
    text = each.config(data).read_text(encoding="utf-8")
    rank1, mean_ap = (float(re.search(rf"{metric} ([\d.]+) %", text)[1]) for metric in ("Rank-1", "mAP"))  # type: ignore[index]
    values = [each.published[data, metric].value for metric in ("rank1", "mAP")]
    assert values == pytest.approx([rank1 / 100, mean_ap / 100])


def test_fastreids_numbers_are_those_of_the_clone() -> None:
    folder = os.environ.get("FASTREID_CLONE")
    if not folder:
        pytest.skip("FASTREID_CLONE names no clone of FastReID")
    zoo = Path(folder, "MODEL_ZOO.md").read_text(encoding="utf-8").splitlines()
    for name, file in (("BoT R50, triplet", "bagtricks_R50"), ("AGW R50, weighted triplet", "AGW_R50")):
        published = row("zoo", f"{name} as published").published
        for data, title in (("market1501", "Market1501"), ("msmt17", "MSMT17")):
            (line,) = (line for line in zoo if f"/configs/{title}/{file}.yml)" in line)
            rank1, mean_ap = (float(cell.strip().rstrip("%")) / 100 for cell in line.split("|")[3:5])
            values = [published[data, metric].value for metric in ("rank1", "mAP")]
            assert values == pytest.approx([rank1, mean_ap])


# The ablation


def test_the_ablation_is_the_whole_cross(torchreid_config: Any) -> None:
    expected = {
        (distance, relaxation, sort, temperature, weight)
        for (distance, relaxation), temperatures in ABLATION.items()
        for temperature in temperatures
        for sort, weight in (("none", 1.0), *itertools.product(("angle", "order"), (0.1, 1.0)))
    }
    found = []
    for each in table("ablation").rows[2:]:
        cfg = torchreid_config(each, "market1501")
        node = cfg.loss.drsl
        assert each.name.partition(",")[0] == f"{node.distance} {node.relaxation} {node.sort}"
        assert f", temperature {node.temperature}" in each.name
        assert (f", sort_weight {node.sort_weight}" in each.name) == (node.sort != "none")
        assert (cfg.test.dist_metric, cfg.model.name, each.baseline) == ("cosine", "osnet_x0_25", "triplet")
        found.append((node.distance, node.relaxation, node.sort, node.temperature, node.sort_weight))
    assert len(found) == len(set(found)) == 60
    assert set(found) == expected
    assert [each.name for each in table("ablation").rows[:2]] == ["softmax", "triplet"]


# Imbalance


def test_the_imbalance_is_the_whole_cross(torchreid_config: Any) -> None:
    found = []
    for each in table("imbalance").rows:
        cfg = torchreid_config(each, "market1501")
        node, instances, batch = cfg.loss.drsl, cfg.sampler.num_instances, cfg.train.batch_size
        assert batch // instances >= 8
        assert node.memory_warmup * batch == node.memory_size
        if cfg.loss.name == "triplet":
            found.append(("triplet", instances, 0))
            continue
        loss = {
            ("slope", "none", 1.0): "Smooth-AP",
            ("slope", "angle", 1.0): "DRSL, slope, angle 1",
            ("slope", "angle", 0.1): "DRSL, slope, angle 0.1",
        }.get((node.gradient, node.sort, node.sort_weight), "DRSL, error-driven")
        assert node.center == (loss == "DRSL, error-driven" and node.memory_size > 0)
        assert each.name == f"{loss}, memory {node.memory_size}, num_instances {instances}"
        assert each.baseline == f"triplet, num_instances {instances}"
        found.append((loss, instances, node.memory_size))
    losses = ("Smooth-AP", "DRSL, slope, angle 1", "DRSL, slope, angle 0.1", "DRSL, error-driven")
    instances = (2, 4, 8, 16)
    expected = [("triplet", n, 0) for n in instances]
    assert found == expected + [(loss, n, size) for loss in losses for size in (0, 2048, 8192) for n in instances]
