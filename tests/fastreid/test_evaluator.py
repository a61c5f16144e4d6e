"""The evaluator: FastReID's numbers, the features that give them again, and what it says where there are none."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from drsl_plugin.errors import DRSLError
from drsl_plugin.evaluation import evaluate_ranking
from drsl_plugin.fastreid import DRSLTrainer
from drsl_plugin.fastreid.config import get_cfg
from drsl_plugin.fastreid.evaluation import FeatureEvaluator
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.recording import record_evaluation
from drsl_plugin.runs.folder import RunFolder

Options = Callable[..., list[str]]
Market1501 = fastreid.data.datasets.Market1501
ReidEvaluator = fastreid.evaluation.ReidEvaluator

pytestmark = pytest.mark.usefixtures("log_handlers")


class Second(Market1501):  # type: ignore[misc]
    """Another target: the same images in another order."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._query, self._gallery = self.query[::-1], self.gallery[::-1]


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(fastreid.data.datasets.DATASET_REGISTRY._obj_map, "Second", Second)
    return "Second"


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let FastReID's own evaluator be built where it would compile."""
    monkeypatch.setattr(ReidEvaluator, "_compile_dependencies", lambda self: None)


def config(options: list[str]) -> Any:
    cfg = get_cfg()
    cfg.merge_from_list(options)
    cfg.MODEL.HEADS.NUM_CLASSES = 8
    return cfg


def model_of(cfg: Any) -> Any:
    torch.manual_seed(0)
    model = DRSLTrainer.build_model(cfg)
    for module in model.modules():  # of random weights all features are nearly one
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3)
    return model


def made_up(queries: int = 7, gallery: int = 70, seed: int = 0) -> list[tuple[dict[str, Any], Tensor]]:
    """Return batches of a data set that nobody has: what the loader gives, and the features."""
    generator = np.random.default_rng(seed)
    total = queries + gallery
    pids, camids = (torch.from_numpy(generator.integers(0, count, total)) for count in (15, 3))
    features = torch.from_numpy(generator.normal(size=(total, 6))) + functional.one_hot(pids % 6, 6)
    rows = range(0, total, 10)
    return [
        (
            {
                "targets": pids[at : at + 10],
                "camids": camids[at : at + 10],
                "img_paths": [f"images/{index}.jpg" for index in range(at, min(at + 10, total))],
            },
            features[at : at + 10],
        )
        for at in rows
    ]


def evaluated(evaluator: Any, batches: list[tuple[dict[str, Any], Tensor]]) -> Any:
    evaluator.reset()
    for inputs, outputs in batches:
        evaluator.process(inputs, outputs)
    return evaluator.evaluate()


def features_of(folder: Path, target: str = "Market1501") -> dict[str, Any]:
    with np.load(folder / f"features-{target}.npz") as arrays:
        return dict(arrays)


def check_features_give(results: dict[str, float], arrays: dict[str, Any], metric: str = "cosine") -> None:
    """Check that the features on disk give FastReID's numbers."""
    queries, gallery = (torch.from_numpy(arrays[f"{part}_features"]) for part in ("query", "gallery"))
    if metric == "cosine":
        distances = 1 - functional.normalize(queries, dim=1) @ functional.normalize(gallery, dim=1).T
    else:
        distances = torch.cdist(queries.double(), gallery.double())
    pids_and_camids = (arrays[f"{part}_{name}"] for name in ("pids", "camids") for part in ("query", "gallery"))
    ranking = evaluate_ranking(distances.numpy(), *pids_and_camids)
    found = [ranking.mAP, ranking.mINP, *ranking.cmc[[0, 4, 9]]]
    assert [results[name] / 100 for name in ("mAP", "mINP", "Rank-1", "Rank-5", "Rank-10")] == pytest.approx(found)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.usefixtures("without_compiler")
def test_numbers_are_fastreids_own(metric: str, tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.TEST.METRIC = str(tmp_path), metric
    results = evaluated(FeatureEvaluator(cfg, 7, target="Made"), made_up())
    assert results == evaluated(ReidEvaluator(cfg, 7), made_up())
    assert 0 < results["mAP"] < 100
    check_features_give(results, features_of(tmp_path, "Made"), metric)


@pytest.mark.usefixtures("without_compiler")
def test_features_are_those_before_query_expansion(tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    evaluated(FeatureEvaluator(cfg, 7, target="Plain"), made_up())
    cfg.TEST.AQE.ENABLED = True
    results = evaluated(FeatureEvaluator(cfg, 7, target="Expanded"), made_up())
    assert results == evaluated(ReidEvaluator(cfg, 7), made_up())
    plain, expanded = features_of(tmp_path, "Plain"), features_of(tmp_path, "Expanded")
    assert all(np.array_equal(plain[name], expanded[name]) for name in plain)


def test_features_stand_in_fastreids_order(tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    evaluated(FeatureEvaluator(cfg, 7, target="Made"), made_up())
    arrays = features_of(tmp_path, "Made")
    names = ("features", "pids", "camids", "paths")
    assert set(arrays) == {f"{part}_{name}" for part in ("query", "gallery") for name in names}
    batches = made_up()
    whole = {
        "features": torch.cat([outputs for _, outputs in batches]).float().numpy(),
        "pids": torch.cat([inputs["targets"] for inputs, _ in batches]).numpy(),
        "camids": torch.cat([inputs["camids"] for inputs, _ in batches]).numpy(),
        "paths": np.array([f"images/{index}.jpg" for index in range(77)]),
    }
    for name, values in whole.items():
        np.testing.assert_array_equal(arrays[f"query_{name}"], values[:7])
        np.testing.assert_array_equal(arrays[f"gallery_{name}"], values[7:])
    assert arrays["query_features"].dtype == np.float32
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_second_evaluation_starts_anew(tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    evaluator = FeatureEvaluator(cfg, 7, target="Made")
    evaluated(evaluator, made_up(seed=1))
    results = evaluated(evaluator, made_up())
    assert results == evaluated(FeatureEvaluator(cfg, 7), made_up())
    assert len(features_of(tmp_path, "Made")["gallery_pids"]) == 70


@pytest.mark.parametrize(("target", "output"), [("", "run"), ("Made", "")])
def test_without_a_target_or_a_folder_nothing_is_written(
    target: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = get_cfg()
    cfg.OUTPUT_DIR = output
    assert evaluated(FeatureEvaluator(cfg, 7, target=target), made_up())["mAP"] > 0
    assert list(tmp_path.iterdir()) == []


def test_another_process_evaluates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    evaluator = FeatureEvaluator(cfg, 7, target="Made")
    comm = fastreid.utils.comm
    for name, value in {"get_world_size": 2, "get_rank": 1, "is_main_process": False, "synchronize": None}.items():
        monkeypatch.setattr(comm, name, lambda value=value: value)
    sent: list[Any] = []
    monkeypatch.setattr(comm, "gather", lambda predictions, dst=0: sent.append(list(predictions)) or [])
    assert evaluated(evaluator, made_up()) == {}
    assert len(sent[0]) == 8, "its share goes to the first process"
    assert list(tmp_path.iterdir()) == []


def test_other_evaluators_batches_need_no_paths(tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    batches = made_up()
    for inputs, _ in batches:
        del inputs["img_paths"]
    evaluated(FeatureEvaluator(cfg, 7, target="Made"), batches)
    assert len(features_of(tmp_path, "Made")["query_paths"]) == 0


# Small galleries, and those that cannot be ranked


SMALL = {  # by what is left of the gallery for the two queries, without the images from their own cameras
    "17 and 20": ([0, 9], 20),
    "49 and 52": ([0, 9], 52),
    "8 and 8": ([0, 0], 11),
    "9 and 9": ([9, 9], 9),
}


def small(cameras: list[int], gallery: int) -> list[tuple[dict[str, Any], Tensor]]:
    """Return a batch with two queries of identity 5, from the cameras, and a gallery with it in cameras 0 and 1."""
    inputs = {
        "targets": torch.tensor([5, 5, *[5] * 5, *[6] * (gallery - 5)]),
        "camids": torch.tensor([*cameras, 0, 0, 0, *[1] * (gallery - 3)]),
        "img_paths": [str(index) for index in range(gallery + 2)],
    }
    return [(inputs, torch.randn(gallery + 2, 4, generator=torch.Generator().manual_seed(0)))]


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.parametrize("left", SMALL)
def test_stock_ranking_needs_a_large_gallery(left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the first half fails, FastReID ranks small galleries, and ``evaluation._rank_any_gallery`` can go."""
    rank = importlib.import_module("fastreid.evaluation.rank")
    monkeypatch.setattr(rank, "IS_CYTHON_AVAI", False)
    stock = rank.evaluate_rank
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    batches = small(*SMALL[left])
    with pytest.raises((ValueError, IndexError)):
        evaluated(ReidEvaluator(cfg, 2), batches)
    results = evaluated(FeatureEvaluator(cfg, 2, target="Made"), batches)
    check_features_give(results, features_of(tmp_path, "Made"))
    assert results["metric"] == pytest.approx((results["mAP"] + results["Rank-1"]) / 2)
    assert rank.evaluate_rank is stock


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.parametrize(
    ("cameras", "gallery", "by_fastreid"),
    [([0, 9], 53, True), ([9, 9], 50, True), ([9, 9], 49, False), ([9, 9], 10, False), ([0, 0], 13, False)],
)
def test_other_galleries_are_ranked_as_by_fastreid(
    cameras: list[int], gallery: int, by_fastreid: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rank = importlib.import_module("fastreid.evaluation.rank")
    monkeypatch.setattr(rank, "IS_CYTHON_AVAI", False)
    cfg, batches = get_cfg(), small(cameras, gallery)
    stock = evaluated(ReidEvaluator(cfg, 2), batches)
    asked: list[Any] = []
    evaluate_rank = rank.evaluate_rank
    monkeypatch.setattr(rank, "evaluate_rank", lambda *args: asked.append(args) or evaluate_rank(*args))
    assert evaluated(FeatureEvaluator(cfg, 2), batches) == pytest.approx(stock)
    assert bool(asked) is by_fastreid


def test_the_ranking_is_fastreids_again_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    rank = importlib.import_module("fastreid.evaluation.rank")
    stock = rank.evaluate_rank
    cfg = get_cfg()
    cfg.TEST.METRIC = "no metric"
    with pytest.raises(AssertionError):
        evaluated(FeatureEvaluator(cfg, 2), small([0, 9], 20))
    assert rank.evaluate_rank is stock


@pytest.mark.parametrize("kind", ["of nobody", "from the same camera"])
def test_no_query_with_a_match(kind: str, tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    batches = made_up(queries=10)
    for inputs, _ in batches:
        inputs["camids"] = torch.zeros_like(inputs["camids"])
    if kind == "of nobody":
        batches[0][0]["targets"] = torch.full((10,), 77)
        batches[0][0]["camids"] += 1
    with pytest.raises(DRSLError) as raised:
        evaluated(FeatureEvaluator(cfg, 10, target="Made"), batches)
    why = {"of nobody": "they share no identity", "from the same camera": "all of their identity are from the query's"}
    start = "DATASETS.TESTS Made: no query has a correct match in the gallery from another camera"
    assert str(raised.value).startswith(f"{start}: {why[kind]}")


def test_one_query_with_a_match_will_do(tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    batches = made_up(queries=10)
    batches[0][0]["targets"] = torch.tensor([*[77] * 9, int(batches[1][0]["targets"][0])])
    batches[0][0]["camids"] = torch.full((10,), 9)
    results = evaluated(FeatureEvaluator(cfg, 10, target="Made"), batches)
    check_features_give(results, features_of(tmp_path, "Made"))


# With data and a model


@pytest.mark.usefixtures("without_compiler")
def test_an_evaluation_leaves_the_features_of_the_data_set(
    fastreid_root: Path, tmp_path: Path, fastreid_options: Options
) -> None:
    cfg = config(fastreid_options(tmp_path, **{"TEST.IMS_PER_BATCH": 32}))
    model = model_of(cfg)
    results = DRSLTrainer.test(cfg, model)
    arrays = features_of(tmp_path)
    check_features_give(results, arrays)

    data = Market1501(root=str(fastreid_root))
    for part, images in (("query", data.query), ("gallery", data.gallery)):
        paths, pids, camids = zip(*images, strict=True)
        assert arrays[f"{part}_paths"].tolist() == list(paths)
        assert arrays[f"{part}_pids"].tolist() == list(pids)
        assert arrays[f"{part}_camids"].tolist() == list(camids)

    loader, queries = DRSLTrainer.build_test_loader(cfg, "Market1501")
    stock = fastreid.evaluation.inference_on_dataset(model, loader, ReidEvaluator(cfg, queries))
    assert {name: results[name] for name in stock} == stock
    with torch.no_grad():
        expected = torch.cat([model.eval()(batch) for batch in loader]).numpy()
    np.testing.assert_allclose(np.concatenate([arrays["query_features"], arrays["gallery_features"]]), expected)


def test_an_evaluation_leaves_frozen_layers_frozen(
    fastreid_root: Path, tmp_path: Path, fastreid_options: Options
) -> None:
    cfg = config(fastreid_options(tmp_path))
    model = model_of(cfg).train()
    model.backbone.eval()  # as FastReID freezes layers
    before = [module.training for module in model.modules()]
    assert len(set(before)) == 2
    DRSLTrainer.test(cfg, model)
    assert [module.training for module in model.modules()] == before


def test_flipped_images_are_averaged_in(fastreid_root: Path, tmp_path: Path, fastreid_options: Options) -> None:
    cfg = config(fastreid_options(tmp_path, **{"TEST.FLIP.ENABLED": True}))
    model = model_of(cfg).eval()
    DRSLTrainer.test(cfg, model)
    arrays = features_of(tmp_path)
    loader, _ = DRSLTrainer.build_test_loader(cfg, "Market1501")
    with torch.no_grad():
        expected = [
            (model(batch["images"].clone()) + model(batch["images"].flip(dims=[3]).clone())) / 2 for batch in loader
        ]
    found = np.concatenate([arrays["query_features"], arrays["gallery_features"]])
    np.testing.assert_allclose(found, torch.cat(expected).numpy(), rtol=1e-5)


def test_each_target_has_its_row_and_its_features(
    second: str, fastreid_root: Path, tmp_path: Path, fastreid_options: Options
) -> None:
    cfg = config(fastreid_options(tmp_path, **{"DATASETS.TESTS": ("Market1501", second)}))
    results = DRSLTrainer.test(cfg, model_of(cfg))
    assert list(results) == ["Market1501", "Second"]
    folder = RunFolder(tmp_path)
    record_evaluation(folder, cfg.DATASETS.TESTS, results, step=3, epoch=2)
    rows = folder.rows()
    assert [(row["target"], row["step"], row["epoch"]) for row in rows] == [("Market1501", 3, 2), ("Second", 3, 2)]
    for row in rows:
        values = results[row["target"]]
        assert row["mAP"] == pytest.approx(values["mAP"] / 100)
        assert row["mINP"] == pytest.approx(values["mINP"] / 100)
        assert [row[f"rank{k}"] for k in (1, 5, 10)] == pytest.approx([values[f"Rank-{k}"] / 100 for k in (1, 5, 10)])
    first, other = features_of(tmp_path), features_of(tmp_path, second)
    for name in ("pids", "camids", "paths"):
        assert first[f"query_{name}"].tolist() == other[f"query_{name}"].tolist()[::-1]


def test_what_another_evaluator_found_has_no_row(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    mine = {"mAP": 50.0, "mINP": 25.0, "Rank-1": 75.0, "Rank-5": 80.0, "Rank-10": 100.0}
    record_evaluation(folder, ("A", "B"), {"A": {"accuracy": 1.0}, "B": mine}, step=None, epoch=None, weights="w.pth")
    record_evaluation(folder, ("A",), {"accuracy": 1.0}, step=1, epoch=1)
    record_evaluation(folder, ("A",), {}, step=1, epoch=1)
    row = {"step": None, "epoch": None, "weights": "w.pth", "target": "B", "mAP": 0.5, "mINP": 0.25}
    assert folder.rows() == [{**row, "rank1": 0.75, "rank5": 0.8, "rank10": 1.0}]
