"""Embeddings less their mean, so that what does not move cannot push a whole batch in one direction."""

from __future__ import annotations

import torch
from torch import Tensor

from drsl_plugin.errors import SettingError


def count_moving(references: Tensor | None) -> int:
    """Count the extra references that move with the batch, and are centred with it: all, where they have a gradient."""
    return len(references) if references is not None and references.requires_grad else 0


def center_embeddings(queries: Tensor, others: Tensor | None, of_batch: int) -> tuple[Tensor, Tensor | None]:
    r"""Return the batch less its mean, and the references that do not move less theirs.

    .. math:: e_n - \frac{1}{|B|} \sum_{b \in B} e_b, \qquad r_m - \frac{1}{|M|} \sum_{k \in M} r_k

    with B the queries and the references of their batch, M the other references. The gradient goes through the mean of
    B; M has none. Where all of B, or all of M, are equal, or there is one alone, they become exactly 0.

    Args:
        queries: ``(N, D)``.
        others: ``(M, D)`` extra references, or None.
        of_batch: how many of them, the first, are of the queries' batch: embeddings of other processes.

    Raises:
        SettingError: a batch of one against references: it would learn nothing.

    Example:
        >>> center_embeddings(torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [5.0]]), of_batch=0)
        (tensor([[-1.],
                [ 1.]]), tensor([[0.],
                [0.]]))
    """
    if others is None or not len(others):
        return _less_mean(queries), others
    if len(queries) + of_batch == 1:
        raise SettingError("center", True, "needs a batch of two embeddings or more; less its mean, one alone is 0")
    batch = _less_mean(torch.cat([queries, others[:of_batch]]) if of_batch else queries)
    kept = _less_mean(others[of_batch:].detach())
    return batch[: len(queries)], torch.cat([batch[len(queries) :], kept]) if of_batch else kept


def _less_mean(embeddings: Tensor) -> Tensor:
    if not len(embeddings):
        return embeddings
    # From one of them first: a mean of equal numbers may be off by rounding, a mean of zeros is not.
    shifted = embeddings - embeddings[:1].detach()
    return shifted.sub_(shifted.mean(dim=0))  # in place: there may be a whole memory of them
