"""DRSL alone, forward and backward, against the ranking losses of pytorch-metric-learning and Torchreid's triplet loss.

All take turns in one process on the same embeddings. For each size (identities x instances x dimension): the median
time with its quartiles, the median of the ratios to the plain similarity product of the same turn (normalise,
X @ X.T, backward), the peak of memory beyond the embeddings, and what is kept from forward to backward. With
`--settings` the settings of DRSL take turns instead, and the ratios are to its defaults of 0.1.0.

    pip install "drsl-plugin[benchmarks]"
    python benchmarks/loss_speed.py [--device cpu] [--turns 15] [--threads 1] [--sizes 16x4x512 32x8x512] [--settings]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytorch_metric_learning
import torch
import torchreid
from pytorch_metric_learning.losses import FastAPLoss, SmoothAPLoss, TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from torch import Tensor
from torch.nn.functional import normalize
from torch.profiler import ProfilerActivity, profile

from drsl_plugin import drsl_loss

CUBE_LIMIT = 2**28
"""Entries of an N x N x N tensor above which Smooth-AP is left out; it makes several."""
FIRST = "slope, error"
SETTINGS: dict[str, dict[str, Any]] = {
    FIRST: {"gradient": "slope", "terms": "error", "center": False},
    "error-driven": {"gradient": "error", "terms": "error", "center": False},
    "error-driven, order": {"gradient": "error", "terms": "error", "center": False, "sort": "order"},
    "error-driven, graded": {"gradient": "error", "terms": "graded", "center": False},
    "log": {"gradient": "slope", "terms": "log", "center": False},
    "graded": {"gradient": "slope", "terms": "graded", "center": False},
    "centred": {"gradient": "slope", "terms": "error", "center": True},
    "error-driven, centred": {"gradient": "error", "terms": "error", "center": True},
}


class Run(NamedTuple):
    """One loss on one batch."""

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    embeddings: Tensor
    labels: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", nargs="+", default=["16x4x512", "32x8x512", "64x16x2048"])
    parser.add_argument("--alone", nargs="*", default=["1024x4x2048"], help="sizes for DRSL and the plain product only")
    parser.add_argument("--references", type=int, default=65_536, help="of 64 queries of 512 dimensions; 0 leaves out")
    parser.add_argument("--settings", action="store_true", help="compare the settings of DRSL with each other")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    base = FIRST if args.settings else "plain"
    print(f"| size | loss | ms (quartiles) | × {base} | peak MiB | kept MiB |\n|{'---|' * 6}")
    for size in [*args.sizes, *args.alone]:
        identities, instances, width = map(int, size.split("x"))
        few = size in args.alone
        todo = runs(identities, instances, width, args.device, few)
        if args.settings:
            todo = [Run(name, partial(drsl_loss, **each), *todo[0][2:]) for name, each in SETTINGS.items()]
        report(size, todo, 3 if few else args.turns, args.device, base)
    if args.references:
        many = against_memory(args.references, args.device, SETTINGS if args.settings else {})
        report(f"64 against {args.references}", many, args.turns if args.settings else 3, args.device, base)
    where = torch.cuda.get_device_name() if args.device.startswith("cuda") else f"{args.threads} CPU thread(s)"
    versions = f"torch {torch.__version__}, pytorch-metric-learning {pytorch_metric_learning.__version__}"
    print(f"\n{versions}, Python {platform.python_version()}, {where}, float32, default settings")


def runs(identities: int, instances: int, width: int, device: str, few: bool) -> list[Run]:
    """Every loss that can follow, on one batch; identities stand together, which Smooth-AP needs."""
    torch.manual_seed(0)
    labels = torch.arange(identities, device=device).repeat_interleave(instances)
    embeddings = torch.randn(len(labels), width, device=device)
    mine = BatchHardMiner()
    triplet, fast_ap, hardest = TripletMarginLoss(), FastAPLoss(), torchreid.losses.TripletLoss()
    upstream = torch.randn(len(labels), len(labels), device=device)
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "plain": lambda x, _: similarity(x, upstream),
        "DRSL": drsl_loss,
    }
    if not few:
        losses["DRSL, unfused"] = lambda x, y: drsl_loss(x, y, backend="unfused")
        losses["triplet (Torchreid)"] = hardest
        losses["triplet, batch-hard"] = lambda x, y: triplet(x, y, mine(x, y))
        losses["FastAP"] = fast_ap
        if len(labels) ** 3 <= CUBE_LIMIT:
            losses["Smooth-AP"] = SmoothAPLoss()
    return [Run(name, loss, embeddings, labels) for name, loss in losses.items()]


def against_memory(references: int, device: str, settings: dict[str, dict[str, Any]]) -> list[Run]:
    """64 queries against a memory without gradient; with ``settings``, those of DRSL alone."""
    torch.manual_seed(0)
    labels = torch.arange(16, device=device).repeat_interleave(4)
    embeddings, memory = torch.randn(64, 512, device=device), torch.randn(references, 512, device=device)
    memory_labels = torch.arange(references, device=device) // 4
    upstream = torch.randn(64, 64 + references, device=device)
    if settings:
        return [
            Run(name, lambda x, y, each=each: drsl_loss(x, y, memory, memory_labels, **each), embeddings, labels)
            for name, each in settings.items()
        ]
    return [
        Run("plain", lambda x, _: similarity(x, upstream, memory), embeddings, labels),
        Run("DRSL", lambda x, y: drsl_loss(x, y, memory, memory_labels), embeddings, labels),
    ]


def similarity(embeddings: Tensor, upstream: Tensor, memory: Tensor | None = None) -> Tensor:
    """The floor of every loss on all similarities: the product, and its backward with a gradient of every entry."""
    unit = normalize(embeddings)
    others = unit if memory is None else torch.cat([unit, normalize(memory)])
    return _Upstream.apply(unit @ others.T, upstream)


class _Upstream(torch.autograd.Function):
    """A scalar whose gradient is given."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, upstream: Tensor) -> Tensor:
        ctx.save_for_backward(upstream)
        return scores.new_zeros(())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0], None


def report(size: str, todo: list[Run], turns: int, device: str, base: str) -> None:
    times: dict[str, list[float]] = {run.name: [] for run in todo}
    for turn in range(turns + 1):
        for run in todo if turn % 2 else reversed(todo):
            seconds = timed(run, device)
            if turn:
                times[run.name].append(seconds)
    for run in todo:
        low, middle, high = statistics.quantiles(times[run.name], n=4)
        ratio = statistics.median(a / b for a, b in zip(times[run.name], times[base], strict=True))
        peak, kept = memory(run, device)
        milliseconds = f"{1e3 * middle:.2f} ({1e3 * low:.2f} to {1e3 * high:.2f})"
        print(f"| {size} | {run.name} | {milliseconds} | {ratio:.2f} | {peak:.1f} | {kept:.1f} |", flush=True)


def step(run: Run) -> None:
    run.loss(run.embeddings.detach().requires_grad_(), run.labels).backward()


def timed(run: Run, device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start = time.perf_counter()
    step(run)
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def memory(run: Run, device: str) -> tuple[float, float]:
    """Peak of one pass and what stays from forward to backward, MiB, the embeddings left out."""
    kept = weakref.WeakSet[_Kept]()

    def pack(tensor: Tensor) -> _Kept:
        kept.add(this := _Kept(tensor))
        return this

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda this: this.tensor):
        loss = run.loss(run.embeddings.detach().requires_grad_(), run.labels)
    storages = {each.tensor.untyped_storage().data_ptr(): each.tensor.untyped_storage().nbytes() for each in kept}
    storages.pop(run.embeddings.untyped_storage().data_ptr(), None)
    del loss
    return peak_of(run, device) / 2**20, sum(storages.values()) / 2**20


def peak_of(run: Run, device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(run)
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step(run)
    used = highest = 0
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        used += event.nbytes()
        highest = max(highest, used)
    return highest


class _Kept:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


if __name__ == "__main__":
    main()
