"""A network of two layers and a set of six images, to ask FastReID's own loop and loaders with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from drsl_plugin.fastreid.config import get_cfg
from drsl_plugin.fastreid.host import fastreid


def config(*options: Any) -> Any:
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "SOLVER.BASE_LR", 0.1, "OUTPUT_DIR", "", *options])
    return cfg


class Toy(nn.Module):
    """A network with a backbone and heads; its losses come as FastReID's do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone, self.heads = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"loss_cls": functional.cross_entropy(self.heads(self.backbone(data["x"])), data["y"])}

    def weights(self) -> list[torch.Tensor]:
        return [each.detach().clone() for each in self.parameters()]


def batches(count: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    return [{"x": torch.rand(6, 3, generator=generator), "y": torch.arange(6) % 2} for _ in range(count)]


def take_steps(model: Any, optimizer: Any, wrapper: Any, count: int = 3) -> None:
    """Train with FastReID's own loop."""
    trainer = fastreid.engine.SimpleTrainer(model, batches(count), optimizer, wrapper)
    with fastreid.utils.events.EventStorage(0):
        for trainer.iter in range(count):
            trainer.run_step()


class Images(torch.utils.data.Dataset[Any]):
    """Pictures as FastReID's set gives them."""

    num_classes = 2

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, Any]:
        noise = torch.from_numpy(np.random.rand(2))
        return {"images": torch.full((2,), float(index)), "noise": noise, "targets": index, "img_paths": f"{index}.jpg"}


def build_test_loader(workers: int = 4) -> Any:
    return fastreid.data.build.build_reid_test_loader(
        test_set=Images(), test_batch_size=4, num_query=2, num_workers=workers
    )[0]
