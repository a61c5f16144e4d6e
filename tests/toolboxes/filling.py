"""What the fillings of a run do, watched from outside of them."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hosts import Host
from tiny import Body
from torch import Tensor, nn

from drsl_plugin.losses import FeatureLosses


class Filling(NamedTuple):
    """One filling of the memories."""

    sizes: list[int]
    """How many images were forwarded at a time."""
    expected: Tensor
    """The embeddings of these by the model in training mode."""
    memories: list[Any]
    """The states of the memories afterwards."""
    changed: list[str]
    """What is another than before."""


class Fillings(list[Filling]):
    """The fillings of a run, one after the other."""

    is_going_on = False


@contextlib.contextmanager
def watch_fillings(host: Host) -> Iterator[Fillings]:
    """Note each filling, in this process."""
    place = importlib.import_module(f"drsl_plugin.{host.name}.{'engines' if host.name == 'torchreid' else 'filling'}")
    fillings, fill = Fillings(), place.fill_memories

    def watched(losses: FeatureLosses, model: nn.Module, *args: Any, **kwargs: Any) -> int:
        images: list[Tensor] = []
        (body,) = [module for module in model.modules() if isinstance(module, Body)]
        handle = body.register_forward_pre_hook(lambda _, args: images.append(args[0].clone()))
        before = state_of(losses, model)
        fillings.is_going_on = True
        count: int = fill(losses, model, *args, **kwargs)
        fillings.is_going_on = False
        handle.remove()
        after = state_of(losses, model)
        changed = [name for name, value in before.items() if not same(value, after[name])]
        twin = copy.deepcopy(model).train()
        embed = functools.partial(embed_in_fastreid, twin) if host.name == "fastreid" else embed_in_torchreid(twin)
        with torch.no_grad():
            expected = torch.cat([embed(each) for each in images])
        fillings.append(Filling(list(map(len, images)), expected, losses.memory_state(), changed))
        return count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, "fill_memories", watched)
        yield fillings


def embed_in_torchreid(twin: Any) -> Any:
    return lambda images: twin(images)[1]


def embed_in_fastreid(twin: Any, images: Tensor) -> Tensor:
    pooled: Tensor = twin.heads.pool_layer(twin.backbone(images))
    return pooled[..., 0, 0]


def state_of(losses: FeatureLosses, model: nn.Module) -> dict[str, Any]:
    """All that a filling must leave as it is."""
    generator = np.random.get_state(legacy=False)["state"]
    return {
        **{name: value.clone() for name, value in model.state_dict().items()},
        **{f"gradient of {name}": None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()},
        **{f"mode of {name}": module.training for name, module in model.named_modules()},
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": (generator["key"].tolist(), generator["pos"]),
        "batches": [each["batches"] for each in losses.memory_state()],
    }


def same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)
