"""``drsl fastreid`` over several processes, and several machines, on the CPU.

Spawning a process that imports FastReID costs seconds, a small training little: a world does all its jobs in one go,
and the tests read what they left.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fastreid
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from drsl_plugin.errors import DRSLError
from drsl_plugin.fastreid import launch
from drsl_plugin.fastreid.main import configure, main, parser
from drsl_plugin.fastreid.trainer import DRSLTrainer
from drsl_plugin.fastreid.training import Job, run_job
from drsl_plugin.runs.folder import RunFolder

Options = Callable[..., list[str]]
STEPS = 4  # of an epoch


@fastreid.modeling.backbones.BACKBONE_REGISTRY.register()
def build_tiny_backbone(cfg: Any) -> nn.Module:
    """A network in which nothing depends on the other samples of the batch."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=4),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.GroupNorm(4, 32),
    )


# The balanced sampler draws the same batch for any number of processes, and gives each its share of it.
EXACT_ALL = {
    "MODEL.BACKBONE.NAME": "build_tiny_backbone",
    "MODEL.BACKBONE.FEAT_DIM": 32,
    "MODEL.HEADS.WITH_BNNECK": False,
    "DATALOADER.SAMPLER_TRAIN": "BalancedIdentitySampler",
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.OPT": "SGD",
    "SOLVER.MOMENTUM": 0.0,
    "SOLVER.WEIGHT_DECAY": 0.0,
    "SOLVER.WEIGHT_DECAY_NORM": 0.0,
    "SOLVER.WEIGHT_DECAY_BIAS": 0.0,
    "SOLVER.BASE_LR": 0.5,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.MAX_EPOCH": 2,
    "TEST.EVAL_PERIOD": 2,
    "SOLVER.CHECKPOINT_PERIOD": 2,
}
EXACT = {
    "drsl": {**EXACT_ALL, "MODEL.LOSSES.NAME": '("DRSLoss",)'},
    "drsl and classes": EXACT_ALL,
    "drsl, linear and euclidean": {
        **EXACT_ALL,
        "MODEL.LOSSES.DRSL.DISTANCE": "euclidean",
        "MODEL.LOSSES.DRSL.RELAXATION": "linear",
        "MODEL.LOSSES.DRSL.SORT": "order",
        "MODEL.LOSSES.DRSL.TEMPERATURE": 0.5,
    },
    "drsl with a memory": {
        **EXACT_ALL,
        "MODEL.LOSSES.DRSL.MEMORY_SIZE": 40,
        "MODEL.LOSSES.DRSL.MEMORY_WARMUP": 1,
    },
}
IN_PIECES = {"MODEL.LOSSES.DRSL.SUB_BATCH": 4}
USUAL = {
    "MODEL.LOSSES.DRSL.MEMORY_SIZE": 20,
    "MODEL.LOSSES.DRSL.TEMPERATURE_SCHEDULE": "linear",
    "MODEL.LOSSES.DRSL.TEMPERATURE_END": 0.02,
    "SOLVER.MAX_EPOCH": 3,
    "INPUT.FLIP.ENABLED": True,
    "INPUT.REA.ENABLED": True,
    "MODEL.FREEZE_LAYERS": '["backbone"]',
    "SOLVER.FREEZE_ITERS": STEPS + 2,
}


class Work(NamedTuple):
    """What each process of a world does."""

    argv: list[str]
    """The arguments of the command."""
    notes: Path
    """The folder for what each process leaves for the tests."""
    stop_behind: int = 0
    """The step, from 1, behind which the run is interrupted in all processes; 0 for none."""


def do_all(works: list[Work], failing: int = -1) -> None:
    """Do everything, and fail in one process while the others wait for it."""
    for work in works:
        do(work)
    if fastreid.utils.comm.get_rank() == failing:
        raise DRSLError(f"of process {failing}")
    fastreid.utils.comm.synchronize()


def do(work: Work) -> None:
    """Run the command in this process, one of a world or alone, and note its gradients and parameters."""
    args = parser().parse_args(work.argv)
    cfg, preset, problems = configure(args)
    assert problems == []
    rank = fastreid.utils.comm.get_rank()
    notes: dict[str, Any] = {"batches": [], "seeds": []}
    run_step = DRSLTrainer.run_step

    def watched(self: Any) -> None:
        model = getattr(self.model, "module", self.model)
        notes.setdefault("start", parameters(model))
        run_step(self)
        notes.setdefault("gradients", {name: tensor.grad.clone() for name, tensor in trainable(model)})
        notes.setdefault("first step", parameters(model))
        notes["parameters"] = parameters(model)
        notes["memories"] = model.drsl_features.memory_state()
        if self.iter + 1 == work.stop_behind:
            raise KeyboardInterrupt

    forward = fastreid.modeling.meta_arch.Baseline.forward

    def looked_at(self: Any, inputs: Any) -> Any:
        if self.training:
            notes["batches"].append([Path(path).name for path in inputs["img_paths"]])
            notes["seeds"].append(torch.initial_seed())
        return forward(self, inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DRSLTrainer, "run_step", watched)
        patch.setattr(fastreid.modeling.meta_arch.Baseline, "forward", looked_at)
        try:
            notes["results"] = run_job(Job(cfg, args, tuple(work.argv), preset))
        except KeyboardInterrupt:
            notes["results"] = None
    work.notes.mkdir(parents=True, exist_ok=True)
    torch.save(notes, work.notes / f"{rank}.pth")


def parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


def trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad)


def left_by(notes: Path) -> list[dict[str, Any]]:
    """What the processes noted, by their rank."""
    return [torch.load(path, weights_only=False) for path in sorted(notes.glob("*.pth"))]


@pytest.fixture(scope="module", autouse=True)
def data(demo_root: Path) -> Iterator[None]:
    """The rendered Market-1501, in this process and in those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(demo_root))
        patch.setattr(fastreid.data.build, "_root", str(demo_root))
        yield


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, fastreid_options: Options) -> Path:
    """What a world of two processes left."""
    folder = tmp_path_factory.mktemp("two")

    def work(name: str, *switches: str, stop_behind: int = 0, at: str = "", **settings: Any) -> Work:
        options = fastreid_options(folder / (at or name), **settings)
        return Work([*switches, *options], folder / "notes" / name, stop_behind)

    works = [
        work("whole", **USUAL),
        work("begun", at="cut", stop_behind=STEPS + 1, **USUAL),
        work("resumed", "--resume", at="cut", **USUAL),
        work("evaluated", "--eval-only", **USUAL, **{"MODEL.WEIGHTS": folder / "whole" / "model_final.pth"}),
        *(work(name, **settings) for name, settings in EXACT.items()),
        *(work(f"{name}, in pieces", **settings, **IN_PIECES) for name, settings in EXACT.items()),
    ]
    with pytest.raises(DRSLError, match=r"^of process 1$"):
        launch(do_all, 2, args=(works, 1), cpu=True)
    return folder


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory, fastreid_options: Options) -> Path:
    """What a world of four processes left."""
    folder = tmp_path_factory.mktemp("four")
    works = [
        Work(fastreid_options(folder / name, **settings), folder / "notes" / name) for name, settings in EXACT.items()
    ]
    launch(do_all, 4, args=(works,), cpu=True)
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, fastreid_options: Options) -> Path:
    """What one process leaves of the jobs whose gradients are to be equal."""
    folder = tmp_path_factory.mktemp("one")
    for name, settings in EXACT.items():
        do(Work(fastreid_options(folder / name, **settings), folder / "notes" / name))
    return folder


# Two processes

JOBS = ("whole", "begun", "resumed", *EXACT)


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_all_processes_end_with_equal_parameters(name: str, two: Path) -> None:
    first, second = left_by(two / "notes" / name)
    assert first["parameters"].keys() == second["parameters"].keys()
    assert [
        key for key, tensor in first["parameters"].items() if not torch.equal(tensor, second["parameters"][key])
    ] == []
    saved = [path for path in (two / name).glob("model_final.pth") if name != "begun"]
    for path in saved:
        weights = torch.load(path, weights_only=False)["model"]
        assert all(torch.equal(tensor, weights[key]) for key, tensor in first["parameters"].items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whole", "resumed", "drsl with a memory"])
def test_all_processes_end_with_equal_memories(name: str, two: Path) -> None:
    (first,), (second,) = (notes["memories"] for notes in left_by(two / "notes" / name))
    for key in ("embeddings", "labels"):
        assert torch.equal(first.pop(key), second.pop(key))
    assert first == second
    assert first["filled"] == first["size"]


@pytest.mark.slow
def test_processes_share_a_batch(two: Path) -> None:
    one, other = left_by(two / "notes" / "whole")
    for first, second in zip(one["batches"], other["batches"], strict=True):
        assert (len(first), len(second)) == (4, 4)
        assert first != second
    assert set(one["seeds"]).isdisjoint(other["seeds"]), "of augmentations"


@pytest.mark.slow
def test_two_processes_write_one_run_folder(two: Path) -> None:
    folder = RunFolder(two / "whole")
    rows = folder.rows()
    assert [row["step"] for row in rows if "lr" in row] == list(range(1, 3 * STEPS + 1))
    assert [row["epoch"] for row in rows if "mAP" in row] == [1, 2, 3]
    keys = {"total_loss", "loss_cls", "loss_drsl", "cls_accuracy", "ranking", "sorting", "ap", "above_all"}
    assert keys <= rows[0].keys()
    names = sorted(path.name for path in folder.path.iterdir() if "tfevents" not in path.name)
    assert sorted({*names, "model_best.pth"}) == sorted(
        [
            *("config.yaml", "environment.json", "features-Market1501.npz", "last_checkpoint", "log.txt"),
            *("log.txt.rank1", "metrics.json", "metrics.jsonl"),
            *("model_0000.pth", "model_0001.pth", "model_best.pth", "model_final.pth"),
        ]
    )
    assert len(list(folder.path.glob("*tfevents*"))) == 1
    assert json.loads((folder.path / "environment.json").read_text())["processes"] == 2
    assert (folder.path / "log.txt").read_text().count("Evaluation results in csv format") == 3
    assert "Evaluation results in csv format" not in (folder.path / "log.txt.rank1").read_text()


@pytest.mark.slow
def test_only_the_first_process_has_results(two: Path) -> None:
    for name in ("whole", "evaluated"):
        first, second = (notes["results"] for notes in left_by(two / "notes" / name))
        assert RunFolder(two / name).rows()[-1]["mAP"] == first["mAP"] / 100
        assert not second


@pytest.mark.slow
def test_two_processes_evaluate_as_one_does(two: Path, tmp_path: Path, fastreid_options: Options) -> None:
    settings = {**USUAL, "MODEL.WEIGHTS": two / "whole" / "model_final.pth"}
    main(["--eval-only", *fastreid_options(tmp_path / "run", **settings)])
    alone, together = (RunFolder(folder).rows()[-1] for folder in (tmp_path / "run", two / "evaluated"))
    assert together == pytest.approx(alone)
    arrays = [np.load(folder / "features-Market1501.npz") for folder in (tmp_path / "run", two / "evaluated")]
    for name in arrays[0].files:
        if name.endswith("_features"):
            assert arrays[1][name] == pytest.approx(arrays[0][name], abs=1e-5)
        else:
            assert arrays[1][name].tolist() == arrays[0][name].tolist()


@pytest.mark.slow
def test_the_evaluation_of_a_training_is_of_what_it_saves(two: Path) -> None:
    """All processes evaluate with the statistics that are saved, and none with its own."""
    trained, evaluated = (RunFolder(two / name).rows()[-1] for name in ("whole", "evaluated"))
    names = ("mAP", "mINP", "rank1", "rank5", "rank10")
    assert [trained[name] for name in names] == pytest.approx([evaluated[name] for name in names])
    arrays = [np.load(two / name / "features-Market1501.npz") for name in ("whole", "evaluated")]
    assert arrays[0]["gallery_features"] == pytest.approx(arrays[1]["gallery_features"], abs=1e-5)


@pytest.mark.slow
def test_two_processes_resume_exactly(two: Path) -> None:
    whole, cut = ([row for row in RunFolder(two / name).rows() if "lr" in row] for name in ("whole", "cut"))
    assert cut == whole
    first, second = (torch.load(two / name / "model_final.pth", weights_only=False) for name in ("whole", "cut"))
    assert [key for key, tensor in first["model"].items() if not torch.equal(tensor, second["model"][key])] == []
    first, second = (left_by(two / "notes" / name)[1]["parameters"] for name in ("whole", "resumed"))
    assert [key for key, tensor in first.items() if not torch.equal(tensor, second[key])] == []


@pytest.mark.slow
def test_two_processes_resume_exactly_in_what_they_evaluate(two: Path) -> None:
    assert RunFolder(two / "cut").rows() == RunFolder(two / "whole").rows()


# The loss of the whole batch


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("name", EXACT)
def test_gradients_are_those_of_one_process(
    name: str, processes: int, one: Path, request: pytest.FixtureRequest
) -> None:
    several = request.getfixturevalue("two" if processes == 2 else "four")
    (alone,), together = left_by(one / "notes" / name), left_by(several / "notes" / name)
    assert len(together) == processes
    shares = zip(*(each["batches"] for each in together), strict=True)
    assert [list(itertools.chain(*batch)) for batch in shares] == alone["batches"]
    for each in together:
        assert_near(each["start"], alone["start"])
        assert_near(each["gradients"], alone["gradients"])
        moved = [
            {key: first - notes["start"][key] for key, first in notes["first step"].items()} for notes in (each, alone)
        ]
        assert_near(*moved)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_gradients_in_sub_batches_are_those_of_one_process_and_the_whole_batch(name: str, one: Path, two: Path) -> None:
    (alone,), together = left_by(one / "notes" / name), left_by(two / "notes" / f"{name}, in pieces")
    assert len(together) == 2
    for each in together:
        assert {len(batch) for batch in each["batches"]} == {4}
        assert_near(each["gradients"], alone["gradients"])
        assert all(torch.equal(tensor, together[0]["parameters"][key]) for key, tensor in each["parameters"].items())
    row, expected = (RunFolder(folder).rows()[0] for folder in (two / f"{name}, in pieces", one / name))
    for key in expected.keys() - {"cls_accuracy"}:  # FastReID's, of the first process's share
        assert row[key] == pytest.approx(expected[key], rel=1e-5), key


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    scale = max(tensor.norm().item() for tensor in expected.values())
    assert scale > 0
    for key, tensor in expected.items():
        assert (found[key] - tensor).norm().item() <= 1e-4 * max(tensor.norm().item(), 1e-2 * scale), key


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("name", EXACT)
def test_logs_are_those_of_one_process(name: str, processes: int, one: Path, request: pytest.FixtureRequest) -> None:
    several = request.getfixturevalue("two" if processes == 2 else "four")
    alone, together = (RunFolder(folder / name).rows() for folder in (one, several))
    assert [row.keys() for row in together] == [row.keys() for row in alone]
    assert {"ap", "above_all", "ranking", "sorting", "total_loss"} <= alone[0].keys()
    for key in alone[0].keys() - {"cls_accuracy"}:  # FastReID's, of the first process's share
        assert together[0][key] == pytest.approx(alone[0][key], rel=1e-5), key


# The command


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "drsl_plugin", "fastreid", *map(str, arguments)]


def finished(*commands: list[str]) -> list[subprocess.CompletedProcess[str]]:
    """Run commands side by side; end them, and what they started, where one takes too long."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    running = [subprocess.Popen(each, **pipes) for each in commands]
    try:
        outputs = [process.communicate(timeout=90) for process in running]
    finally:
        for process in running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return [
        subprocess.CompletedProcess(each, process.returncode, *output)
        for each, process, output in zip(commands, running, outputs, strict=True)
    ]


def on_the_error_stream(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines, without the one in which torch says that there is a CUDA toolkit but no GPU."""
    return [line for line in done.stderr.splitlines() if "CUDA_HOME" not in line]


@pytest.mark.slow
def test_the_command_with_drsl_alone_and_mixed_precision(tmp_path: Path, fastreid_options: Options) -> None:
    settings = {"MODEL.LOSSES.NAME": '("DRSLoss",)', "SOLVER.AMP.ENABLED": True, "SEED": -1}
    (done,) = finished(command("--num-processes", 2, *fastreid_options(tmp_path / "run", **settings)))
    assert done.returncode == 0, done.stderr
    assert on_the_error_stream(done) == []
    assert done.stdout.count("this run trains in float32") == 1
    assert done.stdout.count("Evaluation results in csv format") == 1
    rows = RunFolder(tmp_path / "run").rows()
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 4]
    assert (tmp_path / "run" / "model_final.pth").is_file()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.slow
def test_two_machines(two: Path, tmp_path: Path, fastreid_options: Options) -> None:
    meeting = ("--num-machines", 2, "--dist-url", f"tcp://127.0.0.1:{free_port()}")
    options = fastreid_options(tmp_path / "run", **USUAL)
    first, second = finished(*(command(*meeting, "--machine-rank", rank, *options) for rank in range(2)))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "Evaluation results in csv format" not in second.stdout
    found, expected = RunFolder(tmp_path / "run"), RunFolder(two / "whole")
    assert found.rows() == expected.rows()
    assert {path.name for path in found.path.glob("*.pth")} == {path.name for path in expected.path.glob("*.pth")}
    weights = [torch.load(each.path / "model_final.pth", weights_only=False)["model"] for each in (found, expected)]
    assert all(torch.equal(tensor, weights[1][key]) for key, tensor in weights[0].items())
    assert json.loads((found.path / "environment.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_an_error_in_a_process_is_one_line(tmp_path: Path, fastreid_options: Options) -> None:
    """Only the first process knows of it, in an epoch that ends with no evaluation but that of the whole run's end."""
    settings = {"SOLVER.BASE_LR": 1e30, "SOLVER.WARMUP_ITERS": 0, "TEST.EVAL_PERIOD": 4}
    (done,) = finished(command("--num-processes", 2, *fastreid_options(tmp_path / "run", **settings)))
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = on_the_error_stream(done)
    assert line.startswith("drsl: error: epoch 1, step 2: ")
    assert not list((tmp_path / "run").glob("*.pth"))


@pytest.mark.slow
def test_an_error_in_all_processes_is_one_line_and_leaves_nothing(tmp_path: Path, fastreid_options: Options) -> None:
    settings = {"SOLVER.IMS_PER_BATCH": 32}
    (done,) = finished(command("--num-processes", 2, *fastreid_options(tmp_path / "logs" / "run", **settings)))
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = on_the_error_stream(done)
    assert line.startswith("drsl: error: SOLVER.IMS_PER_BATCH 32: needs 16 identities")
    assert list(tmp_path.iterdir()) == []
