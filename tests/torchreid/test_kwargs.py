"""Every key of the configuration reaches the argument of Torchreid that it stands for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torchreid

from drsl_plugin.torchreid import get_default_config
from drsl_plugin.torchreid.config import settings
from drsl_plugin.torchreid.kwargs import data_kwargs, optimizer_kwargs, run_kwargs, scheduler_kwargs

# Where an argument's name is not that of its key.
RENAMED = {
    data_kwargs: {
        "batch_size_train": "train.batch_size",
        "batch_size_test": "test.batch_size",
        "cuhk03_labeled": "cuhk03.labeled_images",
        "cuhk03_classic_split": "cuhk03.classic_split",
        "market1501_500k": "market1501.use_500k_distractors",
    },
    optimizer_kwargs: {
        "sgd_dampening": "sgd.dampening",
        "sgd_nesterov": "sgd.nesterov",
        "rmsprop_alpha": "rmsprop.alpha",
        "adam_beta1": "adam.beta1",
        "adam_beta2": "adam.beta2",
    },
    run_kwargs: {"test_only": "test.evaluate", "use_metric_cuhk03": "cuhk03.use_metric_cuhk03"},
    scheduler_kwargs: {},
}


def marked_config(kind: str) -> Any:
    """A configuration in which each value is the name of its key."""
    cfg = get_default_config()
    cfg.use_gpu = "use_gpu"
    for key in settings(cfg):
        *path, leaf = key.split(".")
        node = cfg
        for name in path:
            node = node[name]
        node[leaf] = key
    cfg.data.type = kind
    return cfg


@pytest.mark.parametrize("kind", ["image", "video"])
@pytest.mark.parametrize("kwargs", RENAMED)
def test_arguments_come_from_their_keys(kwargs: Callable[[Any], dict[str, Any]], kind: str) -> None:
    for argument, value in kwargs(marked_config(kind)).items():
        assert value == RENAMED[kwargs].get(argument, value)
        assert value == "use_gpu" or value in RENAMED[kwargs].values() or value.rpartition(".")[2] == argument


@pytest.mark.parametrize(
    ("kwargs", "kind", "taker", "left_out"),
    [
        (data_kwargs, "image", torchreid.data.ImageDataManager, set()),
        (data_kwargs, "video", torchreid.data.VideoDataManager, set()),
        (optimizer_kwargs, "image", torchreid.optim.build_optimizer, {"model"}),
        (scheduler_kwargs, "image", torchreid.optim.build_lr_scheduler, {"optimizer"}),
        (run_kwargs, "image", torchreid.engine.Engine.run, {"self"}),
    ],
)
def test_every_argument_that_torchreid_takes_is_given(
    kwargs: Callable[[Any], dict[str, Any]], kind: str, taker: Any, left_out: set[str]
) -> None:
    assert set(kwargs(marked_config(kind))) == set(inspect.signature(taker).parameters) - left_out
