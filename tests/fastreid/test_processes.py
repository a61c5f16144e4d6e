"""``drsl fastreid`` over four processes, over two machines, and what its command says, on the CPU."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ended import OF_TORCH, Ended
from hosts import HOSTS, Host
from jobs import exact
from worlds import Work, assert_near, do_all, do_alone, free_port, left_by, moved

from drsl_plugin.errors import DRSLError
from drsl_plugin.fastreid import launch
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.runs.folder import RunFolder

Options = Callable[..., list[str]]
STEPS = 4  # of an epoch

NAMES = ("drsl alone", "drsl and classes", "linear and euclidean", "with a memory")
USUAL = {
    "MODEL.LOSSES.DRSL.MEMORY_SIZE": 20,
    "MODEL.LOSSES.DRSL.MEMORY_FILL": "stored",
    "MODEL.LOSSES.DRSL.TEMPERATURE_SCHEDULE": "linear",
    "MODEL.LOSSES.DRSL.TEMPERATURE_END": 0.02,
    "SOLVER.MAX_EPOCH": 2,
    "INPUT.FLIP.ENABLED": True,
    "INPUT.REA.ENABLED": True,
    "MODEL.FREEZE_LAYERS": '["backbone"]',
    "SOLVER.FREEZE_ITERS": STEPS + 2,
}


@pytest.fixture(scope="module")
def host(demo_root: Path) -> Iterator[Host]:
    """FastReID, which reads the rendered Market-1501, in this process and in those that it starts."""
    made = HOSTS["fastreid"](demo_root)
    with made.reading():
        yield made


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, host: Host) -> Path:
    """What one process leaves of the jobs whose gradients are to be equal."""
    folder = tmp_path_factory.mktemp("one")
    do_alone(host, works(host, folder))
    return folder


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory, host: Host) -> Path:
    """What a world of four processes left, of which one fails in the end."""
    folder = tmp_path_factory.mktemp("four")
    with pytest.raises(DRSLError, match=r"^of process 1$"):
        launch(do_all_and_fail, 4, args=(host.root, works(host, folder)), cpu=True)
    return folder


def works(host: Host, folder: Path) -> list[Work]:
    return [Work(host.words(folder / name, **exact(host, name)), folder / "notes" / name) for name in NAMES]


def do_all_and_fail(root: Path, works: Sequence[Work]) -> None:
    """Do everything, and fail in one process while the others wait for it."""
    do_all("fastreid", root, works)
    if fastreid.utils.comm.get_rank() == 1:
        raise DRSLError("of process 1")
    fastreid.utils.comm.synchronize()


# Four processes


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_one_process(name: str, one: Path, four: Path) -> None:
    (alone,), together = left_by(one / "notes" / name), left_by(four / "notes" / name)
    assert len(together) == 4
    shares = zip(*(each["batches"] for each in together), strict=True)
    assert [list(itertools.chain(*batch)) for batch in shares] == alone["batches"]
    for each in together:
        assert_near(each["start"], alone["start"], 1e-4)
        for found, expected in zip(each["gradients"], alone["gradients"], strict=True):
            assert_near(found, expected, 1e-4)
        assert_near(moved(each, "first step"), moved(alone, "first step"), 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_logs_are_those_of_one_process(name: str, host: Host, one: Path, four: Path) -> None:
    alone, together = (RunFolder(folder / name).rows() for folder in (one, four))
    assert [row.keys() for row in together] == [row.keys() for row in alone]
    assert {"ap", "above_all", "ranking", "sorting", "total_loss"} <= alone[0].keys()
    for key in alone[0].keys() - host.of_first_process:
        assert together[0][key] == pytest.approx(alone[0][key], rel=1e-5), key


# The command


@pytest.fixture
def in_two(host: Host, fastreid_options: Options, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    """``in_two(**settings)``: the command in two processes that this one starts, in the folder ``run``."""

    def run(**settings: Any) -> Ended:
        options = fastreid_options(tmp_path / "logs" / "run", **settings)
        ended = host.command("fastreid", "--num-processes", 2, *options)
        of_processes = capfd.readouterr()
        lines = [line for line in of_processes.err.splitlines() if not OF_TORCH(line)]
        return Ended(ended.code, ended.output + of_processes.out, ended.lines + lines)

    return run


@pytest.mark.slow
def test_the_command_with_drsl_alone_and_mixed_precision(in_two: Callable[..., Ended], tmp_path: Path) -> None:
    done = in_two(**{"MODEL.LOSSES.NAME": '("DRSLoss",)', "SOLVER.AMP.ENABLED": True, "SEED": -1})
    assert (done.code, done.lines) == (0, [])
    assert done.output.count("this run trains in float32") == 1
    assert done.output.count("Evaluation results in csv format") == 1
    rows = RunFolder(tmp_path / "logs" / "run").rows()
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 4]
    assert (tmp_path / "logs" / "run" / "model_final.pth").is_file()


@pytest.mark.slow
def test_two_machines(host: Host, tmp_path: Path, fastreid_options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # sums of another number of threads are rounded in another way
    meeting = ("--num-machines", "2", "--dist-url", f"tcp://127.0.0.1:{free_port()}")
    options = fastreid_options(tmp_path / "run", **USUAL)
    words = [["fastreid", *meeting, "--machine-rank", str(rank), *options] for rank in range(2)]
    with subprocess.Popen([sys.executable, "-m", "drsl_plugin", *words[1]], stdout=subprocess.PIPE) as second:
        try:
            assert host.command(*words[0]).code == 0
            output, _ = second.communicate(timeout=90)
        finally:
            second.kill()
    assert second.returncode == 0
    assert b"Evaluation results in csv format" not in output
    ended = host.command("fastreid", "--num-processes", 2, *fastreid_options(tmp_path / "one machine", **USUAL))
    assert ended.code == 0
    found, expected = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "one machine")
    assert found.rows() == expected.rows()
    assert {path.name for path in found.path.glob("*.pth")} == {path.name for path in expected.path.glob("*.pth")}
    weights = [torch.load(each.path / "model_final.pth", weights_only=False)["model"] for each in (found, expected)]
    assert all(torch.equal(tensor, weights[1][key]) for key, tensor in weights[0].items())
    assert json.loads((found.path / "environment.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_an_error_in_a_process_is_one_line(in_two: Callable[..., Ended], tmp_path: Path) -> None:
    """Only the first process knows of it, in an epoch that ends with no evaluation but that of the whole run's end."""
    done = in_two(**{"SOLVER.BASE_LR": 1e30, "SOLVER.WARMUP_ITERS": 0, "TEST.EVAL_PERIOD": 4})
    assert done.code == 2
    assert "Traceback" not in done.output + "".join(done.lines)
    (line,) = done.errors
    assert line.startswith("epoch 1, step 2: ")
    assert not list((tmp_path / "logs" / "run").glob("*.pth"))


@pytest.mark.slow
def test_an_error_in_all_processes_is_one_line_and_leaves_nothing(in_two: Callable[..., Ended], tmp_path: Path) -> None:
    done = in_two(**{"SOLVER.IMS_PER_BATCH": 32})
    assert done.code == 2
    assert "Traceback" not in done.output + "".join(done.lines)
    (line,) = done.errors
    assert line.startswith("SOLVER.IMS_PER_BATCH 32: needs 16 identities")
    assert list(tmp_path.iterdir()) == []
