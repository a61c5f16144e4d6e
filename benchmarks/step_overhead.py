"""A training step with DRSL against the same step with Torchreid's triplet engine: OSNet x0.25, batch 64 (16 x 4).

The engines take turns in one process, each on its own copy of one model, on the same batch. Prints the median step time
of each with its quartiles, and the median of the ratios to the triplet engine in the same turn. With `--memory`
there is an engine more for each size, error-driven and centred, whose memory is full: four images an identity.

    python benchmarks/step_overhead.py [--steps 40] [--height 256] [--width 128] [--threads 1] [--memory 1024 8192]
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch
import torchreid
from training_step import INSTANCES, build_batch, build_engine, time_step

from drsl_plugin import DRSLoss
from drsl_plugin.torchreid import ImageDRSLEngine

WIDTH = 512
"""Of the features of OSNet."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", type=int, nargs="*", default=[], help="sizes")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    batch = build_batch(args.height, args.width)
    engines = {
        "triplet": build_engine(torchreid.engine.ImageTripletEngine, weight_x=1.0),
        "drsl": build_engine(ImageDRSLEngine, weight_x=1.0),
        **{f"drsl, memory {size}": with_memory(size, len(batch["pid"])) for size in args.memory},
    }

    times: dict[str, list[float]] = {name: [] for name in engines}
    for step in range(args.steps + 2):
        for name in list(engines)[:: -1 if step % 2 else 1]:  # each goes first every other time
            seconds = time_step(engines[name], batch)
            if step >= 2:
                times[name].append(seconds)

    for name, seconds in times.items():
        low, middle, high = statistics.quantiles(seconds, n=4)
        print(f"{name:18} {1e3 * middle:7.1f} ms a step (quartiles {1e3 * low:.1f} to {1e3 * high:.1f})", end="")
        ratios = [own / triplet for own, triplet in zip(seconds, times["triplet"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"   {middle:.3f} of triplet's ({low:.3f} to {high:.3f})")
    where = f"torch {torch.__version__}, {args.threads} thread(s)"
    print(f"{where}, {args.height} x {args.width}, batch {len(batch['pid'])}, {args.steps} turns")


def with_memory(size: int, batch: int) -> Any:
    """Build an engine whose memory is full of noise."""
    criterion = DRSLoss(gradient="error", center=True, memory_size=size)
    assert criterion.memory is not None
    for start in range(0, size, batch):
        labels = torch.arange(start, min(start + batch, size)) // INSTANCES
        criterion.memory.store(torch.randn(len(labels), WIDTH), labels)
    return build_engine(ImageDRSLEngine, criterion=criterion, weight_x=1.0)


if __name__ == "__main__":
    main()
