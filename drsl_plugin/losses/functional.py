"""DRSL as one pure function."""

from __future__ import annotations

from typing import Literal, NamedTuple, overload

from torch import Tensor
from typing_extensions import Unpack

from drsl_plugin.losses.backends.centering import count_moving
from drsl_plugin.losses.backends.choice import compute_loss
from drsl_plugin.losses.checks import check_batch
from drsl_plugin.losses.settings import DRSLSettings, LossOptions
from drsl_plugin.losses.signatures import show_options


class DRSLParts(NamedTuple):
    """The parts of the loss that logs show: detached scalars, each averaged per query, then over the queries."""

    ranking: Tensor
    """Ranking error, in [0, 1): the relaxed 1 - AP."""
    sorting: Tensor
    """Sorting error, in [0, 1], before its weight."""
    ap: Tensor
    """Average precision of the exact ranks, in [0, 1]; a negative at a tie counts as ranked before."""
    above_all: Tensor
    """Share of the positives that are ranked above every negative, in [0, 1]."""


@overload
def drsl_loss(
    embeddings: Tensor,
    labels: Tensor,
    ref_embeddings: Tensor | None = None,
    ref_labels: Tensor | None = None,
    *,
    return_parts: Literal[False] = False,
    **options: Unpack[LossOptions],
) -> Tensor: ...


@overload
def drsl_loss(
    embeddings: Tensor,
    labels: Tensor,
    ref_embeddings: Tensor | None = None,
    ref_labels: Tensor | None = None,
    *,
    return_parts: Literal[True],
    **options: Unpack[LossOptions],
) -> tuple[Tensor, DRSLParts]: ...


@overload
def drsl_loss(
    embeddings: Tensor,
    labels: Tensor,
    ref_embeddings: Tensor | None = None,
    ref_labels: Tensor | None = None,
    *,
    return_parts: bool,
    **options: Unpack[LossOptions],
) -> Tensor | tuple[Tensor, DRSLParts]: ...


@show_options(LossOptions)
def drsl_loss(
    embeddings: Tensor,
    labels: Tensor,
    ref_embeddings: Tensor | None = None,
    ref_labels: Tensor | None = None,
    *,
    return_parts: bool = False,
    **options: Unpack[LossOptions],
) -> Tensor | tuple[Tensor, DRSLParts]:
    r"""Differentiable Retrieval-Sort Loss: rank each positive before the negatives, sort the positives by angle.

    .. math::

        L = \frac{1}{|Q|} \sum_{q \in Q} \frac{1}{|P_q|} \sum_{i \in P_q}
            \left[ \frac{F_q(i)}{R^+_q(i) + F_q(i)} + \lambda\, \ell_S(q, i) \right]

        a_q(i, j) = H(s_{qj} - s_{qi}), \quad
        R^+_q(i) = 1 + \sum_{j \in P_q, j \neq i} a_q(i, j), \quad
        F_q(i) = \sum_{j \in N_q} a_q(i, j)

    Each sample of the batch is a query; its references are the other samples and all extra references;
    :math:`P_q` are those of its label, :math:`N_q` the others, :math:`Q` the queries with a positive. The score
    :math:`s` is the cosine, or the negative Euclidean distance over the query's mean distance; :math:`H(x)` is
    :math:`\sigma(x/\tau)` (``"sigmoid"``) or :math:`\min(1, \max(0, x/2\tau + 1/2))` (``"linear"``). With the quality
    :math:`y_{qj} = (1 + \cos\theta_{qj})/2` of a positive, the sorting error is

    .. math::

        \ell_S(q, i) = \frac{(1 - y_{qi}) + \sum_{j \in P_q, j \neq i} a_q(i, j)(1 - y_{qj})}{R^+_q(i)}

    for ``sort="angle"`` (the gradient goes through the angle as well); for ``"order"`` the same with y detached, minus
    the same sums over :math:`\{j : y_{qj} \ge y_{qi}\}`; for ``"none"`` it is 0 and the loss is that of Smooth-AP.

    With ``gradient="error"`` the gradient is no derivative of that value. It is the errors themselves, as AP-loss and
    RS loss have them: each positive is pulled by its error, and what has caused the error is pushed by its share,

    .. math::

        \frac{\partial}{\partial s_{qj}} \mathrel{+}= c\, \frac{a_q(i, j)}{R^+_q(i) + F_q(i)} \;(j \in N_q), \qquad
        \frac{\partial}{\partial s_{qi}} \mathrel{-}= c\, \ell_R(q, i), \qquad c = \frac{1}{2\tau}

    averaged as the loss is. Pulls and pushes balance, no slope of a step is in them, and the pull of a positive at a
    tie with N negatives tends to c, where the derivative fades as 1/N. ``"order"`` likewise pulls by its sorting error
    and pushes the positives ahead of less quality, in proportion to :math:`a_q(i, j)`; ``"angle"`` has its derivative
    in the angles alone, the ranks held. ``gradcheck`` does not apply.

    ``terms="log"`` makes the derivative not fade in another way: it is the mean of
    :math:`-\log(1 - \ell_R) - \lambda \log(1 - \ell_S)`, with :math:`1 - \ell_S` at least 1e-6. ``"graded"`` is that
    of :math:`1 - (1 - \ell_R)(1 - \lambda \ell_S)`, a precision in which a positive counts its quality and not 1.

    With ``center`` scores and angles are those of :math:`e - \operatorname{mean}(e)` over the batch, that is the
    embeddings and the references with gradient, and of :math:`r - \operatorname{mean}(r)` over the references without:
    those cannot move, and all of a batch would be pushed away from them in one direction. Where all of either are
    equal they become zero vectors, as the only reference does: the loss is finite, with zero gradient.

    The mathematics runs in float32 (float64 stays float64) with autocast off. Except for small batches the gradient is
    computed in the forward pass, some queries at a time, and what is kept for backward is the gradient of the
    embeddings: N·D numbers, and M·D where the references want one. A NaN in the embeddings makes the loss NaN where
    any query has a positive, so that loggers see it.

    Args:
        embeddings: ``(N, D)`` floating point; need not be normalised.
        labels: ``(N,)`` integers, in any order, with any number of instances for each.
        ref_embeddings: ``(M, D)`` extra references, with or without gradient: other processes' embeddings, a memory.
        ref_labels: ``(M,)`` integers, the labels of ``ref_embeddings``.
        distance: the ranking score, ``"cosine"`` or ``"euclidean"`` (of the embeddings as they are).
        temperature: :math:`\tau > 0`, the width of the relaxed step in units of the score; not comparable between the
            two distances, nor between the relaxations.
        relaxation: the step, ``"sigmoid"`` or ``"linear"``.
        sort: the sorting term, ``"angle"``, ``"order"`` or ``"none"``. On L2-normalised embeddings with
            ``distance="cosine"`` the two orders agree and ``"order"`` has nothing to say.
        sort_weight: :math:`\lambda \ge 0`.
        gradient: ``"slope"``, the derivative, or ``"error"``, the error-driven update.
        terms: how ranking and sorting error of a positive make its loss, ``"error"`` (the sum above), ``"log"`` (with
            ``gradient="slope"`` alone) or ``"graded"`` (with a sorting term of weight 1 at most).
        center: take the mean from the embeddings first, from references without gradient their own.
        backend: how it is computed; the results differ by rounding alone. ``"unfused"``: on tensors of N·K·(N + M)
            numbers, K the largest number of positives, and differentiable twice where ``gradient`` is ``"slope"``;
            ``"chunked"``: the gradient in the forward pass, in chunks of queries; ``"triton"``: likewise, by a kernel
            on CUDA. Up to its launch no value is read from the device (shown with fake tensors, of which none can be
            read); it has run in Triton's interpreter and been compiled for GPUs, but not run on one. ``"auto"``: the
            kernel on CUDA with Triton, else the unfused path up to 1,024 scores N·(N + M) and the chunked one above.
        chunk_budget: bytes for the rows of scores that a fused path works on at a time, at least one query's; None
            chooses. Results do not depend on it.
        return_parts: also return the parts for the logs.

    Returns:
        The loss, a scalar in :math:`[0, 1 + \lambda]` (``"graded"``: :math:`[0, 1]`; ``"log"``: from 0 to
        :math:`\log(1 + |N_q|) + 6 \lambda \log 10`); with ``return_parts`` the pair ``(loss, DRSLParts)``. Where no
        query has a positive, the loss and its parts are 0 and the loss keeps its graph.

    Raises:
        ValueError: a setting outside its range, shapes or devices that do not go together, a ``chunk_budget`` too
            small for one query, or ``center`` and a batch of one against references.
        TypeError: embeddings that are not floating point, labels that are not integers.

    Example:
        >>> import torch
        >>> embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> loss, parts = drsl_loss(embeddings, labels, return_parts=True)
        >>> round(loss.item(), 4), parts.ap.item()
        (0.0025, 1.0)

    Source:
        X. Xu, X. Yuan, Z. Wang, K. Zhang, R. Hu, "Rank-in-Rank Loss for Person Re-identification", ACM TOMM 2022,
        doi 10.1145/3532866. The paper's equations are not public: this is a reconstruction. Rank by distance and sort
        by angle is the abstract's; the ranking error is Smooth-AP's (Brown et al., ECCV 2020), the linear step and the
        sorting error RS loss's (Oksuz et al., ICCV 2021); the error-driven update is that of AP-loss (Chen et al., CVPR
        2019) and RS loss, in units of the linear step's slope; logarithm, grading, centre, the angle as quality, its
        weight and the temperature are ours.
    """
    for name in options:
        if name not in LossOptions.__annotations__:
            raise TypeError(f"drsl_loss() got an unexpected keyword argument {name!r}")
    settings = DRSLSettings(**options)
    check_batch(embeddings, labels, ref_embeddings, ref_labels)
    of_batch = count_moving(ref_embeddings)
    batch = (embeddings, labels, ref_embeddings, ref_labels)
    loss, parts = compute_loss(*batch, settings, exact=return_parts, of_batch=of_batch)
    return (loss, DRSLParts(*parts.unbind())) if return_parts else loss
