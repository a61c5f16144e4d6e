"""A training step with DRSL against the same step with Torchreid's triplet engine: OSNet x0.25, batch 64 (16 x 4).

The two engines take turns in one process, each on its own copy of one model, on the same batch. Prints each engine's
median step time with its quartiles, and the median of the ratios of neighbouring steps.

    python benchmarks/step_overhead.py [--steps 40] [--height 256] [--width 128] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics

import torch
import torchreid
from training_step import build_batch, build_engine, time_step

from drsl_plugin.torchreid import ImageDRSLEngine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    batch = build_batch(args.height, args.width)
    classes = {"triplet": torchreid.engine.ImageTripletEngine, "drsl": ImageDRSLEngine}
    engines = {name: build_engine(engine_class, weight_x=1.0) for name, engine_class in classes.items()}

    times: dict[str, list[float]] = {name: [] for name in engines}
    for step in range(args.steps + 2):
        for name in sorted(engines, reverse=bool(step % 2)):  # each goes first every other time
            seconds = time_step(engines[name], batch)
            if step >= 2:
                times[name].append(seconds)

    for name, seconds in times.items():
        low, middle, high = statistics.quantiles(seconds, n=4)
        print(f"{name:8} {1e3 * middle:7.1f} ms a step (quartiles {1e3 * low:.1f} to {1e3 * high:.1f})")
    ratios = [drsl / triplet for drsl, triplet in zip(times["drsl"], times["triplet"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"drsl / triplet: {middle:.3f} (quartiles {low:.3f} to {high:.3f}, {len(ratios)} pairs of steps)")
    where = f"torch {torch.__version__}, {args.threads} thread(s)"
    print(f"{where}, {args.height} x {args.width}, batch {len(batch['pid'])}")


if __name__ == "__main__":
    main()
