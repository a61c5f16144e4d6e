"""Distances and angles of positive and negative pairs, and ranked lists: against loops from the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from drsl_plugin.evaluation import evaluate_features
from drsl_plugin.report.pairs import Histogram, counted_queries, pair_histograms
from drsl_plugin.report.ranked import choose, ranked_lists
from drsl_plugin.runs.features import FeatureFile


def features(seed: int, queries: int = 12, gallery: int = 60) -> FeatureFile:
    """Float64, so that the loops see the same numbers; junk −1, distractors 0, a query without a match."""
    rng = np.random.default_rng(seed)
    query_pids, gallery_pids = rng.integers(1, 6, queries), rng.integers(-1, 6, gallery)
    query_pids[3] = 99
    centres = rng.normal(size=(101, 6))
    query, image = (centres[pids] + rng.normal(size=(len(pids), 6)) for pids in (query_pids, gallery_pids))
    camids = rng.integers(0, 3, queries), rng.integers(0, 3, gallery)
    return FeatureFile(query, image, query_pids, gallery_pids, *camids, None, None)


def pairs_by_loops(arrays: FeatureFile) -> dict[str, tuple[list[float], list[float]]]:
    """Distances and angles of the negative and the positive pairs, each by itself."""
    found: dict[str, tuple[list[float], list[float]]] = {"cosine": ([], []), "euclidean": ([], []), "angle": ([], [])}
    for query, pid, camid in zip(arrays.query_features, arrays.query_pids, arrays.query_camids, strict=True):
        gallery = list(zip(arrays.gallery_features, arrays.gallery_pids, arrays.gallery_camids, strict=True))
        if not any(other == pid and camera != camid for _, other, camera in gallery):
            continue
        for image, other, camera in gallery:
            if other == -1 or (other == pid and camera == camid):
                continue
            cosine = math.fsum(a * b for a, b in zip(query, image, strict=True)) / (
                math.hypot(*query) * math.hypot(*image)
            )
            values = {
                "cosine": 1 - cosine,
                "euclidean": math.dist(query, image),
                "angle": math.degrees(math.acos(cosine)),
            }
            for name, value in values.items():
                found[name][int(other == pid)].append(value)
    return found


def counts_by_loops(values: list[float], bins: int, top: float) -> list[int]:
    counts = [0] * bins
    for value in values:
        counts[min(int(value / top * bins), bins - 1)] += 1
    return counts


@pytest.mark.parametrize("chunk_budget", [1, 2**25])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("seed", range(2))
def test_histograms_count_every_pair_that_is_ranked(seed: int, metric: str, chunk_budget: int) -> None:
    arrays = features(seed)
    histograms = pair_histograms(arrays, metric, chunk_budget)
    expected = pairs_by_loops(arrays)
    for histogram, (negative, positive) in (
        (histograms.distance, expected[metric]),
        (histograms.angle, expected["angle"]),
    ):
        bins = len(histogram.positive)
        assert histogram.positive.tolist() == counts_by_loops(positive, bins, histogram.top)
        assert histogram.negative.tolist() == counts_by_loops(negative, bins, histogram.top)
        assert len(positive) > 20
        assert len(negative) > 200
        shares = [
            [count / len(each) for count in counts_by_loops(each, bins, histogram.top)] for each in (positive, negative)
        ]
        assert histogram.overlap() == pytest.approx(sum(map(min, *shares)), abs=1e-12)
        areas = histogram.densities().sum(axis=1) * histogram.top / bins
        assert areas == pytest.approx([1, 1], abs=1e-12)


def test_euclidean_bins_end_where_the_distances_do() -> None:
    arrays = features(0)
    histogram = pair_histograms(arrays, "euclidean").distance
    farthest = max(max(each) for each in pairs_by_loops(arrays)["euclidean"])
    assert histogram.top / 2 < farthest <= histogram.top
    assert 100 <= len(histogram.positive) <= 200


def test_what_is_the_same_as_the_query_and_what_is_opposite() -> None:
    arrays = FeatureFile(
        np.eye(2)[:1], np.array([[2.0, 0], [-1, 0]]), *map(np.array, ([1], [1, 2], [0], [1, 1])), None, None
    )
    for histogram in pair_histograms(arrays, "cosine"):
        assert (np.flatnonzero(histogram.positive), np.flatnonzero(histogram.negative)) == (
            0,
            len(histogram.positive) - 1,
        )


@pytest.mark.parametrize(
    ("positive", "negative", "overlap"),
    [([4, 0], [0, 7], 0.0), ([1, 3], [100, 300], 1.0), ([1, 1, 0], [0, 1, 3], 0.25)],
)
def test_overlap_of_known_counts(positive: list[int], negative: list[int], overlap: float) -> None:
    assert Histogram(1.0, np.array(positive), np.array(negative)).overlap() == overlap


@pytest.mark.parametrize("seed", range(3))
def test_the_queries_that_count_are_the_evaluation_s(seed: int) -> None:
    arrays = features(seed)
    counted = counted_queries(arrays)
    assert counted.sum() == len(evaluate_features(*arrays[:6]).ap) < len(counted)
    assert not counted[3]


def test_a_ranked_list_by_hand() -> None:
    """One query of identity 7, camera 0; gallery images at growing angles, some equal, some left out."""
    degrees = [50, 5, 10, 10, 1, 20, 10]
    pids = [7, -1, 3, 7, 7, 0, 3]
    camids = [1, 1, 0, 1, 0, 2, 1]
    gallery = np.array([[math.cos(math.radians(each)), math.sin(math.radians(each))] for each in degrees])
    paths = np.array(["query.jpg"]), np.array([f"{place}.jpg" for place in range(7)])
    arrays = FeatureFile(np.array([[1.0, 0]]), gallery, *map(np.array, ([7], pids, [0], camids)), *paths)
    ranking = evaluate_features(*arrays[:6])

    lists = ranked_lists(arrays, ranking.ap, "cosine", length=4)

    assert [len(each) for each in lists.values()] == [1, 0, 0]
    (found,) = lists["worst"]
    assert [hit.image.path for hit in found.hits] == ["2.jpg", "3.jpg", "6.jpg", "5.jpg"]  # equal ones in their order
    assert [hit.correct for hit in found.hits] == [False, True, False, False]
    assert [hit.rank for hit in found.hits] == [1, 2, 3, 4]
    assert found.hits[3].distance == pytest.approx(1 - math.cos(math.radians(20)))
    assert found.hits[3].image[1:] == (0, 2)
    assert (found.query.path, found.matches, found.first_match) == ("query.jpg", 2, 2)
    assert found.ap == pytest.approx((1 / 2 + 2 / 5) / 2)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_ranked_lists_agree_with_the_average_precision(metric: str) -> None:
    arrays = features(1)
    ap = evaluate_features(*arrays[:6], metric=metric).ap
    lists = ranked_lists(arrays, ap, metric, count=2, length=60)
    assert [each.ap for each in lists["worst"]] == sorted(ap)[:2]
    assert [each.ap for each in lists["best"]] == sorted(ap)[::-1][:2]
    assert sorted(ap)[2] <= lists["median"][0].ap <= lists["median"][1].ap <= sorted(ap)[-3]
    for each in (each for kind in lists.values() for each in kind):
        ranks = [hit.rank for hit in each.hits if hit.correct]
        assert sum(found / rank for found, rank in enumerate(ranks, 1)) / len(ranks) == pytest.approx(each.ap)
        assert (each.matches, each.first_match) == (len(ranks), ranks[0])
        assert not any(hit.image.pid == -1 or hit.image[1:] == each.query[1:] for hit in each.hits)
        distances = [hit.distance for hit in each.hits]
        assert distances == sorted(distances)


@pytest.mark.parametrize("count", range(1, 16))
def test_no_query_is_in_two_kinds(count: int) -> None:
    ap = np.random.default_rng(count).random(count)
    chosen = choose(ap, 4)
    every = np.concatenate([*chosen.values()])
    assert len(every) == len(set(every.tolist())) == min(count, 12, 3 * max(1, count // 3))
    assert ap[chosen["worst"][0]] == ap.min()
    assert count == 1 or ap[chosen["best"][0]] == ap.max()
    if len(chosen["median"]) == 1:
        assert abs(int(np.sum(ap < ap[chosen["median"][0]])) - (count - 1) / 2) <= 0.5
