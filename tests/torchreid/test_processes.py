"""``drsl torchreid`` as ``torchrun`` starts it: how several processes end, and a batch of unequal identities."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hosts import HOSTS
from tiny import Tiny, tiny
from torch import Tensor, nn
from worlds import (
    Stop,
    Work,
    assert_near,
    be_torchreids_process,
    finished,
    free_port,
    free_ports,
    left_by,
    parameters,
)

from drsl_plugin.errors import DRSLError
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.torchreid import ImageDRSLEngine, processes, world
from drsl_plugin.torchreid.main import main
from drsl_plugin.torchreid.record import RunRecord
from drsl_plugin.torchreid.recording import add_recording
from drsl_plugin.torchreid.world import World

Options = Callable[..., list[str]]


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


def process(rank: int, root: Path, works: list[Work], port: int, engine_notes: Path) -> None:
    """Do everything as process ``rank`` of two, and take a step of the engine, for which the port is."""
    be_torchreids_process(rank, root, works, 2)
    os.environ["MASTER_PORT"] = str(port)
    with processes.join():
        processes.start(use_gpu=False)
        torch.save(one_step(unequal_batch(), engine_notes), engine_notes / f"{rank}.pth")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, demo_root: Path, small_options: Options) -> Path:
    """What a world of two processes left."""
    folder = tmp_path_factory.mktemp("two")
    settings = tiny(HOSTS["torchreid"](demo_root))

    def work(name: str, stop: Stop | None = None, **changes: Any) -> Work:
        options = small_options(demo_root, folder / "bad", **{"model.name": "tiny", **changes})
        return Work(options, folder / "notes" / name, stop)

    works = [
        *(work(name, **settings) for name, (settings, _) in BAD.items()),
        work("one fails", Stop((1,), 1, ArithmeticError), **settings),
        work("one fails to evaluate", Stop((0,), 0, ArithmeticError), **settings),
        work("help")._replace(argv=["--help"]),
    ]
    *ports, engine_port = free_ports(len(works) + 1)
    engine_notes = folder / "notes" / "engine"
    engine_notes.mkdir(parents=True)
    works = [each._replace(port=port) for each, port in zip(works, ports, strict=True)]
    spawn: Any = torch.multiprocessing.spawn
    spawn(process, nprocs=2, args=(demo_root, works, engine_port, engine_notes))
    return folder


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


@pytest.mark.slow
def test_the_gradient_of_identities_of_several_sizes_in_double_precision(two: Path, tmp_path: Path) -> None:
    expected, together = one_step(unequal_batch(), tmp_path), left_by(two / "notes" / "engine")
    assert len(together) == 2
    for each in together:
        assert_near(each["gradients"], expected["gradients"], 1e-10)
        assert each["summary"] == pytest.approx(expected["summary"], rel=1e-6)


# How they end


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_said_by_one_process(name: str, two: Path) -> None:
    ends = sorted(notes["end"] for notes in left_by(two / "notes" / name))
    assert [kind for kind, _ in ends] == ["DRSLError", "SystemExit"]
    assert BAD[name][1] in ends[0][1]
    assert "\n" not in ends[0][1]
    assert ends[1][1] == "2"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "failing", "kind", "says"),
    [
        ("one fails", 1, "ArithmeticError", ""),
        ("one fails to evaluate", 0, "DRSLError", "evaluation of market1501 after epoch 1 failed: ArithmeticError"),
    ],
)
def test_one_process_that_fails_ends_the_others_without_a_word(
    name: str, failing: int, kind: str, says: str, two: Path
) -> None:
    ends = [notes["end"] for notes in left_by(two / "notes" / name)]
    assert ends[failing][0] == kind
    assert ends[failing][1].startswith(says)
    assert ends[1 - failing] == ("SystemExit", "2")


@pytest.mark.slow
def test_help_is_no_failure(two: Path) -> None:
    assert [notes["end"] for notes in left_by(two / "notes" / "help")] == [("SystemExit", "0")] * 2


def both(do: Callable[[int], Any]) -> list[Any]:
    """Do something as each of two processes at once, and return what each has of it."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(do, range(2)))


def connected(monkeypatch: pytest.MonkeyPatch) -> list[World]:
    """What each of two processes sees, which are both this one."""
    store = torch.distributed.HashStore()
    monkeypatch.setattr(world, "_meetings", itertools.repeat(0))
    return both(lambda rank: World(store, rank, 2))


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], World]:
    """``joined(1)`` makes this process the second of two, which are both this one."""
    worlds = connected(monkeypatch)

    def join(rank: int) -> World:
        monkeypatch.setattr(processes, "_world", worlds[rank])
        return worlds[rank]

    return join


def lose_the_other(rank: int, port: int, step: str, folder: Path) -> None:
    """Take a step as one of two processes, of which the other is killed before it; note how this one ends."""
    place = {"WORLD_SIZE": "2", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(
        place, TORCHELASTIC_USE_AGENT_STORE="True", TORCHELASTIC_RESTART_COUNT="0"
    )  # the store outlives the process that is killed
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


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[tuple[str, str]]]:
    """How the processes ended that noted it, and the kind of the cause."""

    @functools.cache
    def end(step: str) -> list[tuple[str, str]]:
        folder = tmp_path_factory.mktemp("ends")
        store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        context = multiprocessing.get_context("spawn")
        arguments = [(rank, store.port, step, folder) for rank in range(2)]
        started = [context.Process(target=lose_the_other, args=each) for each in arguments]
        for each in started:
            each.start()
        for each in started:
            each.join(60)
        assert [each.exitcode for each in started] == [0, 0 if step == "none" else -signal.SIGKILL]
        return [(path.read_text(), path.with_suffix(".cause").read_text()) for path in sorted(folder.glob("?.txt"))]

    return end


@pytest.mark.slow
@pytest.mark.parametrize("step", ["backward", "gather"])
def test_a_process_that_loses_another_says_so(step: str, ends: Callable[[str], list[tuple[str, str]]]) -> None:
    ((end, _),) = ends(step)
    assert end.startswith("DRSLError process 0 of 2: another ended without a word (")
    assert "\n" not in end


@pytest.mark.slow
def test_gloo_has_no_type_for_its_errors(ends: Callable[[str], list[tuple[str, str]]]) -> None:
    """When this fails, the type of an error tells that a process is gone, and the group that probes it can go."""
    ((_, cause),) = ends("gather")
    assert cause == "RuntimeError"


@pytest.mark.slow
def test_an_error_of_one_of_two_living_processes_stays_as_it_is(ends: Callable[[str], list[tuple[str, str]]]) -> None:
    assert [end for end, _ in ends("none")] == ["RuntimeError of this process", "SystemExit 2"]


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
    joined: Callable[[int], World],
) -> None:
    other = joined(0)
    other.end("failed")
    other.leave(0)
    joined(1)
    with pytest.raises(SystemExit) as ended, processes.end_together(), processes.let_main_go_first():
        pytest.fail("the main process has not been here")
    assert ended.value.code == 2


@pytest.mark.parametrize("said", [False, True])
def test_under_torchrun_who_fails_first_has_its_say(
    said: bool, joined: Callable[[int], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torchrun ends all processes once one has ended."""
    monkeypatch.setattr(world, "PATIENCE", 0.3 if not said else 60)
    other = joined(0)
    other.end("failed")
    if said:
        other.tell("said")
    monkeypatch.setattr(joined(1), "is_outlived", True)
    begun = time.monotonic()
    with pytest.raises(SystemExit), processes.end_together():
        raise DRSLError("the same in all")
    assert (time.monotonic() - begun >= 0.3) != said


def test_the_main_process_is_waited_for_longer_than_a_step_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "MEETING", timedelta(seconds=2))
    worlds = connected(monkeypatch)

    def evaluate(rank: int) -> None:
        time.sleep(4 * (1 - rank))
        worlds[rank].wait_for_main()

    both(evaluate)


# What torch lacks: when one of these fails, there is something of ours that can go


def test_a_monitored_barrier_writes_a_line_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    """Else ``World.wait_for_main`` could be one."""
    store, gloo = torch.distributed.HashStore(), torch.distributed.ProcessGroupGloo
    groups = both(lambda rank: gloo(store, rank, 2, timedelta(seconds=10)))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(groups[1].monitored_barrier, timedelta(seconds=10))
        time.sleep(0.5)
        groups.pop(0)
        assert isinstance(waiting.exception(), RuntimeError)
    assert "monitoredBarrier" in capfd.readouterr().err


@pytest.mark.skipif(int(torch.__version__.split(".")[0]) < 2, reason="stores of torch before 2.0 write none")
def test_a_store_writes_lines_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    """Where it waits in vain; else ``Store.wait`` could take the place of ``World.hear``."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with pytest.raises(RuntimeError):
        store.wait(["word"], timedelta(seconds=0.3))
    assert "waitForInput" in capfd.readouterr().err


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
