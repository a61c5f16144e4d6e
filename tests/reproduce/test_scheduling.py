from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drsl_plugin.errors import DRSLError
from drsl_plugin.reproduce import scheduling
from drsl_plugin.reproduce.locks import hold
from drsl_plugin.reproduce.runs import Run
from drsl_plugin.reproduce.scheduling import RunQueue

Takes = Callable[[float], Callable[[Run], list[str]]]
PATIENCE = 60


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "POLL", 0.02)


def began(runs: list[Run]) -> list[str]:
    path = runs[0].folder.parent / "began.txt"
    return path.read_text().split() if path.exists() else []


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_runs_are_run_once_each_in_order(runs: list[Run], takes: Takes) -> None:
    schedule = RunQueue(runs, takes(0), [{}])
    schedule.run()
    assert began(runs) == [run.folder.name for run in runs]
    assert schedule.done == runs
    assert not schedule.failed
    assert all(run.is_finished() for run in runs)
    assert runs[0].log.read_text() == "epoch 1\n"


def test_what_is_finished_is_not_run_again(runs: list[Run], takes: Takes) -> None:
    RunQueue(runs[:2], takes(0), [{}]).run()
    RunQueue(runs, takes(0), [{}]).run()
    assert began(runs) == [run.folder.name for run in runs]


@pytest.mark.parametrize("what", ["features-market1501.npz", "config.yaml", "metrics.jsonl"])
def test_a_run_that_lacks_something_is_not_finished(runs: list[Run], takes: Takes, what: str) -> None:
    RunQueue(runs[:1], takes(0), [{}]).run()
    (runs[0].folder / what).unlink()
    assert not runs[0].is_finished()


def test_a_run_without_the_evaluation_of_its_last_epoch_is_not_finished(runs: list[Run], takes: Takes) -> None:
    RunQueue(runs[:1], takes(0), [{}]).run()
    metrics = runs[0].folder / "metrics.jsonl"
    text = metrics.read_text()
    metrics.write_text(text.replace('"epoch": 2', '"epoch": 1'))
    assert not runs[0].is_finished()
    assert runs[0].epochs() == (1, 2)
    metrics.write_text(text.replace('"mAP"', '"loss_x"'))  # the last step, and no evaluation behind it
    assert not runs[0].is_finished()
    metrics.write_text(text + '{"step": 3, "epo')  # a line that was cut off says nothing
    assert runs[0].is_finished()
    assert runs[0].epochs() == (2, 2)


def test_several_run_at_once_each_in_its_slot(runs: list[Run], takes: Takes) -> None:
    most = 0

    def look(schedule: RunQueue) -> None:
        nonlocal most
        most = max(most, len(schedule.active))
        assert len({each.slot for each in schedule.active}) == len(schedule.active)

    RunQueue(runs, takes(0.5), [{"SLOT": "a"}, {"SLOT": "b"}], on_change=look).run()
    assert most == 2
    assert sorted((run.folder / "environment.txt").read_text() for run in runs[:2]) == ["a", "b"]


def test_a_failure_is_told_and_the_others_are_run(runs: list[Run], takes: Takes) -> None:
    def command(run: Run) -> list[str]:
        failing = "print('half-way'); print('drsl: error: train.lr: no'); print('bye'); raise SystemExit(2)"
        return [sys.executable, "-c", failing] if run.seed == 1 else takes(0)(run)

    schedule = RunQueue(runs, command, [{}])
    schedule.run()
    assert schedule.failed == {runs[1].folder: (runs[1], "train.lr: no")}
    assert schedule.done == [runs[0], runs[2], runs[3]]


def test_a_first_run_that_fails_does_not_keep_the_others_from_running(runs: list[Run], takes: Takes) -> None:
    failing = "print('drsl: error: train.batch_size 4096: too many'); raise SystemExit(2)"
    schedule = RunQueue(runs, lambda run: [sys.executable, "-c", failing] if run.seed == 0 else takes(0)(run), [{}])
    schedule.run()
    assert schedule.failed == {runs[0].folder: (runs[0], "train.batch_size 4096: too many")}
    assert schedule.done == runs[1:]


def test_no_space_on_the_disk_is_found_out_before(
    runs: list[Run], takes: Takes, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunQueue(runs[:1], takes(0), [{}]).run()
    (runs[0].folder / "large").write_bytes(bytes(300 * 2**20))
    usage = shutil.disk_usage(runs[0].folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=250 * 2**20))
    with pytest.raises(DRSLError, match="250 MiB free, and a run needs 300; what is done stays"):
        RunQueue(runs, takes(0), [{}]).run()
    assert began(runs) == ["run-0"]


DRIVER = """
    import sys
    from pathlib import Path
    from drsl_plugin.reproduce.runs import Run
    from drsl_plugin.reproduce.scheduling import RunQueue
    from drsl_plugin.reproduce.table_files import Row

    folder, script, seconds = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    row = Row("row", "torchreid", "osnet_x1_0_drsl_256x128_{data}", {}, ("market1501",), None, {}, folder)
    runs = [Run(row, "market1501", seed, folder / "runs" / f"run-{seed}") for seed in range(4)]
    RunQueue(runs, lambda run: [sys.executable, script, str(run.folder), seconds], [{}]).run()
"""


def driver(tmp_path: Path, stand_in: Path, seconds: float) -> subprocess.Popen[bytes]:
    code = textwrap.dedent(DRIVER)
    return subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(stand_in), str(seconds)])


def test_two_processes_on_one_table_run_no_row_twice(tmp_path: Path, stand_in: Path, runs: list[Run]) -> None:
    drivers = [driver(tmp_path, stand_in, 0.3) for _ in range(2)]
    assert [each.wait(PATIENCE) for each in drivers] == [0, 0]
    assert sorted(began(runs)) == sorted(run.folder.name for run in runs)
    assert all(run.is_finished() for run in runs)  # and each waited for what the other had in hand


def test_a_run_outlives_a_table_that_was_killed_and_is_not_run_twice(
    tmp_path: Path, stand_in: Path, runs: list[Run], takes: Takes
) -> None:
    killed = driver(tmp_path, stand_in, 1.5)
    wait_for(lambda: began(runs))
    killed.kill()
    killed.wait()
    with hold(runs[0].lock) as lock:
        assert lock is None  # the run has it still
    RunQueue(runs, takes(0), [{}]).run()
    assert sorted(began(runs)) == sorted(run.folder.name for run in runs)


def test_a_table_that_is_terminated_ends_its_runs(tmp_path: Path, stand_in: Path, runs: list[Run]) -> None:
    terminated = driver(tmp_path, stand_in, PATIENCE)
    wait_for(lambda: began(runs))
    terminated.send_signal(signal.SIGTERM)
    assert terminated.wait(PATIENCE) != 0
    with hold(runs[0].lock) as lock:
        assert lock is not None
    assert not runs[0].is_finished()


def test_a_lock_that_is_held_is_not_waited_for(tmp_path: Path) -> None:
    with hold(tmp_path / "lock") as first, hold(tmp_path / "lock") as second:
        assert first is not None
        assert second is None
    with hold(tmp_path / "lock") as third:
        assert third is not None
