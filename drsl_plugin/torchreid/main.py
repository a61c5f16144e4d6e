"""``drsl torchreid``: the arguments of upstream's ``scripts/main.py``, with DRSL among its losses."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from drsl_plugin.errors import OneLineParser, SettingError
from drsl_plugin.presets import preset_name, resolve_config
from drsl_plugin.runs.reading import OPTION, TRUSTING, trusting_files
from drsl_plugin.toolbox.keys import SKIP_MEANING
from drsl_plugin.toolbox.types import ConfigNode
from drsl_plugin.torchreid import processes
from drsl_plugin.torchreid.config import get_default_config
from drsl_plugin.torchreid.keys import DRSL_KEYS, SKIP
from drsl_plugin.torchreid.merging import merge_file, merge_options
from drsl_plugin.torchreid.record import Evaluation
from drsl_plugin.torchreid.training import train


def main(argv: Sequence[str]) -> dict[str, Evaluation]:
    """Run one training or evaluation from command-line arguments, as one of several processes under ``torchrun``.

    Args:
        argv: the arguments after ``drsl torchreid``.

    Returns:
        The last evaluation of each target; of several processes, the main one has them.

    Raises:
        DRSLError: bad input, or a loss that is not finite.
    """
    with processes.join():
        args = parser().parse_args(argv)
        cfg, preset, wrong = configure(args)
        with trusting_files(args.trust_checkpoints):
            return train(cfg, preset=preset, argv=argv, wrong=wrong)


def parser() -> argparse.ArgumentParser:
    """Return the parser, with upstream's arguments and ``--trust-checkpoints``."""
    parser = OneLineParser(
        prog="drsl torchreid",
        description="Train or evaluate with Torchreid; loss.name is softmax, triplet or drsl.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  drsl torchreid --config-file torchreid/osnet_x1_0_drsl_256x128_market1501 "
        f"--root reid-data train.max_epoch 60\n\n`drsl presets` lists the presets.\n\n{DRSL_KEYS.help()}\n\n"
        f"{SKIP} False: {SKIP_MEANING}",
    )
    parser.add_argument("--config-file", default="", help="a YAML file, or the name of a preset")
    parser.add_argument("-s", "--sources", nargs="+", help="data sets to train on")
    parser.add_argument("-t", "--targets", nargs="+", help="data sets to evaluate on")
    parser.add_argument("--transforms", nargs="+", help="augmentations of the training images")
    parser.add_argument("--root", default="", help="folder that holds the data sets")
    parser.add_argument(OPTION, action="store_true", help=TRUSTING)
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="`key value` pairs, last: train.lr 0.001 loss.name drsl")
    return parser


def configure(args: argparse.Namespace) -> tuple[ConfigNode, str | None, list[SettingError]]:
    """Merge defaults, file and options, in this order.

    Returns:
        The configuration, the name of the preset that it came from, or None, and what is wrong with file and options.

    Raises:
        DRSLError: no such file or preset, or one that cannot be read.
    """
    cfg = get_default_config()
    cfg.use_gpu = torch.cuda.is_available()
    preset, wrong = None, []
    if args.config_file:
        path = resolve_config(args.config_file, "torchreid")
        preset = preset_name(path)
        wrong = merge_file(cfg, path)
    for key in ("root", "sources", "targets", "transforms"):
        if getattr(args, key):
            cfg.data[key] = getattr(args, key)
    return cfg, preset, wrong + merge_options(cfg, args.opts)
