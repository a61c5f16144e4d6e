"""Training scripts of the toolboxes' shape, for ``drsl run``."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from hosts import Host

DEFAULT_CONFIG = """
from yacs.config import CfgNode
from drsl_plugin.torchreid.config import DEFAULTS

def get_default_config():
    return CfgNode(DEFAULTS).clone()
"""

# What upstream's scripts/main.py does, in its order and by its means, in fewer words.
MAIN = """
import argparse, os.path as osp, sys
import torch
import torchreid
from torchreid.utils import Logger, set_random_seed, resume_from_checkpoint, check_isfile
from default_config import get_default_config

def build_engine(cfg, datamanager, model, optimizer, scheduler):
    common = dict(optimizer=optimizer, scheduler=scheduler, use_gpu=cfg.use_gpu,
                  label_smooth=cfg.loss.softmax.label_smooth)
    if cfg.loss.name == 'softmax':
        return torchreid.engine.ImageSoftmaxEngine(datamanager, model, **common)
    else:
        return torchreid.engine.ImageTripletEngine(
            datamanager, model, margin=cfg.loss.triplet.margin, weight_t=cfg.loss.triplet.weight_t,
            weight_x=cfg.loss.triplet.weight_x, **common)

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--config-file', type=str, default='')
    parser.add_argument('opts', default=None, nargs=argparse.REMAINDER)
    args = parser.parse_args()
    cfg = get_default_config()
    cfg.use_gpu = torch.cuda.is_available()
    if args.config_file:
        cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    set_random_seed(cfg.train.seed)
    sys.stdout = Logger(osp.join(cfg.data.save_dir, 'train.log'))
    datamanager = torchreid.data.ImageDataManager(
        root=cfg.data.root, sources=cfg.data.sources, targets=cfg.data.targets, height=cfg.data.height,
        width=cfg.data.width, batch_size_train=cfg.train.batch_size, batch_size_test=cfg.test.batch_size,
        workers=cfg.data.workers, num_instances=cfg.sampler.num_instances, train_sampler=cfg.sampler.train_sampler)
    model = torchreid.models.build_model(
        name=cfg.model.name, num_classes=datamanager.num_train_pids, loss=cfg.loss.name,
        pretrained=cfg.model.pretrained, use_gpu=cfg.use_gpu)
    optimizer = torchreid.optim.build_optimizer(model, optim=cfg.train.optim, lr=cfg.train.lr)
    scheduler = torchreid.optim.build_lr_scheduler(optimizer, stepsize=cfg.train.stepsize)
    if cfg.model.resume and check_isfile(cfg.model.resume):
        cfg.train.start_epoch = resume_from_checkpoint(
            cfg.model.resume, model, optimizer=optimizer, scheduler=scheduler)
    engine = build_engine(cfg, datamanager, model, optimizer, scheduler)
    engine.run(save_dir=cfg.data.save_dir, max_epoch=cfg.train.max_epoch, start_epoch=cfg.train.start_epoch,
               print_freq=cfg.train.print_freq)

if __name__ == '__main__':
    main()
"""

# What FastReID's tools/train_net.py does, in its order and by its means.
TRAIN_NET = """
import sys

sys.path.append('.')

from fastreid.config import get_cfg
from fastreid.engine import DefaultTrainer, default_argument_parser, default_setup, launch
from fastreid.utils.checkpoint import Checkpointer

def setup(args):
    cfg = get_cfg()
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    default_setup(cfg, args)
    return cfg

def main(args):
    cfg = setup(args)
    if args.eval_only:
        cfg.defrost()
        cfg.MODEL.BACKBONE.PRETRAIN = False
        model = DefaultTrainer.build_model(cfg)
        Checkpointer(model).load(cfg.MODEL.WEIGHTS)
        return DefaultTrainer.test(cfg, model)
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()

if __name__ == "__main__":
    args = default_argument_parser().parse_args()
    print("Command Line Args:", args)
    launch(main, args.num_gpus, num_machines=args.num_machines, machine_rank=args.machine_rank,
           dist_url=args.dist_url, args=(args,))
"""


def write_script(host: Host, folder: Path) -> list[str]:
    """Write a script of the toolbox's shape, and what it reads, into a folder; return the words that run it."""
    if host.name == "torchreid":
        (folder / "scripts").mkdir()
        (folder / "scripts" / "default_config.py").write_text(DEFAULT_CONFIG)
        script = folder / "scripts" / "main.py"
        script.write_text(MAIN)
        return [str(script)]
    (folder / "tools").mkdir()
    script = folder / "tools" / "train_net.py"
    script.write_text(TRAIN_NET)
    config = folder / "mine.yml"
    config.write_text('MODEL:\n  META_ARCHITECTURE: Baseline\nDATASETS:\n  TESTS: ("Market1501",)\n')
    return [str(script), "--config-file", str(config)]


@contextlib.contextmanager
def fastreid_left_as_it_was() -> Iterator[None]:
    """What ``drsl run`` puts in FastReID's places is gone after it, whether its run failed or not."""
    from drsl_plugin.fastreid.host import fastreid

    logger = logging.getLogger("fastreid")
    log = logger.handlers[:], logger.level, logger.propagate
    before = snapshot()
    yield
    assert snapshot() == before
    logger.handlers[:], logger.level, logger.propagate = log
    fastreid.utils.logger.setup_logger.cache_clear()
    fastreid.utils.logger._cached_log_stream.cache_clear()


def snapshot() -> dict[str, Any]:
    from drsl_plugin.fastreid.host import fastreid

    names = "engine", "engine.defaults", "engine.launch", "modeling", "modeling.meta_arch", "modeling.meta_arch.build"
    names = *names, "solver", "solver.build", "evaluation", "evaluation.reid_evaluation", "data", "data.build", "config"
    modules = {f"fastreid.{name}": sys.modules[f"fastreid.{name}"] for name in names}
    attributes = {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in vars(module).items()
        if not isinstance(value, ModuleType) and not key.startswith("__")
    }
    main = sys.modules["__main__"]
    return {
        **attributes,
        "defaults": fastreid.config.get_cfg().dump(),
        "argv": sys.argv[:],
        "path": sys.path[:],
        "main": (main, main.__dict__.get("__file__")),
    }
