"""What training logged, ready to be drawn: of steps the means of a few, of branches the mean."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drsl_plugin.toolbox.registry import data_set_key

CURVE_POINTS = 300
"""Of a curve, at most."""
EVALUATED_VALUES = ("mAP", "mINP", "rank1")
NOT_DRAWN = ("step", "epoch", "target")
BRANCH = re.compile(r"(loss_\w+?)_b\d+")
CURVE_TITLES = {
    "loss_drsl": "DRSL",
    "loss_t": "Triplet loss",
    "loss_triplet": "Triplet loss",
    "loss_x": "Cross-entropy",
    "loss_cls": "Classification loss",
    "total_loss": "All losses, weighted",
    "loss": "Loss",
    "ranking": "Ranking term (relaxed 1 − AP)",
    "sorting": "Sorting term",
    "ap": "Batch AP (exact ranks)",
    "above_all": "Positives above every negative",
    "temperature": "Temperature",
    "lr": "Learning rate",
    "acc": "Accuracy of the classifier, %",
    "cls_accuracy": "Accuracy of the classifier",
}
"""In the order in which they are drawn; other names come after them."""


class Curve(NamedTuple):
    """One value of one run over steps."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]
    joined: int
    """Steps that a point is the mean of."""
    branches: int
    """Of the model, whose mean it is."""
    bad: int
    """Values that were NaN or infinite and are left out."""


def training_curves(rows: Sequence[dict[str, Any]], points: int = CURVE_POINTS) -> dict[str, Curve]:
    """Return the curve of each value that a run logged at its steps.

    ``loss_cls_b1``, ``loss_cls_b2`` … of a model with branches are one curve, ``loss_cls``.

    Args:
        rows: of ``metrics.jsonl``.
        points: of a curve, at most.
    """
    found: dict[str, dict[float, list[float]]] = {}
    names: dict[str, set[str]] = {}
    for row in rows:
        step = row.get("step")
        if "target" in row or step is None or not _is_number(step):
            continue
        for name, value in row.items():
            if name not in NOT_DRAWN and _is_number(value):
                branch = BRANCH.fullmatch(name)
                family = branch[1] if branch else name
                names.setdefault(family, set()).add(name)
                found.setdefault(family, {}).setdefault(step, []).append(value)
    order = list(CURVE_TITLES)
    ordered = sorted(found, key=lambda name: order.index(name) if name in order else len(order))
    return {name: _build_curve(found[name], points, len(names[name])) for name in ordered}


def evaluations(rows: Sequence[dict[str, Any]], target: str) -> dict[str, Curve]:
    """Return mAP, mINP and Rank-1 in percent over steps, where a run evaluated a target more than once.

    Args:
        rows: of ``metrics.jsonl``.
        target: the data set, in any spelling.
    """
    of_target = [row for row in rows if data_set_key(str(row.get("target"))) == data_set_key(target)]
    mine = [row for row in of_target if _is_number(row.get("step"))]
    curves = {}
    for name in EVALUATED_VALUES:
        values = {row["step"]: [100 * row[name]] for row in mine if _is_number(row.get(name))}
        if len(values) > 1:
            curves[name] = _build_curve(values, len(values), 1)
    return curves


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _build_curve(values: dict[float, list[float]], points: int, branches: int) -> Curve:
    steps = sorted(values)
    joined = max(1, math.ceil(len(steps) / points))
    xs, ys, bad = [], [], 0
    for start in range(0, len(steps), joined):
        part = steps[start : start + joined]
        every = [value for step in part for value in values[step]]
        finite = [value for value in every if math.isfinite(value)]
        bad += len(every) - len(finite)
        xs.append(float(np.mean(part)))
        ys.append(float(np.mean(finite)) if finite else math.nan)
    return Curve(np.array(xs), np.array(ys), joined, branches, bad)
