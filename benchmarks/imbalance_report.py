"""The table and the plot of the imbalance benchmark."""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch
from imbalance_runs import Runs
from torch import Tensor

Settings = dict[str, dict[str, Any]]
"""Of each loss, what a run of it says beside seed and ratio."""


def scores(args: argparse.Namespace, settings: dict[str, Any], runs: Runs, ratio: int) -> list[float]:
    """mAP in percent of each of the seeds that have run."""
    found = [runs.select({**settings, "seed": seed, "ratio": ratio}) for seed in args.seeds]
    return [100 * run[0]["mAP"] for run in found if run]


def write_report(
    args: argparse.Namespace,
    settings: Settings,
    runs: Runs,
    most: int,
    training: Tensor,
    test: Tensor,
    starts: list[float],
) -> None:
    """Print and write the table, and draw the plot."""
    lines = [f"| loss | {' | '.join(f'1:{ratio}' for ratio in args.ratios)} |", "|---" * (len(args.ratios) + 1) + "|"]
    for loss in args.losses:
        cells = [cell(scores(args, settings[loss], runs, ratio), ratio, most, len(args.seeds)) for ratio in args.ratios]
        lines.append(f"| {loss} | {' | '.join(cells)} |")
    encoded = "each step with gradient" if args.gradient else f"every {args.refresh} steps without gradient"
    lines += [
        "",
        f"mAP in percent, mean ± standard deviation over {len(args.seeds)} seed(s). {describe('Training', training)}; "
        f"{describe('test', test)}. {args.positives} positive(s) a query, so the training set ends at 1:{most}. "
        f"{args.steps} steps, the images outside the batch encoded {encoded}, Adam {args.lr:g} "
        f"with cosine decay, torch {torch.__version__}. Untrained: {100 * statistics.mean(starts):.1f}.",
    ]
    if "order" in args.losses and args.positives == 1:
        lines += [
            "",
            "With one positive a query `order` has nothing to sort: its row is Smooth-AP by Euclidean distance.",
        ]
    table = "\n".join(lines) + "\n"
    (args.output / "table.md").write_text(table)
    print(table)
    draw(args, settings, runs)


def cell(values: list[float], ratio: int, most: int, wanted: int) -> str:
    """Mean and deviation over the seeds, of which a table that is not finished has fewer than ``wanted``."""
    if ratio > most:
        return "the set ends before"
    if not values:
        return "not run"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    fewer = f" ({len(values)} of {wanted} seeds)" if len(values) < wanted else ""
    return f"{statistics.mean(values):.1f}{spread}{fewer}"


def describe(name: str, labels: Tensor) -> str:
    return f"{name}: {len(labels):,} images of {int(labels.max()) + 1} classes"


def draw(args: argparse.Namespace, settings: Settings, runs: Runs) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for index, loss in enumerate(args.losses):
        points = [(ratio, scores(args, settings[loss], runs, ratio)) for ratio in args.ratios]
        points = [(ratio, values) for ratio, values in points if values]
        spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for _, values in points]
        # Side by side, so that bars of standard deviation at one ratio do not cover one another.
        places = [ratio * 1.06 ** (index - (len(args.losses) - 1) / 2) for ratio, _ in points]
        means = [statistics.mean(values) for _, values in points]
        axes.errorbar(places, means, spread, marker="o", capsize=3, label=loss)
    axes.set_xscale("log")
    axes.set_xticks(args.ratios, [f"1:{ratio}" for ratio in args.ratios])
    axes.minorticks_off()
    axes.set_xlabel("positives : negatives of a query in training")
    axes.set_ylabel("mAP on new characters, %")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(args.output / "mAP.png", dpi=150, bbox_inches="tight")
    pyplot.close(figure)
