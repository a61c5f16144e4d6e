"""``drsl fastreid``: the arguments of FastReID's ``tools/train_net.py``, with DRSL among its losses."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from typing import Any

from drsl_plugin.errors import ConfigError, OneLineParser
from drsl_plugin.fastreid.config import get_cfg, merge_file, merge_options
from drsl_plugin.fastreid.processes import launch
from drsl_plugin.fastreid.training import Job, is_cpu_run, run_job, run_problems, unharmed_folder
from drsl_plugin.presets import preset_name, resolve_config


def main(argv: Sequence[str]) -> Any:
    """Run one training or evaluation from command-line arguments.

    Args:
        argv: the arguments behind ``drsl fastreid``.

    Returns:
        The last evaluation, where one process ran it; otherwise None.

    Raises:
        DRSLError: bad input, or a loss that is not finite.
    """
    args = parser().parse_args(argv)
    cfg, preset, problems = configure(args)
    processes, wrong = _processes(args, cfg)
    problems += wrong
    problems += run_problems(cfg, args, processes * max(args.num_machines, 1))
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    job = Job(cfg, args, tuple(argv), preset)
    with contextlib.ExitStack() as stack:
        if args.machine_rank == 0:
            stack.enter_context(unharmed_folder(cfg.OUTPUT_DIR, keep_config=args.eval_only))
        return launch(
            run_job, processes, args.num_machines, args.machine_rank, args.dist_url, (job,), cpu=is_cpu_run(cfg)
        )


def parser() -> argparse.ArgumentParser:
    """Return the parser, with FastReID's arguments and ``--num-processes``."""
    parser = OneLineParser(
        prog="drsl fastreid",
        description="Train or evaluate with FastReID; MODEL.LOSSES.NAME may hold DRSLoss.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  FASTREID_DATASETS=reid-data drsl fastreid --config-file "
        "fastreid/Market1501/bagtricks_R50_drsl SOLVER.MAX_EPOCH 60\n\n`drsl presets` lists the presets.",
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="a YAML file, or the name of a preset")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS and train nothing")
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs on this machine")
    parser.add_argument("--num-processes", type=int, default=1, help="processes on this machine with MODEL.DEVICE cpu")
    parser.add_argument("--num-machines", type=int, default=1, help="machines")
    parser.add_argument("--machine-rank", type=int, default=0, help="which of the machines this is, from 0")
    parser.add_argument("--dist-url", default="auto", help="where machines meet, tcp://HOST:PORT")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="`KEY value` pairs, last: SOLVER.BASE_LR 0.001")
    return parser


def configure(args: argparse.Namespace) -> tuple[Any, str | None, list[str]]:
    """Merge defaults, file and options, in this order.

    Returns:
        The configuration, the name of the preset that it came from, or None, and what is wrong with file and options.

    Raises:
        DRSLError: no such file or preset, or one that cannot be read.
    """
    cfg = get_cfg()
    preset, problems = None, []
    if args.config_file:
        path = resolve_config(args.config_file, "fastreid")
        preset = preset_name(path)
        problems = merge_file(cfg, path)
        args.config_file = str(path)  # which FastReID writes into its log
    problems += merge_options(cfg, args.opts)
    return cfg, preset, problems


def _processes(args: argparse.Namespace, cfg: Any) -> tuple[int, list[str]]:
    """Return how many processes this machine gets, and what is wrong with the arguments that say so."""
    problems = [
        f"--{name.replace('_', '-')} {getattr(args, name)}: must be {least} or above"
        for name, least in (("num_gpus", 0), ("num_processes", 1), ("num_machines", 1))
        if getattr(args, name) < least
    ]
    if not 0 <= args.machine_rank < max(args.num_machines, 1):
        problems.append(f"--machine-rank {args.machine_rank}: must be below --num-machines {args.num_machines}")
    if args.num_machines > 1 and args.dist_url == "auto":
        problems.append("--dist-url auto: finds a port for one machine; for several name one, tcp://HOST:PORT")
    if args.dist_url != "auto" and "://" not in args.dist_url:
        problems.append(f"--dist-url {args.dist_url}: expected tcp://HOST:PORT")
    if is_cpu_run(cfg):
        if args.num_gpus > 1:
            problems.append(f"--num-gpus {args.num_gpus}: MODEL.DEVICE is cpu; --num-processes {args.num_gpus}")
        return max(args.num_processes, 1), problems
    if args.num_processes > 1:
        problems.append(
            f"--num-processes {args.num_processes}: is for MODEL.DEVICE cpu; on CUDA --num-gpus {args.num_processes}"
        )
    return max(args.num_gpus, 1), problems
