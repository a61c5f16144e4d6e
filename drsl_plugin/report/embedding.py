"""A 2-D map of a few identities' embeddings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from drsl_plugin.evaluation import JUNK
from drsl_plugin.report.pairs import counted_queries
from drsl_plugin.runs.features import FeatureFile

MAP_POINTS = 1000
"""At most."""
COMPONENTS = 50
"""Principal components that t-SNE starts from."""
SEED = 0


class Map(NamedTuple):
    """Points of whole identities."""

    points: NDArray[np.float64]
    """``(N, 2)``."""
    pids: NDArray[np.int64]
    queries: NDArray[np.bool_]
    """Which points are queries."""
    identities: int
    """That could have been drawn: those with a query that counts."""


def embedding_map(arrays: FeatureFile, metric: str, points: int = MAP_POINTS) -> Map | str:
    """Lay whole identities, drawn at random, into the plane: principal components, then t-SNE.

    The draw depends on the identities alone, so that two runs on one target show the same ones.

    Args:
        arrays: features and labels.
        metric: of the evaluation; with ``"cosine"`` the features are normalised.
        points: how many at most.

    Returns:
        The map, or why there is none.

    Source:
        van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008; scikit-learn's implementation.
    """
    drawn, identities = _draw(arrays, points)
    if not len(drawn):
        return f"no map: every identity has more than {points:,} images"
    parts = [np.isin(pids, drawn) for pids in (arrays.query_pids, arrays.gallery_pids)]
    features = np.concatenate([arrays.query_features[parts[0]], arrays.gallery_features[parts[1]]]).astype(np.float64)
    pids = np.concatenate([arrays.query_pids[parts[0]], arrays.gallery_pids[parts[1]]])
    if metric == "cosine":
        features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    if len(features) < 5 or features.std(axis=0).max() < 1e-6 * max(1e-12, np.abs(features).max()):
        return "no map: fewer than five images, or all embeddings are equal"
    features = PCA(min(COMPONENTS, *features.shape), random_state=SEED).fit_transform(features)
    start = "pca" if features.shape[1] > 1 else "random"
    tsne = TSNE(perplexity=min(30.0, (len(features) - 1) / 3), init=start, random_state=SEED)
    return Map(tsne.fit_transform(features), pids, np.arange(len(pids)) < parts[0].sum(), identities)


def _draw(arrays: FeatureFile, points: int) -> tuple[NDArray[np.int64], int]:
    """Draw identities in a random order, as long as all images of the next one fit."""
    known = np.unique(arrays.query_pids[counted_queries(arrays)])
    everything = np.concatenate([arrays.query_pids, arrays.gallery_pids])
    sizes = dict(zip(*(each.tolist() for each in np.unique(everything, return_counts=True)), strict=True))
    drawn, left = [], points
    for pid in np.random.default_rng(SEED).permutation(known[known != JUNK]).tolist():
        if sizes[pid] <= left:
            drawn.append(pid)
            left -= sizes[pid]
    return np.array(drawn, dtype=np.int64), len(known)
