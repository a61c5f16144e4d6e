"""The configuration of a Torchreid run: its keys and defaults, and the node of DRSL."""

from __future__ import annotations

from typing import Any

from drsl_plugin.errors import MissingPackageError
from drsl_plugin.toolbox.merging import leaves
from drsl_plugin.torchreid.host import torchreid  # noqa: F401  (yacs comes with it: one error names the command)
from drsl_plugin.torchreid.keys import DRSL_KEYS
from drsl_plugin.torchreid.troubles import INSTALL

try:
    from yacs.config import CfgNode
except ModuleNotFoundError as error:
    raise MissingPackageError("yacs is not installed", INSTALL, "yacs") from error

DEFAULTS: dict[str, Any] = {
    "model": {
        "name": "resnet50",
        "pretrained": True,  # start from ImageNet weights
        "load_weights": "",  # file of weights to start from; layers of another shape are left out
        "resume": "",  # checkpoint to go on from
    },
    "data": {
        "type": "image",  # image or video
        "root": "reid-data",
        "sources": ["market1501"],
        "targets": ["market1501"],
        "workers": 4,
        "split_id": 0,
        "height": 256,
        "width": 128,
        "combineall": False,  # train on train, query and gallery
        "transforms": ["random_flip"],
        "k_tfm": 1,
        "norm_mean": [0.485, 0.456, 0.406],
        "norm_std": [0.229, 0.224, 0.225],
        "save_dir": "log",
        "load_train_targets": False,
        "skip_unreadable": False,  # look at all image files first, list those that cannot be read, leave them out
    },
    "market1501": {"use_500k_distractors": False},
    "cuhk03": {"labeled_images": False, "classic_split": False, "use_metric_cuhk03": False},
    "sampler": {
        "train_sampler": "RandomSampler",
        "train_sampler_t": "RandomSampler",
        "num_instances": 4,  # images of one identity in a batch (RandomIdentitySampler)
        "num_cams": 1,
        "num_datasets": 1,
    },
    "video": {"seq_len": 15, "sample_method": "evenly", "pooling_method": "avg"},
    "train": {
        "optim": "adam",
        "lr": 0.0003,
        "weight_decay": 5e-4,
        "max_epoch": 60,
        "start_epoch": 0,
        "batch_size": 32,
        "fixbase_epoch": 0,  # first epochs in which only open_layers are trained
        "open_layers": ["classifier"],
        "staged_lr": False,
        "new_layers": ["classifier"],
        "base_lr_mult": 0.1,
        "lr_scheduler": "single_step",
        "stepsize": [20],
        "gamma": 0.1,
        "print_freq": 20,
        "seed": 1,
    },
    "sgd": {"momentum": 0.9, "dampening": 0.0, "nesterov": False},
    "rmsprop": {"alpha": 0.99},
    "adam": {"beta1": 0.9, "beta2": 0.999},
    "loss": {
        "name": "softmax",  # softmax, triplet or drsl
        "softmax": {"label_smooth": True},
        "triplet": {"margin": 0.3, "weight_t": 1.0, "weight_x": 0.0},
    },
    "test": {
        "batch_size": 100,
        "dist_metric": "euclidean",
        "normalize_feature": False,
        "ranks": [1, 5, 10, 20],
        "evaluate": False,  # evaluate only
        "eval_freq": -1,  # epochs between evaluations; -1: after the last one only
        "start_eval": 0,
        "rerank": False,
        "visrank": False,  # pictures of ranked results; with evaluate only
        "visrank_topk": 10,
    },
}


def add_drsl_config(cfg: CfgNode) -> None:
    """Add the node ``loss.drsl`` and ``data.skip_unreadable`` to a configuration as ``default_config.py`` builds it.

    The node's keys are the settings of :class:`~drsl_plugin.losses.settings.DRSLSettings` and
    :class:`~drsl_plugin.losses.settings.TrainingSettings`; ``drsl torchreid --help`` lists them.

    Example:
        >>> from drsl_plugin.torchreid import add_drsl_config, get_default_config
        >>> cfg = get_default_config()  # already has the node; upstream's own function does not
        >>> add_drsl_config(cfg)
        >>> cfg.loss.drsl.weight_x
        1.0
    """
    cfg.loss.drsl = CfgNode(DRSL_KEYS.defaults())
    cfg.data.setdefault("skip_unreadable", False)


def get_default_config() -> CfgNode:
    """Return Torchreid's default configuration with the DRSL node in it."""
    cfg = CfgNode(DEFAULTS).clone()
    add_drsl_config(cfg)
    return cfg


def settings(cfg: CfgNode) -> dict[str, Any]:
    """Return every key that can be set, dotted, and its value."""
    return dict(leaves(cfg))


def dump(cfg: CfgNode) -> str:
    """Write a configuration as YAML that the stock ``scripts/main.py`` reads too, where the loss is its own."""
    clone = cfg.clone()
    clone.defrost()
    if clone.loss.name != "drsl":
        clone.loss.pop("drsl", None)
        if not clone.data.get("skip_unreadable", False):
            clone.data.pop("skip_unreadable", None)
    text: str = clone.dump()
    return text
