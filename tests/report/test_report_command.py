"""``drsl report``: what it writes, what it says of bad input, and that a failure leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_runs import MakeRun, made_features, report

import drsl_plugin

REPOSITORY = Path(drsl_plugin.__file__).parents[1]


def text(path: Path) -> str:
    """The page's words, without its pictures and marks."""
    page = re.sub(r"<(script|style|svg)\b.*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", "", page).split())


def one_line(tmp_path: Path, *arguments: object) -> str:
    """The one line of an error, after which there is no page."""
    before = sorted(tmp_path.rglob("*"))
    result = report(*arguments)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert sorted(tmp_path.rglob("*")) == before
    return result.stderr


def test_the_page_and_its_closing_line(tmp_path: Path, make_run: MakeRun) -> None:
    output = tmp_path / "new" / "page.html"
    result = report(make_run("a"), make_run("b", 1), "-o", output)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{output}: {output.stat().st_size / 1e6:.1f} MB, 2 runs\n"
    assert os.listdir(output.parent) == ["page.html"]
    assert "Batch AP (exact ranks) ap Not logged by b, only DRSL logs it." in text(output)
    report(make_run("c", 1), "-o", output)
    assert "2 runs side by side" not in text(output)
    assert "Batch AP: not logged; only DRSL logs it." in text(output)


def test_the_numbers_are_those_of_evaluate(tmp_path: Path, make_run: MakeRun) -> None:
    from typer.testing import CliRunner

    from drsl_plugin.cli import app

    run, output = make_run("a"), tmp_path / "page.html"
    values = json.loads(CliRunner().invoke(app, ["evaluate", str(run), "--json"]).stdout)
    report(run, "-o", output)
    assert f"market1501 {' '.join(f'{100 * value:.1f}' for value in values.values())} " in re.sub(
        r"</t[hd]>", " ", output.read_text(encoding="utf-8")
    ).replace("<td>", "").replace('<th scope="row">', "")


def test_runs_of_other_targets_and_without_anything_but_features(tmp_path: Path, make_run: MakeRun) -> None:
    bare = make_run("bare", targets={"msmt17": made_features(1)})
    for name in ("config.yaml", "environment.json", "metrics.jsonl"):
        (bare / name).unlink()
    output = tmp_path / "page.html"
    assert report(make_run("full"), bare, "-o", output).exit_code == 0
    found = text(output)
    assert "No features of market1501: bare." in found
    assert "No features of msmt17: full." in found
    for name in ("config.yaml", "environment.json"):
        assert f"No {name}: bare." in found
    assert "No metrics.jsonl, so nothing of the training: bare." in found


def test_a_target_that_the_toolboxes_spell_differently_is_one(tmp_path: Path, make_run: MakeRun) -> None:
    output = tmp_path / "page.html"
    report(make_run("a"), make_run("b", 1, targets={"Market1501": made_features(1)}), "-o", output)
    assert "No features of" not in text(output)
    assert output.read_text(encoding="utf-8").count("<strong>CMC curve</strong>") == 1


def test_what_files_hold_is_text_on_the_page(tmp_path: Path, make_run: MakeRun) -> None:
    config = {"loss": {"name": "</script><script>alert(1)</script>", "<i>": '"&'}, "$x^2$": "{{ 7 * 7 }}"}
    arrays = made_features(0, tmp_path / "<u>'\"")
    run = make_run("<b>x", config=config, targets={"<s>": arrays})
    (run / "metrics.jsonl").write_text('{"step": 1, "<em>$\\\\frac$": 2}\n{"step": 2, "<em>$\\\\frac$": 3}\n[1]\n')
    output = tmp_path / "page.html"
    assert report(run, make_run("other"), "-o", output).exit_code == 0
    page = output.read_text(encoding="utf-8")
    for bad in ("<b>x", "</script><script>alert", '<i>"', "<s>", "<u>", "<em>"):
        assert bad not in page
    for shown in ("&lt;b&gt;x", "&lt;/script&gt;&lt;script&gt;alert(1)", "&lt;s&gt;", "&lt;em&gt;", "{{ 7 * 7 }}"):
        assert shown in page.replace("<wbr>", "")


def test_missing_images_are_said_once(tmp_path: Path, make_run: MakeRun) -> None:
    images = tmp_path / "images"
    run, output = make_run("a", targets={"t": made_features(0, images)}), tmp_path / "page.html"
    images.rename(tmp_path / "moved")
    result = report(run, "-o", output)
    assert result.exit_code == 0
    assert re.fullmatch(r"drsl report: (\d+) of \1 images were not found or .*; --images DIR names .*\n", result.stderr)
    assert text(output).count("not found") == 1
    for folder in (tmp_path / "moved", tmp_path):
        result = report(run, "-o", output, "--images", folder)
        assert (result.stderr == "") == (folder != tmp_path)


def test_features_without_paths_have_placeholders(tmp_path: Path, make_run: MakeRun) -> None:
    output = tmp_path / "page.html"
    assert report(make_run("a"), "-o", output).stderr == ""
    assert set(re.findall(r'data-picture="(\d+)"', output.read_text(encoding="utf-8"))) == {"0"}
    assert "without paths, so there are no pictures" in text(output)


def test_bad_input_is_one_line(tmp_path: Path, make_run: MakeRun) -> None:
    run, output = make_run("run"), tmp_path / "page.html"
    (tmp_path / "empty").mkdir()
    assert "no such run folder" in one_line(tmp_path, tmp_path / "none", "-o", output)
    assert "no features-TARGET.npz in it" in one_line(tmp_path, run, tmp_path / "empty", "-o", output)
    assert "the same run folder twice" in one_line(tmp_path, run, tmp_path / "empty" / ".." / "run", "-o", output)
    assert "is a folder" in one_line(tmp_path, run, "-o", tmp_path)
    assert "ends in .html" in one_line(tmp_path, run, "-o", run / "features-market1501.npz")
    assert "no folder that can be written to" in one_line(tmp_path, run, "-o", run / "config.yaml" / "page.html")
    assert "--images" in one_line(tmp_path, run, "-o", output, "--images", tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", "a: [1"),
        ("environment.json", "{"),
        ("features-market1501.npz", "no zip"),
        ("metrics.jsonl", b"\xff\xfe{}"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, make_run: MakeRun, name: str, content: str | bytes) -> None:
    run = make_run("run")
    (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    line = one_line(tmp_path, run, "-o", tmp_path / "page.html")
    assert f"{run / name}: cannot be read" in line


def test_no_query_with_a_match_is_one_line(tmp_path: Path, make_run: MakeRun) -> None:
    arrays = made_features(0)
    run = make_run("run", targets={"t": {**arrays, "gallery_pids": np.zeros_like(arrays["gallery_pids"])}})
    assert "no query has a correct match" in one_line(tmp_path, run, "-o", tmp_path / "page.html")


def test_a_full_disk_leaves_the_page_that_was_there(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, output = make_run("run"), tmp_path / "page.html"
    output.write_text("old")
    write = Path.write_text

    def full(path: Path, text: str, **keywords: Any) -> int:
        write(path, text[:1000], **keywords)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert "cannot be written: No space left on device" in one_line(tmp_path, run, "-o", output)
    assert output.read_text() == "old"


def test_no_run_is_one_line_and_no_toolbox_is_imported() -> None:
    program = """
import sys
import drsl_plugin.report.main
from drsl_plugin.cli import main
assert not {"torchreid", "fastreid"} & set(sys.modules)
sys.argv = ["drsl", "report"]
main()
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "RUN" in result.stderr


@pytest.mark.parametrize("name", ["sklearn", "matplotlib", "jinja2", "PIL"])
def test_a_package_that_is_missing_is_one_line(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for module in [each for each in sys.modules if each.startswith("drsl_plugin.report")]:
        monkeypatch.delitem(sys.modules, module)
    for module in (name, *(each for each in sys.modules if each.startswith(f"{name}."))):
        monkeypatch.setitem(sys.modules, module, None)  # which is how Python knows that there is none
    line = one_line(tmp_path, make_run("run"), "-o", tmp_path / "page.html")
    assert line == f'drsl: error: drsl report needs {name}: pip install "drsl-plugin[report]"\n'


def test_a_wheel_brings_the_page_along(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="70.1")  # builds wheels on its own from here on
    for name in ("pyproject.toml", "setup.cfg", "setup.py", "README.md"):
        shutil.copy(REPOSITORY / name, tmp_path)
    for name in ("drsl_plugin", "configs"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if name.startswith("drsl_plugin/report/")}
    assert shipped == {
        f"drsl_plugin/report/{path.name}" for path in (REPOSITORY / "drsl_plugin" / "report").glob("*.*")
    }
    assert {f"drsl_plugin/report/page.{kind}" for kind in ("html", "css", "js", "py")} <= shipped
