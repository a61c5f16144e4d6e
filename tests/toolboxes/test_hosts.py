"""The tests' own means hold for both toolboxes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hosts import Host, interrupted

from drsl_plugin.runs.folder import RunFolder


def test_runs_go_on_evaluate_and_are_refused(host: Host, tmp_path: Path) -> None:
    with interrupted(5):
        ended = host.run(tmp_path / "run", epochs=2)
    assert ended.code == 130
    assert ended.lines[-1].startswith("drsl: interrupted")
    assert len(host.steps(tmp_path / "run")) < 5
    host.train(tmp_path / "run", epochs=2, resume=True)
    assert [row["epoch"] for row in host.evaluations(tmp_path / "run")][-1] == 2
    host.train(tmp_path / "more", epochs=3, resume=host.checkpoint(tmp_path / "run"))
    assert host.steps(tmp_path / "more")[-1]["epoch"] == 3
    last = host.checkpoint(tmp_path / "run")
    host.train(tmp_path / "evaluated", evaluate=last)
    (row,) = RunFolder(tmp_path / "evaluated").rows()
    assert row["mAP"] == pytest.approx(host.evaluations(tmp_path / "run")[-1]["mAP"])
    assert host.features(tmp_path / "evaluated").is_file()
    assert host.parameters(last).keys() == host.parameters(host.checkpoint(tmp_path / "more")).keys()
    assert host.log(tmp_path / "run")
    assert host.key("temperature") in host.refusal(tmp_path / "bad", temperature=-1.0)
