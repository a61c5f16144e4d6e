"""Evaluation of Market-1501's size, and with its 500,000 distractors: time, and the peak of the process's memory.

Random features; each query has 16 images of its identity in the gallery, from six cameras. One size a process, since
the peak is the process's own.

    python benchmarks/evaluation_speed.py [--gallery 519732] [--width 512] [--metric euclidean] [--cuhk03] [--threads 2]
"""

from __future__ import annotations

import argparse
import platform
import resource
import sys
import time

import numpy as np
import torch

from drsl_plugin.evaluation import METRICS, evaluate_features

IDENTITIES, IMAGES, CAMERAS = 750, 16, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=3368)
    parser.add_argument("--gallery", type=int, default=19_732)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--metric", choices=METRICS, default="cosine")
    parser.add_argument("--cuhk03", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    pids = [rng.integers(1, IDENTITIES + 1, args.queries), np.zeros(args.gallery, dtype=np.int64)]
    pids[1][: IDENTITIES * IMAGES] = np.tile(np.arange(1, IDENTITIES + 1), IMAGES)[: args.gallery]
    camids = [rng.integers(0, CAMERAS, len(each)) for each in pids]
    centres = rng.standard_normal((IDENTITIES + 1, args.width), dtype=np.float32)
    features = [rng.standard_normal((len(each), args.width), dtype=np.float32) for each in pids]
    for each, identities in zip(features, pids, strict=True):
        for start in range(0, len(each), 4096):  # no second gallery: the peak is to be the evaluation's
            each[start : start + 4096] += 0.3 * centres[identities[start : start + 4096]]
    before = peak()
    start = time.perf_counter()
    ranking = evaluate_features(*features, *pids, *camids, metric=args.metric, single_shot=args.cuhk03)
    seconds = time.perf_counter() - start
    print(f"{args.queries} x {args.gallery}, {args.width}-d, {args.metric}{', single-gallery-shot' * args.cuhk03}:")
    print(f"{seconds:.1f} s, peak {peak():.2f} GiB ({before:.2f} before), mAP {ranking.mAP:.3f}")
    print(f"torch {torch.__version__}, numpy {np.__version__}, {platform.machine()}, {args.threads} thread(s)")


def peak() -> float:
    """Return the process's peak of memory in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


if __name__ == "__main__":
    main()
