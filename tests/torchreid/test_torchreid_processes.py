"""``drsl torchreid`` as ``torchrun`` starts it: several processes, on the CPU.

Starting a process that imports Torchreid costs seconds, a small training little: a world does all its jobs in one go,
and the tests read what they left.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
import torchreid
from torch import Tensor, nn

from drsl_plugin.errors import DRSLError
from drsl_plugin.runs.checkpoint_files import load
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.torchreid import ImageDRSLEngine, processes, world
from drsl_plugin.torchreid.host import registry
from drsl_plugin.torchreid.main import main
from drsl_plugin.torchreid.record import RunRecord
from drsl_plugin.torchreid.recording import RecordedRun, add_recording
from drsl_plugin.torchreid.world import World

Options = Callable[..., list[str]]


class Tiny(nn.Module):
    """A network in which nothing depends on the other samples of the batch."""

    def __init__(self, num_classes: int, loss: str) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 5, stride=4), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv2d(16, 24, 3))
        self.classifier = nn.Linear(24, num_classes)
        self.loss = loss

    def forward(self, images: Tensor) -> Any:
        features = self.body(images).mean(dim=(2, 3))
        if not self.training:
            return features
        return self.classifier(features) if self.loss == "softmax" else (self.classifier(features), features)


EXACT_ALL = {
    "model.name": "tiny",
    "data.transforms": [],
    "train.optim": "sgd",
    "train.lr": 0.05,
    "train.max_epoch": 2,
}
EXACT = {
    "drsl and classes": EXACT_ALL,
    "drsl alone": {**EXACT_ALL, "loss.drsl.weight_x": 0.0},
    "euclidean, classifier first": {
        **EXACT_ALL,
        "loss.drsl.distance": "euclidean",
        "loss.drsl.sort": "order",
        "train.fixbase_epoch": 1,
        "train.staged_lr": True,
    },
    "drsl with a memory": {
        **EXACT_ALL,
        "loss.drsl.memory_size": 40,
        "loss.drsl.temperature_schedule": "linear",
        "loss.drsl.temperature_end": 0.02,
    },
    "drsl in sub-batches": {**EXACT_ALL, "loss.drsl.sub_batch": 4},
    "softmax": {**EXACT_ALL, "loss.name": "softmax", "sampler.train_sampler": "RandomSampler"},
}
USUAL = {
    "data.transforms": ["random_flip", "random_patch", "random_erase"],
    "train.max_epoch": 3,
    "train.lr": 0.003,
    "train.lr_scheduler": "cosine",
    "train.fixbase_epoch": 1,
    "test.eval_freq": 1,
}
BAD = {
    "an unknown key": ({"loss.drsl.temprature": 0.1}, "unknown key loss.drsl.temprature"),
    "a batch that does not divide": (
        {"train.batch_size": 10},
        "train.batch_size 10: is the batch of all 2 processes, each with whole identities of sampler.num_instances 2 "
        "images; 8 or 12 would do",
    ),
    "an odd batch": (
        {"train.batch_size": 7, "loss.name": "softmax", "sampler.train_sampler": "RandomSampler"},
        "train.batch_size 7: is the batch of all 2 processes, each with as many images; 6 or 8 would do",
    ),
    "one identity in each process": (
        {"train.batch_size": 4, "loss.name": "triplet", "loss.triplet.weight_x": 1.0},
        "train.batch_size 4: is the batch of all 2 processes, each with one identity, among which Torchreid's triplet "
        "loss finds no negatives; 8 would do",
    ),
    "too few identities": ({"train.batch_size": 32}, "train.batch_size 32: needs 16 identities"),
    "not finite": ({"train.lr": 1e30, "model.name": "osnet_x0_25"}, "epoch 1, step 2: NaN or infinity"),
    "not finite in triplet": ({"train.lr": 1e30, "loss.name": "triplet"}, "NaN or infinity"),
}


class Work(NamedTuple):
    """What each process of a world does."""

    argv: list[str]
    """The arguments of the command."""
    notes: Path
    """The folder for what each process leaves for the tests."""
    stop: tuple[int, int, type[BaseException]] | None = None
    """The process and the epoch in which it is stopped behind the first step, 0 for the evaluation, and by what."""
    port: int = 0


def process(rank: int, works: list[Work], engine_notes: Path) -> None:
    """Do everything as process ``rank`` of two; the first job's port is for a step of the engine."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of loader workers, as in a process of torchrun
    os.environ.update(WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1")
    os.environ["OMP_NUM_THREADS"] = "1"
    for work in works[1:]:
        os.environ["MASTER_PORT"] = str(work.port)
        do(work)
    os.environ["MASTER_PORT"] = str(works[0].port)
    with processes.join():
        processes.start(use_gpu=False)
        torch.save(one_step(unequal_batch(), engine_notes), engine_notes / f"{rank}.pth")


def do(work: Work) -> None:
    """Run the command in this process, one of a world or alone, and note what it sees and how it ends."""
    rank = int(os.environ.get("RANK", "0"))
    notes: dict[str, Any] = {"batches": [], "pids": [], "seeds": [], "gradients": []}
    step = RecordedRun.forward_backward

    def watched(self: Any, data: Any) -> Any:
        model = self._models["model"]
        notes.setdefault("start", parameters(model))
        notes["batches"].append([Path(path).name for path in data["impath"]])
        notes["pids"].append(data["pid"].tolist())
        notes["seeds"].append((torch.initial_seed(), torch.get_rng_state().sum().item()))
        summary = step(self, data)
        notes["gradients"].append({name: tensor.grad.clone() for name, tensor in open_ones(model)})
        notes["parameters"] = parameters(model)
        if work.stop is not None and work.stop[:2] == (rank, self.epoch + 1):
            raise work.stop[2]
        return summary

    evaluate = RecordedRun._evaluate

    def evaluated(self: Any, **kwargs: Any) -> Any:
        if work.stop is not None and work.stop[:2] == (rank, 0):
            raise work.stop[2]
        return evaluate(self, **kwargs)

    create = torchreid.data.transforms.RandomPatch.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            registry(torchreid.models, "__model_factory"),
            "tiny",
            lambda num_classes, loss, **kw: Tiny(num_classes, loss),
        )
        patch.setattr(RecordedRun, "forward_backward", watched)
        patch.setattr(RecordedRun, "_evaluate", evaluated)
        patch.setattr(
            torchreid.data.transforms.RandomPatch, "__init__", lambda self, **kw: create(self, min_sample_size=2)
        )
        try:
            notes["results"] = main(work.argv)
        except (DRSLError, KeyboardInterrupt, SystemExit, ArithmeticError) as error:
            kind = "DRSLError" if isinstance(error, DRSLError) else type(error).__name__
            notes["end"] = kind, str(error)
    work.notes.mkdir(parents=True, exist_ok=True)
    torch.save(notes, work.notes / f"{rank}.pth")


def unequal_batch() -> dict[str, Tensor]:
    """Identities with one to four instances; process 0 has the first half."""
    pids = torch.tensor([0, 0, 0, 0, 1, 1, 2, 5, 3, 3, 3, 4, 4, 6, 6, 7])
    return {
        "img": torch.randn(16, 3, 32, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
        "pid": pids,
    }


def one_step(batch: dict[str, Tensor], folder: Path) -> dict[str, Any]:
    """Take a step of the engine with this process's share of a batch, in float64."""
    share = {key: each.chunk(processes.count())[processes.rank()] for key, each in batch.items()}
    torch.manual_seed(3)
    model = Tiny(8, "triplet").double().train()
    datamanager = SimpleNamespace(train_loader=[None], test_loader={}, num_train_pids=8)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    settings = {"weight": 0.7, "weight_x": 0.4, "use_gpu": False, "record": RunRecord("", {})}
    engine = add_recording(ImageDRSLEngine)(datamanager, model, optimizer, **settings)
    engine.folder, engine._step, engine.batch_idx, engine.num_batches = engine.run_folder(str(folder)), 0, 0, 1
    engine.two_stepped_transfer_learning(0, 0, None)
    summary = engine.forward_backward(share)
    gradients = {name: tensor.grad.clone() for name, tensor in model.named_parameters()}
    return {"summary": summary, "gradients": gradients, "parameters": parameters(model)}


def parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


def open_ones(model: nn.Module) -> list[tuple[str, Any]]:
    return [(name, tensor) for name, tensor in model.named_parameters() if tensor.grad is not None]


def left_by(notes: Path) -> list[dict[str, Any]]:
    """What the processes noted, by their rank."""
    return [torch.load(path, weights_only=False) for path in sorted(notes.glob("?.pth"))]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, demo_root: Path, small_options: Options, one: Path) -> Path:
    """What a world of two processes left."""
    folder = tmp_path_factory.mktemp("two")
    cut = folder / "cut" / "model" / "model.pth.tar-1"

    def work(name: str, stop: Any = None, at: str = "", **settings: Any) -> Work:
        return Work(small_options(demo_root, folder / (at or name), **settings), folder / "notes" / name, stop)

    alone = one / "drsl and classes" / "model" / "model.pth.tar-2"
    weights = folder / "whole" / "model" / "model.pth.tar-3"
    works = [
        Work([], folder),
        work("whole", **USUAL),
        work("begun", (1, 2, KeyboardInterrupt), at="cut", **USUAL),
        work("resumed", at="cut", **USUAL, **{"model.resume": cut}),
        work("evaluated", **{"test.evaluate": True, "model.load_weights": weights}),
        work("triplet", **EXACT_ALL, **{"loss.name": "triplet", "loss.triplet.weight_x": 1.0, "data.workers": 1}),
        *(work(name, **settings) for name, settings in EXACT.items()),
        work("from one", **{**EXACT_ALL, "train.max_epoch": 3, "model.resume": alone}),
        *(work(name, at="bad", **{"model.name": "tiny", **settings}) for name, (settings, _) in BAD.items()),
        work("one fails", (1, 1, ArithmeticError), at="bad", **EXACT_ALL),
        work("one fails to evaluate", (0, 0, ArithmeticError), at="bad", **EXACT_ALL),
        work("help")._replace(argv=["--help"]),
    ]
    ports: set[int] = set()
    while len(ports) < len(works):
        ports.add(free_port())
    engine_notes = folder / "notes" / "engine"
    engine_notes.mkdir(parents=True)
    works = [each._replace(port=port) for each, port in zip(works, ports, strict=True)]
    spawn: Any = torch.multiprocessing.spawn
    spawn(process, nprocs=2, args=(works, engine_notes))
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, demo_root: Path, small_options: Options) -> Path:
    """What one process leaves of the jobs whose gradients are to be equal."""
    folder = tmp_path_factory.mktemp("one")
    for name, settings in EXACT.items():
        do(Work(small_options(demo_root, folder / name, **settings), folder / "notes" / name))
    return folder


# The loss of the whole batch


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_gradients_are_those_of_one_process(name: str, one: Path, two: Path) -> None:
    (alone,), together = left_by(one / "notes" / name), left_by(two / "notes" / name)
    assert len(together) == 2
    for each in together:
        assert_near(each["start"], alone["start"], 0)
        assert len(each["gradients"]) == len(alone["gradients"]) >= 6
        for found, expected in zip(each["gradients"], alone["gradients"], strict=True):
            assert_near(found, expected, 1e-4)
        moved = [
            {key: end - notes["start"][key] for key, end in notes["parameters"].items()} for notes in (each, alone)
        ]
        assert_near(*moved, 1e-4)


@pytest.mark.slow
def test_the_gradient_of_identities_of_several_sizes_in_double_precision(two: Path, tmp_path: Path) -> None:
    expected, together = one_step(unequal_batch(), tmp_path), left_by(two / "notes" / "engine")
    assert len(together) == 2
    for each in together:
        assert_near(each["gradients"], expected["gradients"], 1e-10)
        assert each["summary"] == pytest.approx(expected["summary"], rel=1e-6)


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    scale = max(tensor.norm().item() for tensor in expected.values())
    assert scale > 0
    for key, tensor in expected.items():
        assert (found[key] - tensor).norm().item() <= tolerance * max(tensor.norm().item(), 1e-2 * scale), key


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_processes_together_have_the_batches_of_one(name: str, one: Path, two: Path) -> None:
    (alone,), (first, second) = left_by(one / "notes" / name), left_by(two / "notes" / name)
    assert [[*a, *b] for a, b in zip(first["batches"], second["batches"], strict=True)] == alone["batches"]
    assert {len(batch) for batch in [*first["batches"], *second["batches"]]} == {4}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whole", "triplet", *(name for name in EXACT if name != "softmax")])
def test_no_identity_is_in_two_processes(name: str, two: Path) -> None:
    first, second = left_by(two / "notes" / name)
    for ours, theirs in zip(first["pids"], second["pids"], strict=True):
        assert set(ours).isdisjoint(theirs)
        assert {ours.count(pid) for pid in ours} == {2}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_logs_and_evaluations_are_those_of_one_process(name: str, one: Path, two: Path) -> None:
    alone, together = (RunFolder(folder / name).rows() for folder in (one, two))
    assert [row.keys() for row in together] == [row.keys() for row in alone]
    for found, expected in zip(together, alone, strict=True):
        assert found.pop("target", None) == expected.pop("target", None)
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.slow
def test_augmentations_differ_between_processes(two: Path) -> None:
    first, second = left_by(two / "notes" / "whole")
    assert set(first["seeds"]).isdisjoint(second["seeds"])


# What they leave


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whole", "resumed", "triplet", *EXACT])
def test_all_processes_end_with_the_parameters_that_are_saved(name: str, two: Path) -> None:
    first, second = left_by(two / "notes" / name)
    folder = two / ("cut" if name == "resumed" else name) / "model"
    saved = load(max(folder.glob("model.pth.tar-*")), "")["state_dict"]
    for key, tensor in first["parameters"].items():
        assert torch.equal(tensor, second["parameters"][key]), key
        assert torch.equal(tensor, saved[key]), key
    assert any(not torch.equal(tensor, first["start"][key]) for key, tensor in first["parameters"].items())


@pytest.mark.slow
def test_two_processes_write_one_run_folder(two: Path) -> None:
    folder = RunFolder(two / "whole")
    steps = [row["step"] for row in folder.rows() if "lr" in row]
    assert steps == list(range(1, len(left_by(two / "notes" / "whole")[0]["batches"]) + 1))
    assert [row["epoch"] for row in folder.rows() if "mAP" in row] == [1, 2, 3]
    assert json.loads((folder.path / "environment.json").read_text())["processes"] == 2
    names = [path.name for path in folder.path.iterdir()]
    assert sum("tfevents" in name for name in names) == sum(name.startswith("train.log") for name in names) == 1
    assert {"config.yaml", "environment.json", "metrics.jsonl", "features-market1501.npz", "model"} <= set(names)
    assert len(names) == 7
    (log,) = folder.path.glob("train.log-*")
    assert log.read_text().count("** Results **") == 3
    models = {path.name for path in (folder.path / "model").iterdir()}
    assert models == {"model.pth.tar-3", "model-best.pth.tar"}


@pytest.mark.slow
def test_only_the_main_process_has_results(two: Path) -> None:
    for name in ("whole", "evaluated"):
        first, second = (notes["results"] for notes in left_by(two / "notes" / name))
        assert RunFolder(two / name).rows()[-1]["mAP"] == first["market1501"].mAP
        assert second == {}


@pytest.mark.slow
def test_the_evaluation_of_a_training_is_of_what_it_saves(two: Path) -> None:
    trained, evaluated = (RunFolder(two / name).rows()[-1] for name in ("whole", "evaluated"))
    for name in ("mAP", "mINP", "rank1", "rank5"):
        assert trained[name] == pytest.approx(evaluated[name]), name


@pytest.mark.slow
def test_two_processes_resume_exactly(two: Path) -> None:
    assert RunFolder(two / "cut").rows() == RunFolder(two / "whole").rows()
    files = [sorted((two / name / "model").iterdir()) for name in ("cut", "whole")]
    assert [path.name for path in files[0]] == [path.name for path in files[1]]
    for paths in zip(*files, strict=True):
        states = [load(path, "") for path in paths]
        for key in ("state_dict", "optimizer", "scheduler", "epoch", "mAP", "best_mAP", "other_random_states"):
            torch.testing.assert_close(states[0][key], states[1][key], rtol=0, atol=0)
    for whole, resumed in zip(*(left_by(two / "notes" / name) for name in ("whole", "resumed")), strict=True):
        count = len(resumed["batches"])
        assert 0 < count < len(whole["batches"])
        assert resumed["batches"] == whole["batches"][-count:]
        assert [state for _, state in resumed["seeds"]] == [state for _, state in whole["seeds"][-count:]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whole", "drsl alone"])
def test_one_process_goes_on_from_a_checkpoint_of_two(
    name: str, two: Path, demo_root: Path, tmp_path: Path, small_options: Options
) -> None:
    checkpoint = max((two / name / "model").glob("model.pth.tar-*"))
    state = load(checkpoint, "")
    settings = {**(USUAL if name == "whole" else EXACT[name]), "train.max_epoch": state["epoch"] + 1}
    notes = tmp_path / "notes"
    do(Work(small_options(demo_root, tmp_path / "run", **{**settings, "model.resume": checkpoint}), notes))
    (left,) = left_by(notes)
    assert "end" not in left
    for key, tensor in left["start"].items():
        assert torch.equal(tensor, state["state_dict"][key]), key
    assert [row["epoch"] for row in RunFolder(tmp_path / "run").rows() if "mAP" in row][-1] == state["epoch"] + 1


@pytest.mark.slow
def test_two_processes_go_on_from_a_checkpoint_of_one(one: Path, two: Path) -> None:
    (alone,), together = left_by(one / "notes" / "drsl and classes"), left_by(two / "notes" / "from one")
    for each in together:
        assert "end" not in each
        assert_near(each["start"], alone["parameters"], 0)
    first, second = together
    assert set(first["seeds"]).isdisjoint(second["seeds"])
    assert [row["epoch"] for row in RunFolder(two / "from one").rows() if "mAP" in row] == [3]


# How they end


@pytest.mark.slow
def test_an_interruption_of_any_process_says_in_the_main_one_how_to_go_on(two: Path) -> None:
    first, second = (notes["end"] for notes in left_by(two / "notes" / "begun"))
    assert first == ("KeyboardInterrupt", f"; to go on: model.resume {two / 'cut/model/model.pth.tar-1'}")
    assert second == ("SystemExit", "130")


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_said_by_one_process(name: str, two: Path) -> None:
    ends = sorted(notes["end"] for notes in left_by(two / "notes" / name))
    assert [kind for kind, _ in ends] == ["DRSLError", "SystemExit"]
    assert BAD[name][1] in ends[0][1]
    assert "\n" not in ends[0][1]
    assert ends[1][1] == "2"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "failing"), [("one fails", 1), ("one fails to evaluate", 0)])
def test_one_process_that_fails_ends_the_others_without_a_word(name: str, failing: int, two: Path) -> None:
    ends = [notes["end"] for notes in left_by(two / "notes" / name)]
    assert ends[failing][0] == "ArithmeticError"
    assert ends[1 - failing] == ("SystemExit", "2")


@pytest.mark.slow
def test_help_is_no_failure(two: Path) -> None:
    assert [notes["end"] for notes in left_by(two / "notes" / "help")] == [("SystemExit", "0")] * 2


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], World]:
    """``joined(1)`` makes this process the second of two that are not there."""
    store = torch.distributed.HashStore()
    monkeypatch.setattr(world, "_meetings", itertools.repeat(0))

    def join(rank: int) -> World:
        one = World(store, rank, 2)
        monkeypatch.setattr(processes, "_world", one)
        return one

    return join


def lose_the_other(rank: int, port: int, step: str, folder: Path) -> None:
    """Take a step as one of two processes, of which the other is killed before it; note how this one ends."""
    place = {"WORLD_SIZE": "2", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(place, TORCHELASTIC_USE_AGENT_STORE="True")  # the store outlives the process that is killed
    keeper = torch.distributed.TCPStore("127.0.0.1", port, is_master=False)  # which torchrun's agent would keep
    try:
        with processes.join(), processes.end_together():
            processes.start(use_gpu=False)
            model = nn.parallel.DistributedDataParallel(nn.Linear(2, 1))
            if rank == 1 and step != "none":
                os.kill(os.getpid(), signal.SIGKILL)
            if step == "backward":
                model(torch.ones(1, 2)).sum().backward()
            elif step == "gather":
                torch.distributed.all_gather_object([None, None], rank)
            elif rank == 0:
                raise RuntimeError("of this process")
            else:
                torch.distributed.barrier()
    except (Exception, SystemExit) as error:
        (folder / f"{rank}.txt").write_text(f"{type(error).__name__} {error}")
        (folder / f"{rank}.cause").write_text(type(error.__cause__).__name__)
    del keeper


@pytest.fixture
def ends(tmp_path: Path) -> Callable[[str], list[str]]:
    """How the processes ended that noted it."""

    def end(step: str) -> list[str]:
        store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        context = multiprocessing.get_context("spawn")
        arguments = [(rank, store.port, step, tmp_path) for rank in range(2)]
        started = [context.Process(target=lose_the_other, args=each) for each in arguments]
        for each in started:
            each.start()
        for each in started:
            each.join(60)
        assert [each.exitcode for each in started] == [0, 0 if step == "none" else -signal.SIGKILL]
        return [path.read_text() for path in sorted(tmp_path.glob("?.txt"))]

    return end


@pytest.mark.slow
@pytest.mark.parametrize("step", ["backward", "gather"])
def test_a_process_that_loses_another_says_so(step: str, ends: Callable[[str], list[str]]) -> None:
    (end,) = ends(step)
    assert end.startswith("DRSLError process 0 of 2: another ended without a word (")
    assert "\n" not in end


@pytest.mark.slow
def test_gloo_has_no_type_for_its_errors(ends: Callable[[str], list[str]], tmp_path: Path) -> None:
    """When this fails, the type of an error tells that a process is gone, and the group that probes it can go."""
    ends("gather")
    assert (tmp_path / "0.cause").read_text() == "RuntimeError"


@pytest.mark.slow
def test_an_error_of_one_of_two_living_processes_stays_as_it_is(ends: Callable[[str], list[str]]) -> None:
    assert ends("none") == ["RuntimeError of this process", "SystemExit 2"]


def test_an_error_of_this_process_stays_as_it_is(joined: Callable[[int], World]) -> None:
    joined(1)
    with pytest.raises(RuntimeError, match=r"^of this process$"), processes.end_together():
        raise RuntimeError("of this process")


@pytest.mark.parametrize(("rank", "kind"), [(0, KeyboardInterrupt), (1, SystemExit)])
def test_an_interruption_elsewhere_is_one_here(
    rank: int, kind: type[BaseException], joined: Callable[[int], World]
) -> None:
    joined(1 - rank).end("interrupted")
    joined(rank)
    with pytest.raises(kind), processes.end_together():
        raise RuntimeError("gloo: connection closed")


def test_who_waits_for_the_main_process_ends_with_it(
    joined: Callable[[int], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    joined(0).end("failed")
    joined(1)
    with pytest.raises(SystemExit) as ended, processes.end_together(), processes.let_main_go_first():
        pytest.fail("the main process has not been here")
    assert ended.value.code == 2


@pytest.mark.parametrize("said", [False, True])
def test_under_torchrun_who_fails_first_has_its_say(
    said: bool, joined: Callable[[int], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torchrun ends all processes once one has ended."""
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setattr(world, "PATIENCE", 0.3 if not said else 60)
    other = joined(0)
    other.end("failed")
    if said:
        processes._tell_said(other)
    joined(1)
    begun = time.monotonic()
    with pytest.raises(SystemExit), processes.end_together():
        raise DRSLError("the same in all")
    assert (time.monotonic() - begun >= 0.3) != said


def test_more_processes_than_devices(joined: Callable[[int], World], monkeypatch: pytest.MonkeyPatch) -> None:
    joined(1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(
        DRSLError, match=r"^LOCAL_RANK 1: torch finds 1 CUDA device on .* --nproc-per-node 1, or use_gpu"
    ):
        processes.start(use_gpu=True)


def test_settings_of_torchrun_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DRSLError, match="WORLD_SIZE 2: MASTER_ADDR, MASTER_PORT missing from the environment"):
        main([])


# The command


def finished(commands: list[list[str]], **environment: str) -> list[subprocess.CompletedProcess[str]]:
    """Run commands side by side, the n-th as process n; end them, and what they started, where one takes too long."""
    running = []
    for rank, command in enumerate(commands):
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        if environment:
            variables |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
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


@pytest.mark.slow
def test_torchrun(demo_root: Path, tmp_path: Path, small_options: Options) -> None:
    options = small_options(demo_root, tmp_path / "run")
    command = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "drsl_plugin", "torchreid", *options]
    (done,) = finished([[sys.executable, *command]])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("** Results **") == done.stdout.count("=> Start training") == 1
    rows = RunFolder(tmp_path / "run").rows()
    assert [row["step"] for row in rows if "lr" in row] == list(range(1, len(rows)))
    assert "mAP" in rows[-1]
    assert (tmp_path / "run" / "model" / "model-best.pth.tar").is_file()


@pytest.mark.slow
def test_bad_input_is_one_line_and_exit_code_2(demo_root: Path, tmp_path: Path, small_options: Options) -> None:
    options = small_options(demo_root, tmp_path / "run", **{"train.batch_size": 6})
    command = [sys.executable, "-m", "drsl_plugin", "torchreid", *options]
    done = finished([command] * 2, WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    assert [each.returncode for each in done] == [2, 2]
    (line,) = itertools.chain(*(each.stderr.splitlines() for each in done))
    assert line.startswith("drsl: error: train.batch_size 6: is the batch of all 2 processes")
    assert "Traceback" not in "".join(each.stdout for each in done)
    assert list(tmp_path.iterdir()) == []
