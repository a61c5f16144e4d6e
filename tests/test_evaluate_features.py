"""CMC, mAP and mINP from features: against loops from the definitions, both toolboxes, and random draws of CUHK03's."""

from __future__ import annotations

import importlib
import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchreid
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from drsl_plugin.evaluation import CHUNK_BUDGET, Ranking, evaluate_features, evaluate_ranking
from drsl_plugin.evaluation.single_shot import expected_cmc
from drsl_plugin.fastreid.host import fastreid

Problem = tuple[np.ndarray, ...]
METRICS = ["cosine", "euclidean"]


def problem(seed: int, queries: int = 15, gallery: int = 90, dtype: Any = np.float64) -> Problem:
    """Features and labels in the order of ``evaluate_features``: junk −1, distractors 0, several cameras."""
    rng = np.random.default_rng(seed)
    pids = rng.integers(1, 7, queries), rng.integers(-1, 6, gallery)
    pids[0][-1] = 6  # has no match
    camids = rng.integers(0, 3, queries), rng.integers(0, 3, gallery)
    centres = rng.normal(size=(8, 5))
    features = (centres[each] + rng.normal(size=(len(each), 5)) for each in pids)
    return *(each.astype(dtype) for each in features), *pids, *camids


def true_distance(query: np.ndarray, image: np.ndarray, metric: str) -> float:
    a, b = [float(x) for x in query], [float(x) for x in image]
    if metric == "euclidean":
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5
    lengths = sum(x * x for x in a) ** 0.5 * sum(x * x for x in b) ** 0.5
    return 1 - sum(x * y for x, y in zip(a, b, strict=True)) / lengths


def by_loops(arrays: Problem, metric: str, draw: set[int] | None = None) -> list[dict[str, float] | None]:
    """Each query's metrics from their definitions; ``draw`` leaves only these gallery images."""
    queries, gallery, qp, gp, qc, gc = arrays
    results: list[dict[str, float] | None] = []
    for q in range(len(queries)):
        places = [j for j in range(len(gallery)) if gp[j] != -1 and not (gp[j] == qp[q] and gc[j] == qc[q])]
        places = [j for j in places if draw is None or j in draw]
        places.sort(key=lambda j: (true_distance(queries[q], gallery[j], metric), j))
        ranks = [rank for rank, j in enumerate(places, 1) if gp[j] == qp[q]]
        if not ranks:
            results.append(None)
            continue
        ap = sum(found / rank for found, rank in enumerate(ranks, 1)) / len(ranks)
        result = {"mAP": ap, "mINP": len(ranks) / ranks[-1]}
        results.append(result | {f"rank{k}": float(ranks[0] <= k) for k in (1, 5, 10)})
    return results


def mean(results: list[dict[str, float] | None]) -> dict[str, float]:
    counted = [result for result in results if result is not None]
    return {name: sum(result[name] for result in counted) / len(counted) for name in counted[0]}


def values(ranking: Ranking) -> dict[str, float]:
    return {"mAP": ranking.mAP, "mINP": ranking.mINP, **{f"rank{k}": ranking.cmc[k - 1] for k in (1, 5, 10)}}


def without_junk(arrays: Problem) -> Problem:
    kept = arrays[3] != -1
    return tuple(each[kept] if place in (1, 3, 5) else each for place, each in enumerate(arrays))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_metrics_follow_their_definitions(seed: int, metric: str) -> None:
    arrays = problem(seed)
    results = by_loops(arrays, metric)
    ranking = evaluate_features(*arrays, metric=metric)
    assert values(ranking) == pytest.approx(mean(results), abs=1e-12)
    assert len(ranking.ap) == sum(result is not None for result in results) < len(results)


@pytest.mark.parametrize("single_shot", [False, True])
def test_the_values_of_each_query_have_the_metrics_as_means(single_shot: bool) -> None:
    ranking = evaluate_features(*problem(1), single_shot=single_shot)
    assert ranking.ap.shape == ranking.inp.shape == (len(ranking.curves),)
    assert (ranking.ap.mean(), ranking.inp.mean()) == (ranking.mAP, ranking.mINP)
    assert (ranking.curves.mean(axis=0) == ranking.cmc).all()
    assert single_shot != (set(ranking.curves.ravel()) <= {0.0, 1.0})


def test_junk_is_left_out_and_distractors_are_not() -> None:
    labels = np.array([3]), np.array([-1, 0, 3]), np.array([0]), np.array([1, 1, 1])
    ranking = evaluate_features(np.array([[1.0, 0.0]]), np.array([[1.0, 0.1], [1.0, 0.2], [1.0, 0.3]]), *labels)
    assert (ranking.mAP, ranking.cmc[:2].tolist()) == (0.5, [0.0, 1.0])


def test_a_query_that_is_junk_has_no_match() -> None:
    labels = np.array([-1, 3]), np.array([-1, 3]), np.array([0, 0]), np.array([1, 1])
    assert len(evaluate_features(np.eye(2), np.eye(2), *labels).ap) == 1


def toolbox_values(name: str, arrays: Problem, metric: str) -> dict[str, float]:
    """A toolbox's own distances and its own evaluation, in Python; its reader leaves out the junk."""
    queries, gallery, qp, gp, qc, gc = without_junk(arrays)
    features = torch.from_numpy(queries), torch.from_numpy(gallery)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # FastReID's form of addmm is an old one
        if name == "torchreid":
            distances = torchreid.metrics.compute_distance_matrix(*features, metric).numpy()
            cmc, mean_ap = torchreid.metrics.evaluate_rank(distances, qp, gp, qc, gc, use_cython=False)
            found = {"mAP": mean_ap}
        else:
            rank = importlib.import_module("fastreid.evaluation.rank")
            distances = fastreid.evaluation.reid_evaluation.build_dist(*features, metric)
            cmc, ap, inp = rank.evaluate_rank(distances, qp, gp, qc, gc, use_cython=False)
            found = {"mAP": np.mean(ap), "mINP": np.mean(inp)}
    return {**found, **{f"rank{k}": cmc[k - 1] for k in (1, 5, 10)}}


def check_equal_to(toolbox: str, arrays: Problem, metric: str) -> None:
    expected = toolbox_values(toolbox, arrays, metric)
    found = values(evaluate_features(*arrays, metric=metric))
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert 0.05 < found["mINP"] < found["mAP"] < 0.95


@pytest.mark.parametrize("toolbox", ["torchreid", "fastreid"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_the_toolboxes_on_random_data(seed: int, metric: str, toolbox: str) -> None:
    check_equal_to(toolbox, problem(seed, gallery=300, dtype=np.float32), metric)


@pytest.fixture(scope="module")
def rendered(demo_root: Path) -> Problem:
    """The rendered test set, as FastReID's reader gives it; features: the colours of a coarse grid."""
    parts = fastreid.data.datasets.Market1501(root=str(demo_root / "market1501"))
    features, pids, camids = [], [], []
    for items in (parts.query, parts.gallery):
        images = [Image.open(path).convert("RGB").resize((6, 12), Image.Resampling.BOX) for path, *_ in items]
        features.append(np.stack([np.asarray(image, dtype=np.float32).ravel() - 128 for image in images]))
        pids.append(np.array([item[1] for item in items]))
        camids.append(np.array([item[2] for item in items]))
    return *features, *pids, *camids


@pytest.mark.parametrize("toolbox", ["torchreid", "fastreid"])
@pytest.mark.parametrize("metric", METRICS)
def test_equal_to_the_toolboxes_on_rendered_data(rendered: Problem, metric: str, toolbox: str) -> None:
    check_equal_to(toolbox, rendered, metric)


# chunks, precision and ties


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("single_shot", [False, True])
@pytest.mark.parametrize("chunk_budget", [1, 7 * 90 * 8, CHUNK_BUDGET])
def test_chunks_change_nothing(metric: str, single_shot: bool, chunk_budget: int) -> None:
    settings: dict[str, Any] = {"metric": metric, "single_shot": single_shot}
    whole = evaluate_features(*problem(5), **settings)
    found = evaluate_features(*problem(5), **settings, chunk_budget=chunk_budget)
    assert values(found) == pytest.approx(values(whole), abs=1e-12)
    assert found.ap == pytest.approx(whole.ap, abs=1e-12)
    assert found.cmc == pytest.approx(whole.cmc, abs=1e-12)


def test_the_distance_matrix_is_never_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    module = importlib.import_module("drsl_plugin.evaluation.ranking")
    ranks = module._match_ranks

    def listen(distances: np.ndarray, *labels: np.ndarray) -> Any:
        rows.append(len(distances))
        return ranks(distances, *labels)

    monkeypatch.setattr(module, "_match_ranks", listen)
    evaluate_features(*problem(5), chunk_budget=7 * 90 * 8)
    assert rows == [7, 7, 1]


@pytest.mark.parametrize("precision", [np.float16, np.float32])
def test_the_arrays_stay_as_they_are(precision: Any) -> None:
    arrays = problem(1, dtype=precision)
    before = [each.copy() for each in arrays]
    evaluate_features(*arrays, metric="euclidean")
    evaluate_features(*arrays)
    for each, copy in zip(arrays, before, strict=True):
        assert (each == copy).all()
        each.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate_features(*arrays)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_ties_rank_in_the_gallerys_order(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    labels = [rng.integers(0, 3, 6), rng.integers(0, 3, 20), rng.integers(0, 2, 6), rng.integers(0, 2, 20)]
    distances = rng.choice([0.0, -0.0, 1.0, np.inf, np.nan][: levels + 1], size=(6, 20))
    ap, inp, first = [], [], []
    for row, pid, camid in zip(distances, labels[0], labels[2], strict=True):
        order = sorted(range(20), key=lambda j: (np.inf if np.isnan(row[j]) else row[j], j))
        order = [j for j in order if labels[1][j] != pid or labels[3][j] != camid]
        ranks = [rank for rank, j in enumerate(order, 1) if labels[1][j] == pid]
        if ranks:
            ap.append(sum(found / rank for found, rank in enumerate(ranks, 1)) / len(ranks))
            inp.append(len(ranks) / ranks[-1])
            first.append(ranks[0])
    if not ap:
        return
    ranking = evaluate_ranking(distances, *labels)
    assert ranking.ap.tolist() == pytest.approx(ap, abs=1e-12)
    assert ranking.mINP == pytest.approx(np.mean(inp), abs=1e-12)
    assert ranking.cmc[:20] == pytest.approx([np.mean(np.array(first) <= k) for k in range(1, 21)], abs=1e-12)


def test_features_that_are_all_alike_rank_in_the_gallerys_order() -> None:
    labels = np.array([3]), np.array([1, 3, 2, 3]), np.array([0]), np.array([1, 1, 1, 1])
    for metric in METRICS:
        assert evaluate_features(np.ones((1, 2)), np.ones((4, 2)), *labels, metric=metric).mAP == 0.5


def test_an_unknown_metric_is_an_error() -> None:
    with pytest.raises(ValueError, match="metric: cosine or euclidean, not 'cosinus'"):
        evaluate_features(*problem(0), metric="cosinus")


@pytest.mark.parametrize("single_shot", [False, True])
def test_no_query_with_a_match_is_an_error(single_shot: bool) -> None:
    labels = np.array([1]), np.array([1, 2]), np.array([0]), np.array([0, 0])
    with pytest.raises(ValueError, match="no query has a correct match"):
        evaluate_features(np.ones((1, 2)), np.ones((2, 2)), *labels, single_shot=single_shot)


# CUHK03's single-gallery-shot


def small_draws(seed: int = 3) -> Problem:
    return problem(seed, queries=8, gallery=14)


@pytest.mark.parametrize("seed", [3, 4])
def test_single_shot_is_the_mean_of_all_draws(seed: int) -> None:
    """Count every draw of every query, each as likely as any other."""
    arrays = small_draws(seed)
    curves = []
    for q in range(8):
        query = tuple(each[q : q + 1] if place in (0, 2, 4) else each for place, each in enumerate(arrays))
        kept = [j for j in range(14) if arrays[3][j] != -1]
        kept = [j for j in kept if (arrays[3][j], arrays[5][j]) != (arrays[2][q], arrays[4][q])]
        groups = [[j for j in kept if arrays[3][j] == pid] for pid in {arrays[3][j] for j in kept}]
        results = [by_loops(query, "cosine", draw=set(draw))[0] for draw in itertools.product(*groups)]
        if results[0] is not None:
            curves.append(mean(results))
    ranking = evaluate_features(*arrays, single_shot=True, max_rank=10)
    assert len(curves) == len(ranking.ap) >= 2
    for k in (1, 5, 10):
        assert ranking.cmc[k - 1] == pytest.approx(np.mean([curve[f"rank{k}"] for curve in curves]), abs=1e-12)
    plain = evaluate_features(*arrays)
    assert (ranking.mAP, ranking.mINP) == (plain.mAP, plain.mINP)
    assert (ranking.cmc != plain.cmc[:10]).any()


def test_single_shot_agrees_with_torchreids_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(np, "bool"):  # Torchreid uses it, and numpy had it not from 1.24 to 1.26
        monkeypatch.setattr(np, "bool", np.bool_, raising=False)
    arrays = without_junk(problem(6, queries=10, gallery=50))
    distances = torchreid.metrics.compute_distance_matrix(*map(torch.from_numpy, arrays[:2]), "cosine").numpy()
    state = np.random.get_state()
    curves = []
    for seed in range(200):
        np.random.seed(seed)
        cmc, mean_ap = torchreid.metrics.evaluate_rank(distances, *arrays[2:], 5, use_metric_cuhk03=True)
        curves.append(cmc.astype(np.float64))
    np.random.set_state(state)
    ranking = evaluate_features(*arrays, single_shot=True, max_rank=5)
    error = np.std(curves, axis=0, ddof=1) / np.sqrt(len(curves))
    assert (error[:3] > 0).all()
    assert (np.abs(np.mean(curves, axis=0) - ranking.cmc) <= 3 * error + 1e-6).all()
    assert ranking.mAP == pytest.approx(mean_ap, abs=1e-6)


def test_single_shot_of_one_image_an_identity_is_the_plain_curve() -> None:
    arrays = list(problem(7, queries=6, gallery=6))
    arrays[2] = arrays[3] = np.arange(1, 7)
    arrays[4], arrays[5] = np.zeros(6, dtype=int), np.ones(6, dtype=int)
    assert evaluate_features(*arrays, single_shot=True).cmc == pytest.approx(evaluate_features(*arrays).cmc, abs=1e-12)


def test_single_shot_breaks_ties_by_the_gallerys_order() -> None:
    labels = np.array([3]), np.array([1, 3, 1, 2]), np.array([0]), np.array([1, 1, 1, 1])
    curve: Callable[..., Any] = lambda: expected_cmc(np.ones((1, 4)), *labels, max_rank=3)  # noqa: E731
    assert curve().tolist() == [[0.5, 1.0, 1.0]]
