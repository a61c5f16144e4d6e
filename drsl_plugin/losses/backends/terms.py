"""The terms of DRSL on padded positives: N queries, at most K positives of each, R references."""

from __future__ import annotations

import torch
from torch import Tensor

from drsl_plugin.losses.settings import DRSLSettings, Relaxation, Sort

LEAST_PRECISION = 1e-6
"""Of the sorting term under a logarithm: a positive at the opposite pole has none, and would make the loss infinite."""


def pad_positives(is_positive: Tensor) -> tuple[Tensor, Tensor]:
    """Columns of each query's positives, (N, K), and which of them are real rather than padding."""
    counts = is_positive.sum(dim=1)
    most = int(counts.max()) if len(counts) else 0
    columns = torch.argsort(is_positive.to(torch.uint8), dim=1, descending=True, stable=True)[:, :most]
    return columns, torch.arange(columns.shape[1], device=columns.device) < counts.unsqueeze(1)


def differences(scores: Tensor, positive_scores: Tensor) -> Tensor:
    """``(N, K, R)``: the score of reference j less that of positive i."""
    return scores.unsqueeze(1) - positive_scores.unsqueeze(2)


def relaxed_step(x: Tensor, temperature: float, relaxation: Relaxation) -> Tensor:
    """H(x), the relaxed step, element by element."""
    if relaxation == "sigmoid":
        return torch.sigmoid(x / temperature)
    # Not a clamp: its gradient at the two ends is 1, and here the slope is 0 from |x| = temperature on.
    return torch.where(x.abs() >= temperature, (x > 0).to(x.dtype), x / (2 * temperature) + 0.5)


def sum_where(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of (N, K, R) values over the references that the (N, R) mask names."""
    return torch.bmm(values, mask.to(values.dtype).unsqueeze(2)).squeeze(2)


def sorting_error(among_positives: Tensor, positive_rank: Tensor, quality: Tensor, sort: Sort) -> Tensor:
    """Sorting error of each positive, (N, K): of the ranks among positives (N, K, K) and their quality (N, K)."""
    if sort == "none":
        return torch.zeros_like(positive_rank)
    if sort == "order":
        quality = quality.detach()
    lack = 1 - quality
    error = (lack + torch.bmm(among_positives, lack.unsqueeze(2)).squeeze(2)) / positive_rank
    if sort == "angle":
        return error
    better = among_positives * (quality.unsqueeze(1) >= quality.unsqueeze(2))
    target = (lack + torch.bmm(better, lack.unsqueeze(2)).squeeze(2)) / (1 + better.sum(dim=2))
    return error - target


def share_out(causes: Tensor) -> Tensor:
    """Shares of what has caused an error, (N, K, K): they sum to 1 over the last, or are all 0 without a cause."""
    total = causes.sum(dim=2, keepdim=True)
    return causes / torch.where(total == 0, torch.ones_like(total), total)


def joint_error(false_positives: Tensor, positive_rank: Tensor, sorting: Tensor, settings: DRSLSettings) -> Tensor:
    """Ranking and sorting error of each positive, (N, K), as one number of the terms ``log`` or ``graded``."""
    if settings.terms == "log":
        sorted_precision = (1 - sorting).clamp(min=LEAST_PRECISION)
        return torch.log1p(false_positives / positive_rank) - settings.sort_weight * sorted_precision.log()
    total = positive_rank + false_positives
    return false_positives / total + settings.sort_weight * sorting * positive_rank / total


def query_weights(is_real: Tensor) -> Tensor:
    """Weights that average over the positives of each query, then over the queries that have one."""
    counts = is_real.sum(dim=1, keepdim=True)
    queries = (counts > 0).sum().clamp(min=1)
    return is_real / (counts.clamp(min=1) * queries)


def exact_parts(scores: Tensor, positive_scores: Tensor, is_negative: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """AP share and above-all flag of each positive, by the exact step H(0) = 1."""
    false_positives = sum_where((differences(scores, positive_scores) >= 0).to(scores.dtype), is_negative)
    ahead = (differences(positive_scores, positive_scores) >= 0) & counted
    positive_rank = 1 + ahead.sum(dim=2)
    return positive_rank / (positive_rank + false_positives), (false_positives == 0).to(scores.dtype)
