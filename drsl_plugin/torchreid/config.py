"""The configuration of a Torchreid run: its keys and defaults, the DRSL node, and how files and options are merged."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from drsl_plugin.errors import DRSLError, nearest
from drsl_plugin.torchreid.host import torchreid  # noqa: F401  (yacs comes with it: one error names the command)

try:
    from yacs.config import CfgNode
except ModuleNotFoundError as error:
    raise ImportError('yacs is not installed: pip install "drsl-plugin[torchreid]"', name="yacs") from error

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
    """Add the node ``loss.drsl`` to a Torchreid configuration, as its ``default_config.py`` builds it.

    Example:
        >>> from drsl_plugin.torchreid import add_drsl_config, get_default_config
        >>> cfg = get_default_config()  # already has the node; upstream's own function does not
        >>> add_drsl_config(cfg)
        >>> cfg.loss.drsl.weight_x
        1.0
    """
    cfg.loss.drsl = CfgNode()
    cfg.loss.drsl.weight = 1.0  # weight of DRSL, 0 or above
    cfg.loss.drsl.weight_x = 1.0  # weight of the cross-entropy, 0 or above
    cfg.loss.drsl.distance = "cosine"  # score that ranks: cosine or euclidean
    cfg.loss.drsl.temperature = 0.05  # width of the relaxed step, above 0
    cfg.loss.drsl.temperature_schedule = "constant"  # from temperature to temperature_end: constant, linear or cosine
    cfg.loss.drsl.temperature_end = 0.0  # temperature at the last step, above 0; 0 where the schedule is constant
    cfg.loss.drsl.relaxation = "sigmoid"  # relaxed step: sigmoid or linear
    cfg.loss.drsl.sort = "angle"  # sorting term: angle, order or none
    cfg.loss.drsl.sort_weight = 1.0  # weight of the sorting term, 0 or above
    cfg.loss.drsl.memory_size = 0  # embeddings of earlier batches that are references too, at least a batch; 0: none
    cfg.loss.drsl.memory_warmup = 0  # batches that are stored before the memory takes part, 0 or above
    cfg.loss.drsl.sub_batch = 0  # samples (video: tracklets) in memory at once, a divisor of the batch; 0: all


def get_default_config() -> CfgNode:
    """Return Torchreid's default configuration with the DRSL node in it."""
    cfg = CfgNode(DEFAULTS).clone()
    add_drsl_config(cfg)
    return cfg


def merge_file(cfg: CfgNode, path: Path) -> None:
    """Merge a YAML file of nested keys.

    Raises:
        DRSLError: no YAML mapping, an unknown key, or a value of another type.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DRSLError(f"--config-file {path}: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise DRSLError(f"--config-file {path}: expected keys like model.name, got {type(tree).__name__}")
    for key, value in _leaves(tree):
        _set(cfg, key, value, f"--config-file {path}: ")


def merge_settings(cfg: CfgNode, changes: Mapping[str, Any]) -> None:
    """Merge dotted keys.

    Raises:
        DRSLError: an unknown key, or a value of another type.
    """
    for key, value in changes.items():
        _set(cfg, key, value, "")


def merge_options(cfg: CfgNode, options: Sequence[str]) -> None:
    """Merge ``key value`` pairs from the command line.

    Raises:
        DRSLError: a key without its value, an unknown key, or a value of another type.
    """
    pairs = list(zip(options[::2], options[1::2], strict=False))
    if len(options) % 2:
        known = settings(cfg)
        alone = next((key for key, value in pairs if key not in known or value in known), options[-1])
        raise DRSLError(f"options come in pairs, `key value`: {alone!r} stands alone")
    merge_settings(cfg, dict(pairs))


def settings(cfg: CfgNode) -> dict[str, Any]:
    """Return every key that can be set, dotted, and its value."""
    return dict(_leaves(cfg))


def dump(cfg: CfgNode) -> str:
    """Write a configuration as YAML that the stock ``scripts/main.py`` reads too, where the loss is its own."""
    clone = cfg.clone()
    clone.defrost()
    if clone.loss.name != "drsl":
        clone.loss.pop("drsl", None)
    text: str = clone.dump()
    return text


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, dotted + ".")
        else:
            yield dotted, value


def _set(cfg: CfgNode, key: str, value: Any, where: str) -> None:
    *path, leaf = key.split(".")
    node: Any = cfg
    for name in path:
        node = node.get(name) if isinstance(node, CfgNode) else None
    if not isinstance(node, CfgNode) or leaf not in node or isinstance(node[leaf], CfgNode):
        raise DRSLError(f"{where}unknown key {key}{nearest(key, settings(cfg))}")
    try:
        node[leaf] = _coerce(node[leaf], value)
    except TypeError:
        default = node[leaf]
        kind = type(default).__name__
        raise DRSLError(f"{where}{key} takes a value of type {kind}, like {default!r}; got {value!r}") from None


def _coerce(default: Any, value: Any) -> Any:
    """Bring a value to its key's type: text is read as a Python literal first, an int will do for a float.

    A list's elements are brought to the type of the default's; one element will do for a list. Only lists of text can
    be empty.
    """
    if isinstance(default, str):
        return value if isinstance(value, str) else str(value)
    if isinstance(value, str):
        value = _literal(value)
    if isinstance(default, list):
        values = value if isinstance(value, (list, tuple)) else [value]
        element = default[0] if default else ""
        if not values and not isinstance(element, str):
            raise TypeError
        return [_coerce(element, each) for each in values]
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        raise TypeError
    return value


def _literal(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
