"""A job of a toolbox in this process, one of several or alone, and notes of what it sees and how it ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hosts import Host
from optimizer_steps import watching_steps
from tiny import tiny
from torch import Tensor, nn

from drsl_plugin.errors import DRSLError
from drsl_plugin.losses import EmbeddingMemory


class Stop(NamedTuple):
    """Where a job is stopped, and by what."""

    ranks: tuple[int, ...]
    """The processes in which it is."""
    step: int
    """The step after which it is, from 1; 0 for the first evaluation."""
    reason: type[BaseException] = KeyboardInterrupt


class Work(NamedTuple):
    """What each process of a world does."""

    argv: list[str]
    """The arguments of the toolbox's command."""
    notes: Path
    """The folder for what each process leaves for the tests."""
    stop: Stop | None = None
    port: int = 0
    """Where the processes of Torchreid meet."""


def do(host: Host, work: Work) -> None:
    """Run the toolbox's command in this process, one of a world or alone, and note what it sees and how it ends."""
    tiny(host)
    rank, run, see_data = OF[host.name]
    notes: dict[str, Any] = {"batches": [], "pids": [], "seeds": [], "gradients": [], "mAP": None}
    with watching(notes, work.stop, rank()), see_data(notes):
        try:
            notes["mAP"] = run(work.argv)
        except (DRSLError, KeyboardInterrupt, SystemExit, ArithmeticError) as error:
            kind = "DRSLError" if isinstance(error, DRSLError) else type(error).__name__
            notes["end"] = kind, str(error)
    notes["memories"] = [memory.state() for memory in notes.get("memories", [])]
    work.notes.mkdir(parents=True, exist_ok=True)
    torch.save(notes, work.notes / f"{rank()}.pth")


@contextlib.contextmanager
def watching(notes: dict[str, Any], stop: Stop | None, rank: int) -> Iterator[None]:
    """Note the model's parameters, the gradients of each step and the memories; stop where asked."""
    models: list[nn.Module] = []

    def forward(module: nn.Module, _: Any) -> None:
        if not models and module.training and any(True for _ in module.parameters()):
            models.append(getattr(module, "module", module))  # without what wraps it in several processes
            notes["start"] = parameters(models[0])
        is_evaluated = models and not module.training and getattr(module, "module", module) is models[0]
        if is_evaluated and stop is not None and rank in stop.ranks and stop.step == 0:
            raise stop.reason

    def before(*_: Any) -> None:
        pairs = models[0].named_parameters()
        notes["gradients"].append({name: each.grad.clone() for name, each in pairs if each.grad is not None})

    def after(*_: Any) -> None:
        notes.setdefault("first step", parameters(models[0]))
        notes["parameters"] = parameters(models[0])
        if stop is not None and rank in stop.ranks and len(notes["gradients"]) == stop.step:
            raise stop.reason

    store = EmbeddingMemory.store

    def stored(self: Any, *args: Any) -> None:
        if not any(self is each for each in notes.setdefault("memories", [])):
            notes["memories"].append(self)
        store(self, *args)

    with pytest.MonkeyPatch.context() as patch, watching_steps(before, after):
        patch.setattr(EmbeddingMemory, "store", stored)
        handle = nn.modules.module.register_module_forward_pre_hook(forward)
        try:
            yield
        finally:
            handle.remove()


def parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


def note_batch(notes: dict[str, Any], paths: Sequence[str], pids: Tensor) -> None:
    notes["batches"].append([Path(path).name for path in paths])
    notes["pids"].append(pids.tolist())
    notes["seeds"].append((torch.initial_seed(), torch.get_rng_state().sum().item()))


@contextlib.contextmanager
def see_torchreids_data(notes: dict[str, Any]) -> Iterator[None]:
    from drsl_plugin.torchreid.host import torchreid

    parse = torchreid.engine.Engine.parse_data_for_train

    def seen(self: Any, data: Any) -> Any:
        note_batch(notes, data["impath"], data["pid"])
        return parse(self, data)

    random_patch = torchreid.data.transforms.RandomPatch
    create = random_patch.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchreid.engine.Engine, "parse_data_for_train", seen)
        patch.setattr(random_patch, "__init__", lambda self, **kwargs: create(self, min_sample_size=2))
        yield


@contextlib.contextmanager
def see_fastreids_data(notes: dict[str, Any]) -> Iterator[None]:
    from drsl_plugin.fastreid.host import fastreid

    model = fastreid.modeling.meta_arch.Baseline
    forward = model.forward

    def seen(self: Any, inputs: Any) -> Any:
        if self.training:
            note_batch(notes, inputs["img_paths"], inputs["targets"])
        return forward(self, inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "forward", seen)
        yield


def run_torchreid(argv: list[str]) -> float | None:
    """Run ``drsl torchreid``, and return the mAP where this is the process that has it."""
    from drsl_plugin.torchreid.main import main

    results = main(argv)
    return results["market1501"].mAP if results else None


def run_fastreid(argv: list[str]) -> float | None:
    """Do what ``drsl fastreid`` does in each process, and return the mAP likewise."""
    from drsl_plugin.fastreid.main import configure, parser
    from drsl_plugin.fastreid.training import Job, run_job

    args = parser().parse_args(argv)
    cfg, preset, problems = configure(args)
    assert problems == []
    results: Any = run_job(Job(cfg, args, tuple(argv), preset))
    return results["mAP"] / 100 if results else None


def rank_in_fastreid() -> int:
    from drsl_plugin.fastreid.host import fastreid

    return int(fastreid.utils.comm.get_rank())


OF: dict[str, tuple[Callable[[], int], Callable[[list[str]], float | None], Any]] = {
    "torchreid": (lambda: int(os.environ.get("RANK", "0")), run_torchreid, see_torchreids_data),
    "fastreid": (rank_in_fastreid, run_fastreid, see_fastreids_data),
}
