"""DRSL as plain loops over scalars: one query, one positive, one reference at a time.

Written from the definition alone, never from the implementation; autograd through the loops is the gradient's
oracle. ``dtype`` is what the loops compute in: float64 gives the truth, a lower one the naive implementation
that low precision is judged against.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Truth(NamedTuple):
    loss: Tensor
    ranking: float
    sorting: float
    ap: float
    above_all: float


def cosine(u: Tensor, v: Tensor) -> Tensor:
    """Cosine of the angle; 0, without gradient, where either is the zero vector."""
    if not u.any() or not v.any():
        return u.new_zeros(())
    return ((u / u.norm()) * (v / v.norm())).sum()


def euclidean(u: Tensor, v: Tensor) -> Tensor:
    """Euclidean distance; without gradient where it is 0."""
    if torch.equal(u, v):
        return u.new_zeros(())
    return (u - v).norm()


def step(x: Tensor, temperature: float, relaxation: str) -> Tensor:
    """Relaxed H(x): a sigmoid, or a line clipped to [0, 1] that has no gradient where it is clipped."""
    if relaxation == "sigmoid":
        return torch.sigmoid(x / temperature)
    if x >= temperature:
        return x.new_ones(())
    if x <= -temperature:
        return x.new_zeros(())
    return x / (2 * temperature) + 0.5


def scores(query: Tensor, references: list[Tensor], distance: str) -> list[Tensor]:
    """Higher is nearer: the cosine, or minus the distance over the query's (detached) mean distance."""
    if distance == "cosine":
        return [cosine(query, reference) for reference in references]
    distances = [euclidean(query, reference) for reference in references]
    mean = sum(d.detach() for d in distances) / len(distances)
    return [-d / mean if mean != 0 else torch.zeros_like(d) for d in distances]


def sorting_error(i: int, among: list[int], a: dict[int, Tensor], y: list[Tensor]) -> Tensor:
    """Mean of 1 - y over ``among``, each weighted by how surely it ranks at or before i (i itself: 1)."""
    numerator, denominator = 1 - y[i], 1.0
    for j in among:
        if j != i:
            numerator = numerator + a[j] * (1 - y[j])
            denominator = denominator + a[j]
    return numerator / denominator


def joined(ranking: Tensor, sorting: Tensor, sort_weight: float, terms: str) -> Tensor:
    """One positive's two errors as its loss."""
    if terms == "log":
        return -torch.log(1 - ranking) - sort_weight * torch.log((1 - sorting).clamp(min=1e-6))
    if terms == "graded":
        return 1 - (1 - ranking) * (1 - sort_weight * sorting)
    return ranking + sort_weight * sorting


def held(pull: Tensor, gap: Tensor) -> Tensor:
    """Zero, with the gradient of ``pull * gap`` in the gap alone."""
    return pull.detach() * (gap - gap.detach())


def one_query(
    query: Tensor,
    references: list[Tensor],
    is_positive: list[bool],
    *,
    distance: str,
    temperature: float,
    relaxation: str,
    sort: str,
    sort_weight: float,
    gradient: str,
    terms: str,
) -> tuple[Tensor, Tensor, Tensor, float, float] | None:
    """Return loss, l_R, l_S, AP and above-all of one query, each averaged over its positives; None without any."""
    positives = [j for j, same in enumerate(is_positive) if same]
    negatives = [j for j, same in enumerate(is_positive) if not same]
    if not positives:
        return None
    s = scores(query, references, distance)
    y = [(1 + cosine(query, reference)) / 2 for reference in references]
    if sort == "order":
        y = [quality.detach() for quality in y]

    loss, ranking, sorting, ap, above_all = query.new_zeros(()), query.new_zeros(()), query.new_zeros(()), 0.0, 0.0
    for i in positives:
        a = {j: step(s[j] - s[i], temperature, relaxation) for j in range(len(references)) if j != i}
        if gradient == "error":
            a = {j: ahead.detach() for j, ahead in a.items()}
        rank = 1 + sum(a[j] for j in positives if j != i)
        false_positives = sum((a[j] for j in negatives), start=query.new_zeros(()))
        ranking_error = false_positives / (rank + false_positives)
        sorting_of_i = query.new_zeros(())
        if sort != "none":
            sorting_of_i = sorting_error(i, positives, a, y)
        if sort == "order":
            at_least_as_good = [j for j in positives if y[j] >= y[i]]
            sorting_of_i = sorting_of_i - sorting_error(i, at_least_as_good, a, y)
        loss = loss + joined(ranking_error, sorting_of_i, sort_weight, terms)
        ranking, sorting = ranking + ranking_error, sorting + sorting_of_i
        if gradient == "error":
            unit = 1 / (2 * temperature)
            of_ranking = 1 - sort_weight * sorting_of_i if terms == "graded" else query.new_ones(())
            of_sorting = sort_weight * (1 - ranking_error) if terms == "graded" else query.new_tensor(sort_weight)
            for j in negatives:
                loss = loss + held(unit * of_ranking * a[j] / (rank + false_positives), s[j] - s[i])
            if sort == "order":
                worse = [j for j in positives if j != i and y[j] < y[i]]
                causes = sum((a[j] for j in worse), start=query.new_zeros(()))
                for j in worse if causes > 0 else []:
                    loss = loss + held(unit * of_sorting * sorting_of_i * a[j] / causes, s[j] - s[i])

        hard_rank = 1 + sum(bool(s[j] >= s[i]) for j in positives if j != i)
        hard_false_positives = sum(bool(s[j] >= s[i]) for j in negatives)
        ap += hard_rank / (hard_rank + hard_false_positives)
        above_all += hard_false_positives == 0
    count = len(positives)
    return loss / count, ranking / count, sorting / count, ap / count, above_all / count


def less_mean(rows: list[Tensor]) -> list[Tensor]:
    """Each row less the mean of all, through which the gradient goes."""
    return [row - sum(rows) / len(rows) for row in rows]


def oracle(
    embeddings: Tensor,
    labels: Tensor,
    ref_embeddings: Tensor | None = None,
    ref_labels: Tensor | None = None,
    *,
    distance: str = "cosine",
    temperature: float = 0.05,
    relaxation: str = "sigmoid",
    sort: str = "angle",
    sort_weight: float = 1.0,
    gradient: str = "error",
    terms: str = "error",
    center: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Truth:
    rows = list(embeddings.to(dtype))
    identities = labels.tolist()
    extra_rows = [] if ref_embeddings is None else list(ref_embeddings.to(dtype))
    if center:
        moving = ref_embeddings is not None and ref_embeddings.requires_grad
        batch = less_mean(rows + extra_rows) if moving else less_mean(rows)
        extra_rows = batch[len(rows) :] if moving else less_mean(extra_rows)
        rows = batch[: len(rows)]
    extra_identities = [] if ref_labels is None else ref_labels.tolist()

    per_query = []
    for q, (query, identity) in enumerate(zip(rows, identities, strict=True)):
        references = rows[:q] + rows[q + 1 :] + extra_rows
        others = identities[:q] + identities[q + 1 :] + extra_identities
        result = one_query(
            query,
            references,
            [other == identity for other in others],
            distance=distance,
            temperature=temperature,
            relaxation=relaxation,
            sort=sort,
            sort_weight=sort_weight,
            gradient=gradient,
            terms=terms,
        )
        if result is not None:
            per_query.append(result)
    if not per_query:
        return Truth(embeddings.sum() * 0, 0.0, 0.0, 0.0, 0.0)
    loss, ranking, sorting, ap, above_all = (sum(column) / len(per_query) for column in zip(*per_query, strict=True))
    return Truth(loss, ranking.item(), sorting.item(), ap, above_all)


def average_precision(scores_of_positives: list[float], scores_of_negatives: list[float]) -> float:
    """Average precision as the textbook has it: sort, walk down, mean precision at the hits (no ties)."""
    ranked = sorted([(s, True) for s in scores_of_positives] + [(s, False) for s in scores_of_negatives], reverse=True)
    hits, precisions = 0, []
    for place, (_, hit) in enumerate(ranked, start=1):
        if hit:
            hits += 1
            precisions.append(hits / place)
    return sum(precisions) / len(precisions)
