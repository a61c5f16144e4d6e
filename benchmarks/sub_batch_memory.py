"""A training step in sub-batches (``loss.drsl.sub_batch``) against the step in one piece: OSNet x0.25, batch 64.

Memory is what autograd keeps for backward, at its peak within a step, each storage once and the weights apart. The
engines take turns in one process, each on its own copy of one model, on the same batch; time is the median, with
quartiles, of the ratios of neighbouring steps.

    python benchmarks/sub_batch_memory.py [--sizes 32 16 8] [--steps 10] [--height 256] [--width 128] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch
from torch import Tensor
from training_step import build_batch, build_engine, time_step

from drsl_plugin.torchreid import ImageDRSLEngine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 16, 8])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    batch = build_batch(args.height, args.width)
    engines = {size: build_engine(ImageDRSLEngine, sub_batch=size) for size in (0, *args.sizes)}

    kept = {size: Kept(each.model).peak_of(each, batch) for size, each in engines.items()}
    times: dict[int, list[float]] = {size: [] for size in engines}
    for step in range(args.steps + 1):
        for size in sorted(engines, reverse=bool(step % 2)):  # each goes first every other time
            seconds = time_step(engines[size], batch)
            if step:
                times[size].append(seconds)

    whole = statistics.median(times[0])
    print(f"in one piece: {kept[0] / 2**20:.0f} MiB kept for backward, {1e3 * whole:.0f} ms a step")
    for size in args.sizes:
        ratios = [one / other for one, other in zip(times[size], times[0], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"sub-batches of {size}: {kept[size] / 2**20:.0f} MiB, {kept[size] / kept[0]:.3f} of it; "
            f"time {middle:.2f} (quartiles {low:.2f} to {high:.2f}, {len(ratios)} pairs of steps)"
        )
    where = f"torch {torch.__version__}, {args.threads} thread(s)"
    print(f"{where}, {args.height} x {args.width}, batch {len(batch['pid'])}")


class Kept:
    """Counts the bytes that autograd holds on to, but for a model's weights."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.weights = {parameter.data_ptr() for parameter in model.parameters()}
        self.holders: dict[int, int] = {}
        self.now = self.peak = 0

    def peak_of(self, engine: Any, batch: dict[str, Any]) -> int:
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: Held(self, tensor), lambda held: held.tensor):
            engine.forward_backward(batch)
        return self.peak

    def add(self, storage: Any, change: int) -> None:
        place = storage.data_ptr()
        if place in self.weights:
            return
        before = self.holders.get(place, 0)
        self.holders[place] = before + change
        if before == 0 or before + change == 0:  # the first to hold it, or the last
            self.now += change * storage.nbytes()
            self.peak = max(self.peak, self.now)


class Held:
    """A tensor that is kept for backward, as long as it is."""

    def __init__(self, kept: Kept, tensor: Tensor) -> None:
        self.kept, self.tensor, self.storage = kept, tensor, tensor.untyped_storage()
        kept.add(self.storage, 1)

    def __del__(self) -> None:
        self.kept.add(self.storage, -1)


if __name__ == "__main__":
    main()
