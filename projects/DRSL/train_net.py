#!/usr/bin/env python
"""Train with DRSL from a clone of FastReID: ``drsl fastreid`` in the shape of FastReID's other projects."""

import sys

sys.path.append(".")

# isort: off
# First: this makes FastReID importable on today's Python and torch.
from drsl_plugin.fastreid import (
    DRSLTrainer,
    ExactCheckpointer,
    add_drsl_config,
    check_run,
    launch,
    plain_config_errors,
)

from drsl_plugin.errors import DRSLError
from fastreid.config import get_cfg
from fastreid.engine import default_argument_parser, default_setup
from fastreid.utils import comm
# isort: on


def setup(args):
    """Merge the configuration, check it, and set the process up as FastReID does."""
    cfg = get_cfg()
    add_drsl_config(cfg)
    with plain_config_errors("train_net.py"):
        cfg.merge_from_file(args.config_file)
        cfg.merge_from_list(args.opts)
    cfg.freeze()
    check_run(cfg, args, comm.get_world_size())
    default_setup(cfg, args)
    return cfg


def main(args):
    """Train, or evaluate with ``--eval-only``; runs in each process."""
    cfg = setup(args)

    if args.eval_only:
        cfg.defrost()
        cfg.MODEL.BACKBONE.PRETRAIN = False
        model = DRSLTrainer.build_model(cfg)
        ExactCheckpointer(model).load_for_evaluation(cfg.MODEL.WEIGHTS)
        return DRSLTrainer.test(cfg, model)

    trainer = DRSLTrainer(cfg, argv=sys.argv[1:])
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


if __name__ == "__main__":
    parser = default_argument_parser()
    parser.add_argument("--num-processes", type=int, default=1, help="processes on this machine with MODEL.DEVICE cpu")
    args = parser.parse_args()
    on_cpu = args.num_processes > 1
    try:
        launch(
            main,
            args.num_processes if on_cpu else args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
            cpu=on_cpu or None,
        )
    except DRSLError as error:
        for each in error.errors:
            print(f"error: {each}", file=sys.stderr)
        sys.exit(2)
