"""What the benchmarks of a training step share: the batch, an engine of Torchreid on OSNet x0.25, a step's time."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import torch
import torchreid

IDENTITIES, INSTANCES = 16, 4


def build_batch(height: int, width: int) -> dict[str, Any]:
    """Build a batch of noise, 16 identities with 4 images each, as a data manager gives it."""
    torch.manual_seed(0)
    pids = torch.arange(IDENTITIES).repeat_interleave(INSTANCES)
    return {"img": torch.randn(len(pids), 3, height, width), "pid": pids}


def build_engine(engine_class: Any, **settings: Any) -> Any:
    """Build an engine on a model of its own, with the same weights for each.

    Args:
        engine_class: of the engine.
        **settings: of the engine, apart from data manager, model and optimizer.
    """
    torch.manual_seed(0)
    model = torchreid.models.build_model("osnet_x0_25", IDENTITIES, loss="triplet", pretrained=False)
    datamanager = SimpleNamespace(train_loader=[], test_loader={}, num_train_pids=IDENTITIES)
    model.train()
    optimizer = torchreid.optim.build_optimizer(model, lr=0.0003)
    return engine_class(datamanager, model, optimizer, use_gpu=False, **settings)


def time_step(engine: Any, batch: dict[str, Any]) -> float:
    """Take a training step, and return its seconds."""
    start = time.perf_counter()
    engine.forward_backward(batch)
    return time.perf_counter() - start
