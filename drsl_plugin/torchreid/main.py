"""``drsl torchreid``: the arguments of upstream's ``scripts/main.py``, with DRSL among its losses."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch

from drsl_plugin.errors import DRSLError, OneLineParser
from drsl_plugin.presets import preset_name, resolve_config
from drsl_plugin.torchreid.config import get_default_config, merge_file, merge_options
from drsl_plugin.torchreid.processes import joined
from drsl_plugin.torchreid.recording import Evaluation
from drsl_plugin.torchreid.training import train


def main(argv: Sequence[str]) -> dict[str, Evaluation]:
    """Run one training or evaluation from command-line arguments, as one of several processes under ``torchrun``.

    Args:
        argv: the arguments behind ``drsl torchreid``.

    Returns:
        The last evaluation of each target; of several processes, the main one has them.

    Raises:
        DRSLError: bad input, or a loss that is not finite.
    """
    with joined():
        args = parser().parse_args(argv)
        cfg, preset = configure(args)
        return train(cfg, preset=preset, argv=argv)


def parser() -> argparse.ArgumentParser:
    """Return the parser, with upstream's arguments and no other."""
    parser = OneLineParser(
        prog="drsl torchreid",
        description="Train or evaluate with Torchreid; loss.name is softmax, triplet or drsl.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  drsl torchreid --config-file torchreid/osnet_x1_0_drsl_256x128_market1501 "
        "--root reid-data train.max_epoch 60\n\n`drsl presets` lists the presets.",
    )
    parser.add_argument("--config-file", default="", help="a YAML file, or the name of a preset")
    parser.add_argument("-s", "--sources", nargs="+", help="data sets to train on")
    parser.add_argument("-t", "--targets", nargs="+", help="data sets to evaluate on")
    parser.add_argument("--transforms", nargs="+", help="augmentations of the training images")
    parser.add_argument("--root", default="", help="folder that holds the data sets")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="`key value` pairs, last: train.lr 0.001 loss.name drsl")
    return parser


def configure(args: argparse.Namespace) -> tuple[Any, str | None]:
    """Merge defaults, file and options, in this order.

    Returns:
        The configuration, and the name of the preset that it came from, or None.

    Raises:
        DRSLError: an unknown preset or key, or a value of another type.
    """
    cfg = get_default_config()
    cfg.use_gpu = torch.cuda.is_available()
    preset = None
    if args.config_file:
        path = resolve_config(args.config_file, "torchreid")
        preset = preset_name(path)
        merge_file(cfg, path)
    for key in ("root", "sources", "targets", "transforms"):
        if getattr(args, key):
            cfg.data[key] = getattr(args, key)
    merge_options(cfg, args.opts)
    if cfg.use_gpu and not torch.cuda.is_available():
        raise DRSLError("use_gpu True: torch finds no CUDA device here; leave use_gpu out, or set it False")
    return cfg, preset
