"""The whole demo at a smaller size: render, train twice, evaluate, draw."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from matplotlib import image
from typer.testing import CliRunner

from drsl_plugin.cli import app
from drsl_plugin.runs.folder import RunFolder
from drsl_plugin.torchreid.demo import CLOSING, run_demo

SMALL = {"identities": 8, "cameras": 2, "images": 2, "seed": 0}
SMALLER = {"data.height": 64, "data.width": 32}


def test_demo_trains_both_losses_and_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluations = run_demo(tmp_path, SMALL, epochs=2, losses=("drsl", "triplet"), changes=SMALLER)
    printed = capsys.readouterr().out
    assert CLOSING in printed
    assert "Rank-10" in printed
    logged = {"drsl": "loss_drsl", "triplet": "loss_t"}
    for loss, evaluation in evaluations.items():
        columns = [100 * evaluation.row([1, 5, 10])[name] for name in ("mAP", "rank1", "rank5", "rank10")]
        row = next(line for line in printed.splitlines() if f" {loss} " in line)
        assert re.findall(r"[\d.]+", row) == [f"{value:.1f}" for value in columns]
        folder = RunFolder(tmp_path / "runs" / loss)
        assert {logged[loss], "loss_x"} <= set(folder.rows()[0])
        pictures = list((folder.path / "visrank_market1501").glob("*.jpg"))
        assert len(pictures) == 16
        assert image.imread(pictures[0]).shape[0] == 64
    assert image.imread(tmp_path / "cmc.png").shape[:2] == (600, 900)
    assert (tmp_path / "data" / "Market-1501-v15.09.15" / "query").is_dir()


def test_twins_of_the_demo_differ_in_the_loss_alone(tmp_path: Path) -> None:
    run_demo(tmp_path, SMALL, epochs=1, losses=("drsl", "triplet"), changes=SMALLER)
    drsl, triplet = (
        set((tmp_path / "runs" / loss / "config.yaml").read_text().splitlines()) for loss in ("drsl", "triplet")
    )
    differing = {line.partition(":")[0].strip() for line in drsl ^ triplet}
    assert differing <= {"name", "save_dir", "drsl", "weight", "distance", "temperature", "relaxation", "sort"} | {
        *("sort_weight", "memory_size", "memory_warmup", "temperature_schedule", "temperature_end", "sub_batch"),
        *("backend", "chunk_budget", "gradient", "terms", "center", "memory_share", "memory_fill"),
        "skip_unreadable",
    }


def test_data_only_renders_and_stops(tmp_path: Path) -> None:
    options = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
    result = CliRunner().invoke(app, ["demo", "--data-only", str(tmp_path / "data"), *options])
    assert result.exit_code == 0, result.output
    assert "FASTREID_DATASETS" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert (tmp_path / "data/market1501/Market-1501-v15.09.15/bounding_box_train").is_dir()


def test_bad_option_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", str(tmp_path), "--cameras", "1"])
    assert result.exit_code == 2
    assert "--cameras" in result.stderr
    assert list(tmp_path.iterdir()) == []
