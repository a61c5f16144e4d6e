"""``drsl fastreid``: the arguments of FastReID's ``tools/train_net.py``, with DRSL among its losses."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence

from drsl_plugin.errors import OneLineParser, SettingError, raise_all
from drsl_plugin.fastreid.compat import is_cpu_run
from drsl_plugin.fastreid.config import get_cfg, merge_file, merge_options
from drsl_plugin.fastreid.keys import DRSL_KEYS, SEED_MEANING, SKIP
from drsl_plugin.fastreid.problems import problems
from drsl_plugin.fastreid.processes import launch, no_meeting_place
from drsl_plugin.fastreid.training import Job, leave_folder_unharmed, run_job
from drsl_plugin.fastreid.types import Results
from drsl_plugin.presets import preset_name, resolve_config
from drsl_plugin.runs.reading import OPTION, TRUSTING
from drsl_plugin.toolbox.keys import SKIP_MEANING
from drsl_plugin.toolbox.launching import started_by_torchrun
from drsl_plugin.toolbox.types import ConfigNode


def main(argv: Sequence[str]) -> Results | None:
    """Run one training or evaluation from command-line arguments.

    Args:
        argv: the arguments after ``drsl fastreid``.

    Returns:
        The last evaluation, where one process ran it; otherwise None.

    Raises:
        DRSLError: bad input, or a loss that is not finite.
    """
    args = parser().parse_args(argv)
    cfg, preset, errors = configure(args)
    processes = _processes_here(args, cfg)
    everywhere = processes * max(args.num_machines, 1)
    raise_all(
        [
            *errors,
            *started_by_torchrun("drsl fastreid starts its processes by --num-gpus, or --num-processes on the CPU"),
            *_process_problems(args, cfg),
            *problems(cfg, everywhere, resume=args.resume, evaluate_only=args.eval_only),
        ]
    )
    job = Job(cfg, _with_file(args), tuple(argv), preset)
    with contextlib.ExitStack() as stack:
        if args.machine_rank == 0:
            stack.enter_context(leave_folder_unharmed(cfg.OUTPUT_DIR, keep_config=args.eval_only))
        return launch(
            run_job, processes, args.num_machines, args.machine_rank, args.dist_url, (job,), cpu=is_cpu_run(cfg)
        )


def parser() -> argparse.ArgumentParser:
    """Return the parser, with FastReID's arguments, ``--num-processes`` and ``--trust-checkpoints``."""
    parser = OneLineParser(
        prog="drsl fastreid",
        description="Train or evaluate with FastReID; MODEL.LOSSES.NAME may hold DRSLoss.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  FASTREID_DATASETS=reid-data drsl fastreid --config-file "
        f"fastreid/Market1501/bagtricks_R50_drsl SOLVER.MAX_EPOCH 60\n\n`drsl presets` lists the presets.\n\n"
        f"{DRSL_KEYS.help()}\n\n"
        f"SEED -1: {SEED_MEANING}\n{SKIP} False: {SKIP_MEANING}",
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="a YAML file, or the name of a preset")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS and train nothing")
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs on this machine")
    parser.add_argument("--num-processes", type=int, default=1, help="processes on this machine with MODEL.DEVICE cpu")
    parser.add_argument("--num-machines", type=int, default=1, help="machines")
    parser.add_argument("--machine-rank", type=int, default=0, help="which of the machines this is, from 0")
    parser.add_argument("--dist-url", default="auto", help="where machines meet, tcp://HOST:PORT")
    parser.add_argument(OPTION, action="store_true", help=TRUSTING)
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="`KEY value` pairs, last: SOLVER.BASE_LR 0.001")
    return parser


def configure(args: argparse.Namespace) -> tuple[ConfigNode, str | None, list[SettingError]]:
    """Merge defaults, file and options, in this order.

    Returns:
        The configuration, the name of the preset that it came from, or None, and what is wrong with file and options.

    Raises:
        DRSLError: no such file or preset, or one that cannot be read.
    """
    cfg = get_cfg()
    preset, errors = None, []
    if args.config_file:
        path = resolve_config(args.config_file, "fastreid")
        preset = preset_name(path)
        errors = merge_file(cfg, path)
    return cfg, preset, errors + merge_options(cfg, args.opts)


def _with_file(args: argparse.Namespace) -> argparse.Namespace:
    """Return the arguments with the file of the configuration, which FastReID writes into its log."""
    file = str(resolve_config(args.config_file, "fastreid")) if args.config_file else ""
    return argparse.Namespace(**{**vars(args), "config_file": file})


def _processes_here(args: argparse.Namespace, cfg: ConfigNode) -> int:
    """Return how many processes this machine gets."""
    processes: int = args.num_processes if is_cpu_run(cfg) else args.num_gpus
    return max(processes, 1)


def _process_problems(args: argparse.Namespace, cfg: ConfigNode) -> Iterator[SettingError]:
    """Yield what is wrong with the arguments that say which processes there are."""
    for name, least in (("num_gpus", 0), ("num_processes", 1), ("num_machines", 1)):
        value = getattr(args, name)
        if value < least:
            yield SettingError(f"--{name.replace('_', '-')}", value, f"must be {least} or above")
    if not 0 <= args.machine_rank < max(args.num_machines, 1):
        yield SettingError("--machine-rank", args.machine_rank, f"must be below --num-machines {args.num_machines}")
    if args.num_machines > 1 and args.dist_url == "auto":
        yield no_meeting_place()
    if args.dist_url != "auto" and "://" not in args.dist_url:
        yield SettingError("--dist-url", args.dist_url, "expected tcp://HOST:PORT")
    on_cpu = is_cpu_run(cfg)
    if on_cpu and args.num_gpus > 1:
        yield SettingError("--num-gpus", args.num_gpus, f"MODEL.DEVICE is cpu; --num-processes {args.num_gpus}")
    if not on_cpu and args.num_processes > 1:
        needs = f"is for MODEL.DEVICE cpu; on CUDA --num-gpus {args.num_processes}"
        yield SettingError("--num-processes", args.num_processes, needs)
