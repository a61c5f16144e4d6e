"""``drsl demo``: render a small data set, train on it with DRSL and with triplet, show what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import TaskID
from rich.table import Table

from drsl_plugin.data.progress import progress_bars
from drsl_plugin.errors import raise_all
from drsl_plugin.toolbox.rendering import render_with_progress
from drsl_plugin.toolbox.types import ConfigNode
from drsl_plugin.torchreid.config import get_default_config
from drsl_plugin.torchreid.merging import merge_settings
from drsl_plugin.torchreid.record import Evaluation
from drsl_plugin.torchreid.training import train

TARGET = "market1501"
CLOSING = "Minutes on drawings show that it runs, not which loss is better."


def run_demo(
    directory: Path,
    settings: dict[str, int],
    *,
    epochs: int,
    losses: Sequence[str],
    changes: Mapping[str, Any] | None = None,
) -> dict[str, Evaluation]:
    """Render, train OSNet x0.25 from scratch with each loss, evaluate, draw.

    Args:
        directory: gets ``data/``, ``runs/LOSS/`` and ``cmc.png``.
        settings: the keyword arguments of :func:`~drsl_plugin.data.render_demo`.
        epochs: epochs of each training.
        losses: names of losses, each trained with the cross-entropy at weight 1 beside it, alike in all else.
        changes: configuration keys to change, for smaller demos: ``{"data.height": 64}``.

    Returns:
        The evaluation of each loss.

    Raises:
        DRSLError: a setting outside its range, or a folder that holds something else.
    """
    root = render_with_progress(directory / "data", settings)
    evaluations = {}
    with progress_bars() as progress:
        for loss in losses:
            cfg = _config(root, directory / "runs" / loss, loss, epochs, settings, changes or {})
            task = progress.add_task(f"train {loss}", total=epochs)

            def on_step(epoch: int, step: int, steps: int, task: TaskID = task) -> None:
                progress.update(task, completed=epoch - 1 + step / steps)

            evaluations[loss] = train(cfg, argv=["demo"], quiet=True, on_step=on_step)[TARGET]
            progress.update(task, completed=epochs)
            task = progress.add_task(f"draw ranked results of {loss}", total=None)
            _draw_ranks(cfg)
            progress.update(task, total=1, completed=1)
    _draw_cmc(evaluations, directory / "cmc.png")
    _show(evaluations, directory)
    return evaluations


def _config(
    root: Path, save_dir: Path, loss: str, epochs: int, settings: Mapping[str, int], changes: Mapping[str, Any]
) -> ConfigNode:
    cfg: ConfigNode = get_default_config()
    cfg.use_gpu = torch.cuda.is_available()
    ours = {
        "model.name": "osnet_x0_25",
        "model.pretrained": False,
        "data.root": str(root),
        "data.save_dir": str(save_dir),
        "data.height": 128,
        "data.width": 64,
        "data.transforms": ["random_flip", "random_crop"],
        "data.workers": 0,
        "sampler.train_sampler": "RandomIdentitySampler",
        "loss.name": loss,
        "loss.triplet.weight_x": 1.0,
        "train.lr": 0.0035,
        "train.batch_size": 4 * min(16, settings["identities"]),  # four images of each, Torchreid's default
        "train.max_epoch": epochs,
        "train.lr_scheduler": "cosine",
        "train.seed": settings["seed"],
        "test.dist_metric": "cosine",
    }
    raise_all(merge_settings(cfg, {**ours, **changes}))
    return cfg


def _draw_ranks(cfg: ConfigNode) -> None:
    """Let Torchreid draw its pictures of ranked results with the trained model."""
    cfg = cfg.clone()
    cfg.model.load_weights = str(Path(cfg.data.save_dir, "model", "model-best.pth.tar"))
    cfg.test.evaluate = cfg.test.visrank = True
    train(cfg, argv=["demo"], quiet=True)


def _draw_cmc(evaluations: dict[str, Evaluation], path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for loss, evaluation in evaluations.items():
        ranks = range(1, min(20, len(evaluation.cmc)) + 1)
        axes.plot(
            ranks, 100 * evaluation.cmc[: len(ranks)], marker=".", label=f"{loss}, mAP {100 * evaluation.mAP:.1f} %"
        )
    axes.set(
        xlabel="rank", ylabel="queries with a correct match (%)", title="CMC on the rendered set", ylim=(None, 101)
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)


def _show(evaluations: dict[str, Evaluation], directory: Path) -> None:
    table = Table("loss", "mAP", "Rank-1", "Rank-5", "Rank-10")
    for loss, evaluation in evaluations.items():
        values = evaluation.row([1, 5, 10])
        table.add_row(loss, *(f"{100 * values[name]:.1f}" for name in ("mAP", "rank1", "rank5", "rank10")))
    console = Console()
    console.print(table)
    console.print(f"Ranked results: {directory / 'runs'}/LOSS/visrank_{TARGET}/", soft_wrap=True)
    console.print(f"CMC curves:     {directory / 'cmc.png'}", soft_wrap=True)
    recipe = "OSNet x0.25 from scratch, cross-entropy at weight 1 beside each loss; same sampler, schedule and seed."
    console.print(recipe, soft_wrap=True)
    console.print(CLOSING, soft_wrap=True)
