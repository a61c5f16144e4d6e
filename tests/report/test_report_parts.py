"""What a report reads and compares: settings, labels, curves, pictures, the map."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drsl_plugin.errors import DRSLError
from drsl_plugin.report.curves import evaluations, training_curves
from drsl_plugin.report.embedding import Map, embedding_map
from drsl_plugin.report.pictures import Pictures
from drsl_plugin.report.runs import labels
from drsl_plugin.report.settings import different, flatten, settings_tables
from drsl_plugin.runs.features import FeatureFile

# Settings


def test_of_several_runs_the_settings_that_differ_are_shown_and_the_others_folded_away() -> None:
    nested = [
        {
            "loss": {"name": "drsl", "drsl": {"sort": "angle"}},
            "train": {"lr": 0.1, "steps": [1, 2]},
            "data": {"save_dir": "a"},
        },
        {"loss": {"name": "triplet"}, "train": {"lr": 0.1, "steps": [1, 3]}, "data": {"save_dir": "b"}},
    ]
    shown, folded = settings_tables([flatten(each) for each in nested])
    assert shown.rows == [
        ("loss.name", ["drsl", "triplet"]),
        ("loss.drsl.sort", ["angle", ""]),
        ("train.steps", ["[1, 2]", "[1, 3]"]),
    ]
    assert (shown.runs, shown.folded, folded.folded) == ([0, 1], False, True)
    assert folded.rows == [("train.lr", ["0.1"])]


def test_of_one_run_the_settings_of_the_loss_are_shown() -> None:
    shown, folded = settings_tables([flatten({"MODEL": {"LOSSES": {"NAME": ["DRSLoss"]}, "DEVICE": "cpu"}, "SEED": 1})])
    assert [table.rows for table in (shown, folded)] == [
        [("MODEL.LOSSES.NAME", ['["DRSLoss"]'])],
        [("MODEL.DEVICE", ["cpu"]), ("SEED", ["1"])],
    ]
    assert (shown.folded, folded.folded) == (False, True)


def test_runs_of_the_two_toolboxes_are_compared_by_what_both_have() -> None:
    torchreid = {"loss": {"name": "drsl", "drsl": {"temperature": 0.05}}, "train": {"lr": 0.1}}
    fastreid = {"MODEL": {"LOSSES": {"NAME": ["DRSLoss"], "DRSL": {"TEMPERATURE": 0.03}}}, "SOLVER": {"BASE_LR": 0.2}}
    both, *each = settings_tables([flatten(fastreid), flatten(torchreid), {}])
    assert (both.runs, both.folded) == ([0, 1], False)
    assert both.rows == [
        ("loss", ['["DRSLoss"]', "drsl"]),
        ("learning rate", ["0.2", "0.1"]),
        ("DRSL: temperature", ["0.03", "0.05"]),
    ]
    assert all(table.folded for table in each)
    assert {name for table in each for name, _ in table.rows} == {*flatten(fastreid), *flatten(torchreid)}


def test_nothing_differs_between_equal_settings() -> None:
    assert different([{"a": "1"}, {"a": "1"}]) == []
    assert flatten({"a": {}, "b": None, "c": "x", "d": True}) == {"a": "{}", "b": "null", "c": "x", "d": "true"}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/runs/a"], ["a"]),
        (["/a", "/b/a"], ["/a", "b/a"]),
        (["/r/x/m/1", "/r/y/m/1", "/r/y/m/2"], ["x/m/1", "y/m/1", "2"]),
    ],
)
def test_labels_are_the_shortest_ends_that_tell_runs_apart(paths: list[str], expected: list[str]) -> None:
    assert labels([Path(path) for path in paths]) == expected


# Curves


def test_a_long_curve_is_the_means_of_its_steps() -> None:
    rows = [{"step": step, "epoch": 1, "lr": 2.0 * step, "note": "x", "flag": True} for step in range(1, 11)]
    curves = training_curves([*rows, {"step": 10, "target": "t", "mAP": 0.5}], points=4)
    assert list(curves) == ["lr"]
    assert curves["lr"].steps.tolist() == [2, 5, 8, 10]
    assert curves["lr"].values.tolist() == [4, 10, 16, 20]
    assert curves["lr"].joined == 3


def test_branches_are_one_curve_and_what_is_not_finite_is_left_out() -> None:
    rows = [
        {"step": 1, "loss_cls_b1": 1.0, "loss_cls_b22": 3.0},
        {"step": 2, "loss_cls_b1": math.nan, "loss_cls_b22": 5.0},
    ]
    rows += [{"step": 3, "loss_cls_b1": math.inf, "loss_cls_b22": -math.inf}]
    (curve,) = training_curves(rows).values()
    assert curve.values[:2].tolist() == [2, 5]
    assert math.isnan(curve.values[2])
    assert (curve.branches, curve.bad) == (2, 3)


def test_evaluations_are_of_the_target_and_only_where_there_are_several() -> None:
    rows = [{"step": step, "target": target, "mAP": step / 100} for step in (10, 20) for target in ("a", "b")]
    assert evaluations(rows, "a")["mAP"].values.tolist() == evaluations(rows, "A")["mAP"].values.tolist() == [10, 20]
    assert evaluations(rows[:2], "a") == evaluations(rows, "c") == {}


# Pictures


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "set" / "query" / "1.jpg"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (128, 512), "red").save(path)
    return path


def test_a_picture_is_there_once(image: Path) -> None:
    pictures = Pictures()
    other = image.with_name("2.jpg")
    other.write_bytes(image.read_bytes())
    assert [pictures.number(str(path)) for path in (image, other, image)] == [1, 1, 1]
    assert len(pictures.urls) == 2
    assert (pictures.number(None), pictures.missing) == (0, [])


@pytest.mark.parametrize(
    "kept", ["/elsewhere/set/query/1.jpg", "C:\\set\\query\\1.jpg", "../query/1.jpg", "query/1.jpg"]
)
def test_images_are_found_by_the_ends_of_their_paths(image: Path, kept: str) -> None:
    assert Pictures(image.parents[1]).number(kept) == 1
    alone = Pictures()
    assert (alone.number(kept), alone.missing) == (0, [kept])


def test_what_is_no_image_is_missing(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_text("no image")
    pictures = Pictures()
    assert pictures.number(str(tmp_path / "1.jpg")) == 0
    assert pictures.number("a\0b") == 0
    assert len(pictures.missing) == pictures.asked == 2


def test_images_must_be_a_folder(image: Path) -> None:
    with pytest.raises(DRSLError, match=r"--images: .*1\.jpg is no folder"):
        Pictures(image)


# The map


def features(rng: np.random.Generator, identities: int = 9, each: int = 8) -> FeatureFile:
    pids = np.repeat(np.arange(1, identities + 1), each)
    gallery = np.eye(12)[pids] + 0.05 * rng.normal(size=(len(pids), 12))
    camids = np.tile([0, 1], len(pids) // 2)
    return FeatureFile(gallery[::4], gallery, pids[::4], pids, camids[::4], camids, None, None)


def test_a_map_holds_whole_identities_and_is_the_same_each_time() -> None:
    arrays = features(np.random.default_rng(0))
    found = embedding_map(arrays, "cosine", points=35)
    assert isinstance(found, Map)
    pids, counts = np.unique(found.pids, return_counts=True)
    assert (counts.tolist(), len(pids), found.identities) == ([10, 10, 10], 3, 9)  # 8 and their 2 queries
    assert found.queries.tolist() == [True] * 6 + [False] * 24
    again = embedding_map(arrays, "cosine", points=35)
    assert isinstance(again, Map)
    assert (again.points == found.points).all()
    other = embedding_map(features(np.random.default_rng(1)), "cosine", points=35)
    assert isinstance(other, Map)
    assert (other.pids == found.pids).all()


def test_neighbours_on_the_map_are_of_one_identity() -> None:
    found = embedding_map(features(np.random.default_rng(0)), "euclidean")
    assert isinstance(found, Map)
    distances = np.linalg.norm(found.points[:, None] - found.points, axis=2) + 1e9 * np.eye(len(found.points))
    assert (found.pids[distances.argmin(axis=1)] == found.pids).mean() > 0.9


def test_where_there_is_no_map_there_is_a_reason() -> None:
    arrays = features(np.random.default_rng(0))
    assert "more than 3 images" in str(embedding_map(arrays, "cosine", points=3))
    equal = arrays._replace(query_features=np.ones((18, 12)), gallery_features=np.ones((72, 12)))
    assert "equal" in str(embedding_map(equal, "cosine"))
    one_wide = arrays._replace(
        query_features=arrays.query_features[:, :1], gallery_features=arrays.gallery_features[:, :1]
    )
    assert isinstance(embedding_map(one_wide, "euclidean"), Map)
