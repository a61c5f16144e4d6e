"""Retrieval metrics as arrays, of distances or of features: CMC, mAP, mINP; knows no toolbox and no file."""

from drsl_plugin.evaluation.matches import NO_MATCH, explain_no_match
from drsl_plugin.evaluation.ranking import (
    CHUNK_BUDGET,
    JUNK,
    METRICS,
    Ranking,
    distance_chunks,
    evaluate_features,
    evaluate_ranking,
)
from drsl_plugin.evaluation.single_shot import expected_cmc

__all__ = [
    "CHUNK_BUDGET",
    "JUNK",
    "METRICS",
    "NO_MATCH",
    "Ranking",
    "distance_chunks",
    "evaluate_features",
    "evaluate_ranking",
    "expected_cmc",
    "explain_no_match",
]
