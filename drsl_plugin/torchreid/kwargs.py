"""A configuration's keys as the arguments of Torchreid's classes."""

from __future__ import annotations

from typing import Any

from drsl_plugin.toolbox.types import ConfigNode


def data_kwargs(cfg: ConfigNode) -> dict[str, Any]:
    """Return the arguments of ``ImageDataManager`` or ``VideoDataManager``."""
    data, sampler = cfg.data, cfg.sampler
    kwargs = {name: data[name] for name in ("root", "sources", "targets", "height", "width", "transforms")}
    kwargs |= {name: data[name] for name in ("norm_mean", "norm_std", "split_id", "combineall", "workers")}
    kwargs |= {name: sampler[name] for name in ("num_instances", "num_cams", "num_datasets", "train_sampler")}
    kwargs |= {
        "use_gpu": cfg.use_gpu,
        "batch_size_train": cfg.train.batch_size,
        "batch_size_test": cfg.test.batch_size,
    }
    if data.type == "video":
        return {**kwargs, "seq_len": cfg.video.seq_len, "sample_method": cfg.video.sample_method}
    return {
        **kwargs,
        "k_tfm": data.k_tfm,
        "load_train_targets": data.load_train_targets,
        "train_sampler_t": sampler.train_sampler_t,
        "cuhk03_labeled": cfg.cuhk03.labeled_images,
        "cuhk03_classic_split": cfg.cuhk03.classic_split,
        "market1501_500k": cfg.market1501.use_500k_distractors,
    }


def optimizer_kwargs(cfg: ConfigNode) -> dict[str, Any]:
    """Return the arguments of ``build_optimizer``."""
    names = ("optim", "lr", "weight_decay", "staged_lr", "new_layers", "base_lr_mult")
    return {
        **{name: cfg.train[name] for name in names},
        "momentum": cfg.sgd.momentum,
        "sgd_dampening": cfg.sgd.dampening,
        "sgd_nesterov": cfg.sgd.nesterov,
        "rmsprop_alpha": cfg.rmsprop.alpha,
        "adam_beta1": cfg.adam.beta1,
        "adam_beta2": cfg.adam.beta2,
    }


def scheduler_kwargs(cfg: ConfigNode) -> dict[str, Any]:
    """Return the arguments of ``build_lr_scheduler``."""
    return {name: cfg.train[name] for name in ("lr_scheduler", "stepsize", "gamma", "max_epoch")}


def run_kwargs(cfg: ConfigNode) -> dict[str, Any]:
    """Return the arguments of ``Engine.run``."""
    train = ("max_epoch", "start_epoch", "fixbase_epoch", "open_layers", "print_freq")
    test = ("start_eval", "eval_freq", "dist_metric", "normalize_feature", "visrank", "visrank_topk", "ranks", "rerank")
    return {
        **{name: cfg.train[name] for name in train},
        **{name: cfg.test[name] for name in test},
        "save_dir": cfg.data.save_dir,
        "test_only": cfg.test.evaluate,
        "use_metric_cuhk03": cfg.cuhk03.use_metric_cuhk03,
    }
