"""The jobs that one process and two do alike, and what they leave for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hosts import Host
from tiny import tiny
from worlds import Stop, Work, do_alone, do_in_world

EXACT_BATCH = 16


EXACT: dict[str, dict[str, Any]] = {
    "drsl alone": {"losses": "drsl alone"},
    "drsl and classes": {},
    "linear and euclidean": {
        "distance": "euclidean",
        "relaxation": "linear",
        "sort": "order",
        "temperature": 0.5,
    },
    "with a memory": {
        "memory_size": 40,
        "memory_warmup": 1,
        "memory_fill": "stored",
        "temperature_schedule": "linear",
        "temperature_end": 0.02,
    },
    "classes": {"losses": "classes"},
    "the classifier first": {},
}


OF_HOST: dict[str, dict[str, dict[str, Any]]] = {
    "torchreid": {
        "exact": {},
        "classes": {"sampler": "RandomSampler"},
        "the classifier first": {"train.fixbase_epoch": 1, "train.staged_lr": True},
        "usual": {
            "data.transforms": ["random_flip", "random_patch", "random_erase"],
            "train.lr_scheduler": "cosine",
            "train.fixbase_epoch": 1,
        },
    },
    "fastreid": {
        # It draws the same batch for any number of processes, and gives each its share of it.
        "exact": {"sampler": "BalancedIdentitySampler", "TEST.EVAL_PERIOD": 2, "SOLVER.CHECKPOINT_PERIOD": 2},
        "the classifier first": {"MODEL.FREEZE_LAYERS": '["backbone"]', "SOLVER.FREEZE_ITERS": 1},
        "usual": {
            "INPUT.FLIP.ENABLED": True,
            "INPUT.REA.ENABLED": True,
            "MODEL.FREEZE_LAYERS": '["backbone"]',
            "SOLVER.FREEZE_ITERS": 6,
        },
    },
}


IN_PIECES = [name for name in EXACT if name != "classes"]


def exact(host: Host, name: str) -> dict[str, Any]:
    """A job whose gradients are the same in any number of processes."""
    own = OF_HOST[host.name]
    return {**tiny(host), "batch": EXACT_BATCH, "epochs": 2, **own["exact"], **EXACT[name], **own.get(name, {})}


def usual(host: Host) -> dict[str, Any]:
    """A job with all that a training has."""
    memory = {"memory_size": 20, "memory_fill": "stored", "temperature_schedule": "linear", "temperature_end": 0.02}
    return {**tiny(host, batch_norm=True), **memory, "epochs": 3, "eval_every": 1, **OF_HOST[host.name]["usual"]}


def do_as_one(host: Host, folder: Path) -> Path:
    """Do the jobs whose gradients are to be equal in this process."""
    works = {name: host.words(folder / name, **exact(host, name)) for name in EXACT}
    works["usual"] = host.words(folder / "usual", **usual(host))
    do_alone(host, [Work(words, folder / "notes" / name) for name, words in works.items()])
    return folder


def do_as_two(host: Host, folder: Path, one: Path) -> Path:
    """Do the jobs, and all that ends, resumes and evaluates, in a world of two processes.

    Args:
        host: the toolbox.
        folder: what they leave goes there.
        one: what one process has left.
    """
    in_epoch_1 = len([row for row in host.steps(one / "usual") if row["epoch"] == 1])
    stop = Stop((1,) if host.name == "torchreid" else (0, 1), in_epoch_1 + 1)

    def work(name: str, at: str = "", stop: Stop | None = None, **settings: Any) -> Work:
        return Work(host.words(folder / (at or name), **settings), folder / "notes" / name, stop)

    whole = host.checkpoint_of_epoch(folder / "whole", 3, last=True)
    begun = host.checkpoint_of_epoch(folder / "cut", 1)
    from_one = host.checkpoint(one / "drsl and classes")
    works = [
        work("whole", **usual(host)),
        work("begun", at="cut", stop=stop, **usual(host)),
        work("resumed", at="cut", resume=begun, **usual(host)),
        work("evaluated", evaluate=whole, **usual(host)),
        work("triplet", **{**exact(host, "drsl and classes"), "losses": "triplet", "workers": 1}),
        *(work(name, **exact(host, name)) for name in EXACT),
        *(work(f"{name}, in pieces", **exact(host, name), sub_batch=4) for name in IN_PIECES),
        work("from one", resume=from_one, **{**exact(host, "drsl and classes"), "epochs": 3}),
    ]
    do_in_world(host, works, 2)
    return folder


def numbers(row: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in row.items() if isinstance(value, (int, float))}
