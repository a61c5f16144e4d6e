"""Few positives against many negatives: triplet, Smooth-AP and DRSL on Omniglot, from 1:15 to 1:8191.

A small network is trained on the characters of Omniglot's `images_background_small1` and their three rotations, and
measured by its mAP on the characters of `images_background_small2` that the first does not have. Each query has one
positive and, by the ratio, 15 to 8191 negatives: 14 from its batch, the others training images encoded without
gradient. The losses see the same images in the same order from the same initial weights. Every finished run is a line
in OUTPUT/runs.jsonl, and is not run again; OUTPUT/table.md, OUTPUT/mAP.png and OUTPUT/runs.csv are made of those lines.
`--runs docs/results/imbalance.csv` takes up the runs that are published with the repository.

With `--gradient` the other images are encoded with gradient, each step: a control that tells imbalance from references
without gradient. It takes time in proportion to the ratio.

Data: python/images_background_small1.zip and …_small2.zip of https://github.com/brendenlake/omniglot (MIT), unpacked
into one folder. Needs the packages of `pip install "drsl-plugin[benchmarks]"`.

    python benchmarks/imbalance.py --data omniglot --output imbalance [--seeds 1 2 3] [--ratios 15 63 255 1023 8191]
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import one_line
import torch
from imbalance_data import Group, Images, check_classes, largest_ratio, negatives_in_group, periods, training_and_test
from imbalance_report import write_report
from imbalance_runs import Runs
from torch import Tensor, nn

from drsl_plugin import drsl_loss
from drsl_plugin.errors import DRSLError, OneLineParser
from drsl_plugin.evaluation import evaluate_ranking
from drsl_plugin.losses.settings import DRSLSettings

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Recipe(NamedTuple):
    loss: Loss
    distance: str
    """What the loss ranks by, and what its network is measured by."""
    temperature: float | None = None
    sort_weight: float | None = None
    """None where the loss has none: no step, nothing to sort."""


def triplet_loss(embeddings: Tensor, labels: Tensor, outside: Tensor, outside_labels: Tensor) -> Tensor:
    """Batch-hard triplet, margin 0.3, Euclidean: the furthest positive and the nearest negative of all references."""
    references, all_labels = torch.cat([embeddings, outside]), torch.cat([labels, outside_labels])
    distances = torch.cdist(embeddings, references, compute_mode="donot_use_mm_for_euclid_dist")
    same = labels.unsqueeze(1) == all_labels.unsqueeze(0)
    furthest = distances.masked_fill(~same, -math.inf).amax(dim=1)  # the query itself, at 0, is never that
    nearest = distances.masked_fill(same, math.inf).amin(dim=1)
    return torch.relu(furthest - nearest + 0.3).mean()


def drsl(**options: Any) -> Recipe:
    """DRSL with these options, the others at their defaults."""
    settings = DRSLSettings(**options)
    weight = None if settings.sort == "none" else settings.sort_weight
    return Recipe(partial(drsl_loss, **options), settings.distance, settings.temperature, weight)


# Euclidean, on embeddings that are not normalised, is where `order` has something to say; 0.03 is the temperature of
# this project's presets for that distance.
EUCLIDEAN = {"distance": "euclidean", "temperature": 0.03}
RECIPES = {
    "triplet": Recipe(triplet_loss, "euclidean"),
    "smooth-ap": drsl(sort="none", gradient="slope"),
    "angle": drsl(sort="angle", gradient="slope"),
    "angle-0.1": drsl(sort="angle", gradient="slope", sort_weight=0.1),
    "order": drsl(sort="order", gradient="slope", **EUCLIDEAN),
    "smooth-ap-euclidean": drsl(sort="none", gradient="slope", **EUCLIDEAN),
    "error": drsl(sort="none", gradient="error"),
    "error-centred": drsl(sort="none", gradient="error", center=True),
    "error-angle": drsl(sort="angle", gradient="error"),
    "error-angle-centred": drsl(sort="angle", gradient="error", center=True),
    "log": drsl(sort="none", gradient="slope", terms="log"),
    "log-centred": drsl(sort="none", gradient="slope", terms="log", center=True),
    "log-angle": drsl(sort="angle", gradient="slope", terms="log"),
    "log-angle-centred": drsl(sort="angle", gradient="slope", terms="log", center=True),
    "graded": drsl(sort="angle", gradient="slope", terms="graded"),
    "graded-centred": drsl(sort="angle", gradient="slope", terms="graded", center=True),
    "smooth-ap-centred": drsl(sort="none", gradient="slope", center=True),
}


def options(recipe: Recipe) -> dict[str, float | None]:
    """What a run's line says of its loss beside the name."""
    return {"temperature": recipe.temperature, "sort_weight": recipe.sort_weight}


def adjusted(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    """``recipe`` at ``--temperature`` and ``--sort-weight``, where it has them."""
    asked = {name: getattr(args, name) for name in ("temperature", "sort_weight")}
    changes = {name: value for name, value in asked.items() if value is not None and getattr(recipe, name) is not None}
    return recipe._replace(loss=partial(recipe.loss, **changes), **changes)


def network(seed: int, images: Images) -> nn.Module:
    """Four blocks of 32 channels, 64 dimensions, not normalised: what every loss of a seed begins with.

    Group norm: an image's embedding is then the same in a batch and as a reference from outside it. The last layer's
    bias makes the mean embedding 0: otherwise every cosine is near 1 before the first step.
    """
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for channels in (1, 32, 32, 32):
        layers += [nn.Conv2d(channels, 32, 3, padding=1, bias=False), nn.GroupNorm(8, 32), nn.ReLU(), nn.MaxPool2d(2)]
    last = nn.Linear(3 * 3 * 32, 64)
    net = nn.Sequential(*layers[:-1], nn.Flatten(), last)
    net = net.to(memory_format=torch.channels_last)  # the faster one on a CPU
    with torch.no_grad():
        last.bias -= encode(net, images.pixels[:: max(1, len(images.pixels) // 1000)]).mean(dim=0)
    return net


def embed(net: nn.Module, pixels: Tensor) -> Tensor:
    """Sixteen images at a time, which a processor's cache holds: twice as fast as 64, and the same embeddings."""
    return torch.cat([net(part) for part in pixels.split(16)])


@torch.no_grad()
def encode(net: nn.Module, pixels: Tensor) -> Tensor:
    return embed(net, pixels)


def encode_outside(net: nn.Module, period: list[list[Group]], images: Images, gradient: bool) -> Tensor:
    """Embeddings of the outside images of a period, at their places among all images."""
    needed = torch.cat([group.outside for groups in period for group in groups]).unique()
    memory = torch.full((len(images.labels), 64), math.nan)  # what is used without being encoded shows
    if not len(needed):
        return memory
    return memory.index_copy(0, needed, (embed if gradient else encode)(net, images.pixels[needed]))


def step_loss(loss: Loss, net: nn.Module, groups: list[Group], images: Images, memory: Tensor) -> Tensor:
    """Mean of the groups' losses, with ``memory`` the embeddings of the images outside the batch."""
    embeddings = embed(net, images.pixels[torch.cat([group.batch for group in groups])])
    losses = [
        loss(part, images.labels[group.batch], memory[group.outside], images.labels[group.outside])
        for part, group in zip(embeddings.split(len(groups[0].batch)), groups, strict=True)
    ]
    return torch.stack(losses).mean()


def train(net: nn.Module, recipe: Recipe, images: Images, settings: dict[str, Any]) -> float:
    """Train ``net``; returns the mean loss of the last tenth of the steps."""
    steps, losses = settings["steps"], []
    optimizer = torch.optim.Adam(net.parameters(), lr=settings["lr"])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    names = ("ratio", "positives", "steps", "refresh", "seed")
    for period in periods(images.labels, **{name: settings[name] for name in names}):
        memory = encode_outside(net, period, images, settings["gradient"])
        for groups in period:
            loss = step_loss(recipe.loss, net, groups, images, memory)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
    if not all(map(math.isfinite, losses)):
        raise DRSLError(f"--lr {settings['lr']}: the loss of {settings['loss']} is not finite; try a smaller one")
    tail = losses[-max(1, steps // 10) :]
    return sum(tail) / len(tail)


def mean_average_precision(net: nn.Module, images: Images, distance: str) -> float:
    """Rank all other images for each image."""
    embeddings = encode(net, images.pixels)
    if distance == "cosine":
        embeddings = nn.functional.normalize(embeddings)
    distances = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    labels = images.labels.numpy()
    itself = torch.arange(len(labels)).numpy()  # a camera of its own for each image leaves out the image alone
    return evaluate_ranking(distances, labels, labels, itself, itself).mAP


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the two unpacked folders of images")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results; a second call goes on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--losses", nargs="+", choices=RECIPES, default=["triplet", "smooth-ap", "angle", "order"])
    parser.add_argument("--ratios", type=int, nargs="+", default=[15, 63, 255, 1023, 8191], help="negatives a positive")
    parser.add_argument("--positives", type=int, default=1, help="positives of a query (default: %(default)s)")
    parser.add_argument("--temperature", type=float, help="of the losses that have one, in place of theirs")
    parser.add_argument("--sort-weight", type=float, help="of the losses that sort, in place of theirs")
    parser.add_argument("--steps", type=int, default=500, help="steps of training (default: %(default)s)")
    parser.add_argument("--refresh", type=int, default=10, help="steps between two encodings (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=0.001, help="Adam's, with cosine decay (default: %(default)s)")
    parser.add_argument("--gradient", action="store_true", help="gradient through all references, encoded each step")
    parser.add_argument("--hold-out", metavar="ALPHABET", help="train without an alphabet, measure on it: to choose")
    parser.add_argument("--runs", type=Path, metavar="CSV", help="runs.csv of another output: not to be run again")
    parser.add_argument("--report-only", action="store_true", help="table, plot and runs.csv of what there is")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(arguments)
    for name in ("positives", "steps", "refresh", "lr", "threads"):
        if getattr(args, name) <= 0:
            raise DRSLError(f"--{name} must be above 0, got {getattr(args, name)}")
    args.refresh = 1 if args.gradient else args.refresh
    least = math.ceil(negatives_in_group(args.positives) / args.positives)
    if min(args.ratios) < least:
        raise DRSLError(f"--ratios must be {least} or more, which the batch alone has, got {min(args.ratios)}")
    return args


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    torch.set_num_threads(args.threads)
    training, test = training_and_test(args.data, args.hold_out)
    check_classes(training.labels, args.positives)
    most = largest_ratio(training.labels, args.positives)
    common = {name: getattr(args, name) for name in ("positives", "steps", "refresh", "lr", "gradient", "hold_out")}
    recipes = {name: adjusted(RECIPES[name], args) for name in args.losses}
    settings = {name: {"loss": name, **common, **options(recipe)} for name, recipe in recipes.items()}
    runs = Runs(args.output / "runs.jsonl")
    if args.runs is not None:
        runs.take(args.runs)
    ratios = [ratio for ratio in args.ratios if ratio <= most]
    for ratio in sorted(set(args.ratios) - set(ratios)):
        print(f"1:{ratio} is left out: the training set ends at 1:{most} for {args.positives} positive(s) a query")
    starts = []
    for seed in args.seeds:  # the outermost, so that there is one whole comparison before the next begins
        start = network(seed, training)
        starts.append(mean_average_precision(start, test, "cosine"))
        for ratio, name in itertools.product([] if args.report_only else ratios, args.losses):
            this = {"seed": seed, "ratio": ratio, **settings[name]}
            if this not in runs:
                result = run(copy.deepcopy(start), recipes[name], training, test, this)
                runs.add(this, result)
                measured = f"mAP {100 * result['mAP']:.2f}  {result['seconds']:.0f} s"
                print(f"seed {seed}  1:{ratio:<5} {name:20} {measured}", flush=True)
    runs.write_csv(args.output / "runs.csv")
    write_report(args, settings, runs, most, training.labels, test.labels, starts)


def run(net: nn.Module, recipe: Recipe, training: Images, test: Images, settings: dict[str, Any]) -> dict[str, float]:
    """Train, then measure by both distances; ``mAP`` is by the one that the loss ranks by."""
    start = time.perf_counter()
    result = {"last_loss": train(net, recipe, training, settings)}
    result |= {f"mAP_{name}": mean_average_precision(net, test, name) for name in ("cosine", "euclidean")}
    return {**result, "mAP": result[f"mAP_{recipe.distance}"], "seconds": time.perf_counter() - start}


if __name__ == "__main__":
    one_line.run(main)
