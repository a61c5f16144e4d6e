"""Worlds of several processes on the CPU, which do jobs of a toolbox.

Starting a process that imports a toolbox costs seconds, a small training little: a world does all its jobs in one go,
and the tests read what they left.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hosts import HOSTS, Host
from torch import Tensor
from working import Stop, Work, do, parameters

__all__ = [
    "Stop",
    "Work",
    "assert_near",
    "be_torchreids_process",
    "do_all",
    "do_alone",
    "do_in_world",
    "finished",
    "free_port",
    "free_ports",
    "left_by",
    "moved",
    "parameters",
]


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
