"""Worlds of several processes on the CPU, which do jobs of a toolbox and note what each of them sees.

Starting a process that imports a toolbox costs seconds, a small training little: a world does all its jobs in one go,
and the tests read what they left.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hosts import HOSTS, Host
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


# In each process


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

    optimizers: Any = importlib.import_module("torch.optim.optimizer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EmbeddingMemory, "store", stored)
        handles = [
            nn.modules.module.register_module_forward_pre_hook(forward),
            optimizers.register_optimizer_step_pre_hook(before),
            optimizers.register_optimizer_step_post_hook(after),
        ]
        try:
            yield
        finally:
            for handle in handles:
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


# From the test


def do_in_world(host: Host, works: Sequence[Work], count: int) -> None:
    """Do jobs in a world of several processes."""
    with host.reading():
        if host.name == "torchreid":
            works = [work._replace(port=port) for work, port in zip(works, free_ports(len(works)), strict=True)]
            spawn: Any = torch.multiprocessing.spawn
            spawn(be_torchreids_process, nprocs=count, args=(host.root, works, count))
        else:
            from drsl_plugin.fastreid import launch

            launch(do_all, count, args=(host.name, host.root, works), cpu=True)


def do_alone(host: Host, works: Sequence[Work]) -> None:
    """Do jobs in this process."""
    with host.reading():
        for work in works:
            do(host, work)


def do_all(name: str, root: Path, works: Sequence[Work]) -> None:
    host = HOSTS[name](root)
    for work in works:
        do(host, work)


def be_torchreids_process(rank: int, root: Path, works: Sequence[Work], count: int) -> None:
    """Do everything as one process of those that ``torchrun`` would start."""
    be_torchruns(rank, count)
    for work in works:
        os.environ["MASTER_PORT"] = str(work.port)
        do_all("torchreid", root, [work])


def be_torchruns(rank: int, count: int) -> None:
    """Make of this process what it is under ``torchrun``, but for the port."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of loader workers, as in a process of torchrun
    os.environ.update(WORLD_SIZE=str(count), RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1")
    os.environ["OMP_NUM_THREADS"] = "1"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def free_ports(count: int) -> list[int]:
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)


def finished(commands: Sequence[list[str]], **environment: str) -> list[subprocess.CompletedProcess[str]]:
    """Run commands side by side; end them, and what they started, where one takes too long.

    Args:
        commands: with their arguments.
        environment: what they are to know; with any, the n-th command is process n of Torchreid's.
    """
    running = []
    for rank, command in enumerate(commands):
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        if environment:
            variables |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
        running.append(subprocess.Popen(command, env=variables, **pipes))
    try:
        outputs = [each.communicate(timeout=90) for each in running]
    finally:
        for each in running:
            if each.poll() is None:
                os.killpg(each.pid, signal.SIGKILL)
                each.wait()
    return [
        subprocess.CompletedProcess(command, each.returncode, *output)
        for command, each, output in zip(commands, running, outputs, strict=True)
    ]


# What they left


def left_by(notes: Path) -> list[dict[str, Any]]:
    """What the processes noted, by their rank."""
    return [torch.load(path, weights_only=False) for path in sorted(notes.glob("?.pth"))]


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    scale = max(tensor.norm().item() for tensor in expected.values())
    assert scale > 0
    for key, tensor in expected.items():
        assert (found[key] - tensor).norm().item() <= tolerance * max(tensor.norm().item(), 1e-2 * scale), key


def moved(notes: dict[str, Any], to: str = "parameters") -> dict[str, Tensor]:
    """How far the parameters have come."""
    return {name: tensor - notes["start"][name] for name, tensor in notes[to].items()}
