"""Where each query's positives are among the references, without an (N, R) mask."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Identities(NamedTuple):
    """The positives of N queries among R references, of which the first N are the queries themselves.

    No shape depends on how many positives there are, so that none has to be read from the device.
    """

    labels: Tensor
    """``(N,)``, of the queries."""
    ref_labels: Tensor
    """``(R,)``, of all references."""
    order: Tensor
    """``(R,)``: the references, sorted by label."""
    start: Tensor
    """``(N,)``: where in ``order`` those of the query's label begin."""
    place: Tensor
    """``(N,)``: how far after ``start`` the query itself stands."""
    counts: Tensor
    """``(N,)``: number of positives, the query itself not among them."""

    def weights(self, dtype: torch.dtype) -> Tensor:
        """Return weights, ``(N,)``, that average over a query's positives, then over the queries that have one."""
        queries = (self.counts > 0).sum().clamp(min=1)
        return (self.counts.clamp(min=1) * queries).to(dtype).reciprocal()

    def columns(self, rows: slice, most: int) -> tuple[Tensor, Tensor]:
        """Return the columns of the positives of some queries, ``(n, most)``, and which of them are no padding."""
        nth = torch.arange(most, device=self.order.device)
        nth_other = nth + (nth >= self.place[rows].unsqueeze(1)).to(nth.dtype)  # steps over the query itself
        places = (self.start[rows].unsqueeze(1) + nth_other).clamp(max=max(len(self.order) - 1, 0))
        return self.order[places], nth < self.counts[rows].unsqueeze(1)

    def is_same(self, rows: slice) -> Tensor:
        """Return ``(n, R)``: true where a reference has the label of the query, as the query itself has."""
        return self.labels[rows].unsqueeze(1) == self.ref_labels


def find_identities(labels: Tensor, ref_labels: Tensor) -> Identities:
    """Find the positives of queries among references.

    Args:
        labels: ``(N,)``, of the queries.
        ref_labels: ``(R,)``, of all references; begins with those of the queries.
    """
    in_order, order = torch.sort(ref_labels, stable=True)
    labels = labels.contiguous()
    start = torch.searchsorted(in_order, labels)
    counts = torch.searchsorted(in_order, labels, right=True) - start - 1
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    return Identities(labels, ref_labels, order, start, place[: len(labels)] - start, counts)
