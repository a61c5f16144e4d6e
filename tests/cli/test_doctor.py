from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import drsl_plugin
from drsl_plugin import cli
from drsl_plugin.data.catalogue import PUBLISHED
from drsl_plugin.doctor import machine, main, training
from drsl_plugin.doctor.installation import examine
from drsl_plugin.errors import MissingPackageError
from drsl_plugin.fastreid import troubles as fastreid_troubles
from drsl_plugin.presets import preset_names
from drsl_plugin.toolbox import toolbox, toolboxes
from drsl_plugin.toolbox.modules import installed_version
from drsl_plugin.toolbox.troubles import OPENCV
from drsl_plugin.torchreid import troubles as torchreid_troubles

DATA_SETS = list(PUBLISHED.values())
INSTALL = {
    "torchreid": 'pip install "drsl-plugin[torchreid]"',
    "fastreid": 'pip install "drsl-plugin[fastreid]" && pip install --no-deps fastreid==1.4.0',
}
TITLES = {"torchreid": "Torchreid", "fastreid": "FastReID"}
TORCHREID = "drsl torchreid --config-file torchreid/osnet_x1_0_drsl_256x128_{} --root {}"
FASTREID = "drsl fastreid --config-file fastreid/{}/bagtricks_R50_drsl"
RENDER = "drsl demo --data-only {}"

Report = dict[str, list[str]]
Doctor = Callable[..., tuple[int, Report]]
Put = Callable[..., Path]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder to be in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("FASTREID_DATASETS", raising=False)
    return folder


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Run the doctor: its exit code, and the lines below each heading."""

    def run(root: str = "reid-data") -> tuple[int, Report]:
        capsys.readouterr()
        code = main(root)
        captured = capsys.readouterr()
        assert captured.err == ""
        return code, sections(captured.out)

    return run


def sections(text: str) -> Report:
    found: Report = {}
    lines: list[str] = []
    for line in filter(None, text.splitlines()):
        if line.startswith("  "):
            lines.append(line[2:])
        else:
            lines = found.setdefault(line, [])
    assert list(found) == ["This machine", "Torchreid", "FastReID", "Data sets", "What to type next"]
    return found


def commands(found: Report) -> list[str]:
    return [line.strip() for line in found["What to type next"] if line.startswith("  ")]


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Put:
    """Pretend that both toolboxes are installed; calling it moves one, takes it away, or lets its import fail."""
    really_import, really_find = importlib.import_module, importlib.util.find_spec
    errors: dict[str, BaseException | None] = {}
    places: dict[str, Path | None] = {}

    def import_module(name: str, package: str | None = None) -> ModuleType:
        if name not in errors:
            return really_import(name, package)
        print("noise")
        warnings.warn("noise", stacklevel=1)
        if error := errors[name]:
            raise error
        return ModuleType(name)

    def find_spec(name: str, package: str | None = None) -> Any:
        if name not in places:
            return really_find(name, package)
        return SimpleNamespace(submodule_search_locations=[str(places[name])]) if places[name] else None

    def put(name: str, where: str | None = "site", error: BaseException | None = None) -> Path:
        if where is None:
            error = error or MissingPackageError(f"{TITLES[name]} is not installed", INSTALL[name], name)
        place = tmp_path / (where or "nowhere") / name
        place.mkdir(parents=True, exist_ok=True)
        (place / "__init__.py").write_text("__author__ = 'me'\n__version__ = '7.7'\n", encoding="utf-8")
        errors[f"drsl_plugin.{name}.host"] = error
        places[name] = place if where else None
        return place

    put("torchreid")
    put("fastreid")
    monkeypatch.setattr(importlib, "import_module", import_module)
    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return put


def metadata(site: Path, name: str, version: str, **files: str) -> None:
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    for file, text in files.items():
        (folder / file.replace("_json", ".json")).write_text(text, encoding="utf-8")


def market(folder: Path, *, without: str = "") -> None:
    for name in {"bounding_box_train", "query", "bounding_box_test"} - {without}:
        (folder / name).mkdir(parents=True)


def python(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    folders = [*map(str, path), str(Path(drsl_plugin.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)


DOCTOR = "import sys; from drsl_plugin.doctor import main; sys.exit(main('reid-data'))"
WITHOUT = """
import sys
class Without:
    def find_spec(name, path=None, target=None):
        if name in ("torchreid", "fastreid"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Without)
"""


# what is installed, for real


@pytest.fixture(scope="module")
def real() -> tuple[int, str, str]:
    done = python(DOCTOR)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", ["torchreid", "fastreid"])
def test_names_the_installed_distribution_and_its_place(name: str, real: tuple[int, str, str]) -> None:
    pytest.importorskip(f"drsl_plugin.{name}.host", exc_type=ImportError)
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    code, output, errors = real
    assert (code, errors) == (0, "")
    lines = sections(output)[TITLES[name]]
    assert lines[1] == f"in {Path(spec.origin).parent}"
    if sysconfig.get_path("purelib") in spec.origin:
        assert lines[0] == f"{name} {importlib.metadata.version(name)} from PyPI"
    assert [line for line in lines if line.startswith("  handled")]


def test_what_it_prints_is_fit_to_paste(real: tuple[int, str, str]) -> None:
    _, output, _ = real
    long = [line for line in output.splitlines() if len(line) > 100]
    assert [line for line in long if os.sep not in line] == []
    assert output.isascii()
    assert not re.search(r"\b[TO]\d+\b", output)
    assert "could not be found out" not in output


def test_names_the_versions_underneath(real: tuple[int, str, str]) -> None:
    lines = sections(real[1])["This machine"]
    rows = dict(re.split(r" {2,}|(?<=torchvision) |(?<=drsl-plugin) ", line, maxsplit=1) for line in lines)
    assert rows["Python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert sys.platform in rows["Python"].lower()
    assert rows["drsl-plugin"].strip() == drsl_plugin.__version__
    assert rows["torch"].startswith(f"{torch.__version__}, built for ")
    assert rows["numpy"] == np.__version__
    for name in ("torchvision", "opencv-python", "faiss-cpu"):
        if version := installed_version(name):
            assert version in "\n".join(lines)


@pytest.mark.parametrize("name", ["torchreid", "fastreid"])
def test_a_checkout_goes_before_what_is_installed(name: str, tmp_path: Path) -> None:
    place = Path(pytest.importorskip(name).__file__).parent
    shutil.copytree(place, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    done = python(DOCTOR, tmp_path)
    first, second, *_ = sections(done.stdout)[TITLES[name]]
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"a checkout, version [\d.]+( \(before |$)", first)
    assert second == f"in {tmp_path / name}"


def test_broken_toolboxes_for_real(tmp_path: Path) -> None:
    for name, text in (("torchreid", "import sys; print(1); sys.exit('no\\nway')"), ("fastreid", "import not_there")):
        (tmp_path / name / "engine").mkdir(parents=True)
        (tmp_path / name / "__init__.py").write_text(text, encoding="utf-8")
    done = python(DOCTOR, tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    found = sections(done.stdout)
    assert found["Torchreid"][2] == "cannot be used: Torchreid cannot be imported (SystemExit: no way):"
    assert found["FastReID"][2:] == ["cannot be used: FastReID needs not_there:", f"  {INSTALL['fastreid']}"]
    assert commands(found) == ['python -c "import drsl_plugin.torchreid.host"', INSTALL["fastreid"]]


def test_no_toolbox_for_real() -> None:
    done = python(f"{WITHOUT}\n{DOCTOR}")
    assert (done.returncode, done.stderr) == (1, "")
    found = sections(done.stdout)
    for name in ("torchreid", "fastreid"):
        assert found[TITLES[name]] == [f"{TITLES[name]} is not installed:", f"  {INSTALL[name]}"]
    assert found["What to type next"] == [
        *("Install Torchreid:", f"  {INSTALL['torchreid']}"),
        *("Install FastReID:", f"  {INSTALL['fastreid']}"),
    ]


# toolboxes


@pytest.mark.parametrize(("absent", "other"), [("torchreid", "fastreid"), ("fastreid", "torchreid")])
def test_one_toolbox_is_enough(absent: str, other: str, put: Put, report: Doctor) -> None:
    put(absent, None)
    code, found = report()
    assert code == 0
    assert found["What to type next"][-2:] == [f"Add {TITLES[absent]}, if you want it too:", f"  {INSTALL[absent]}"]
    assert f"drsl {absent}" not in "\n".join(commands(found))
    assert f"drsl {other}" in commands(found)[-2]


@pytest.mark.parametrize("name", ["torchreid", "fastreid"])
@pytest.mark.parametrize(
    ("error", "cause", "step"),
    [
        (MissingPackageError("X needs yacs", "pip install 'it'"), "X needs yacs:", "Repair {}:\n  pip install 'it'"),
        (ImportError("libGL\nis gone"), "{} cannot be imported (ImportError: libGL is gone):", None),
        (RuntimeError("operator nms"), "{} cannot be imported (RuntimeError: operator nms):", None),
        (AttributeError(), "{} cannot be imported (AttributeError: ):", None),
        (SystemExit(3), "{} cannot be imported (SystemExit: 3):", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_installed_toolbox_that_cannot_be_imported(
    name: str, error: BaseException, cause: str, step: str | None, put: Put, report: Doctor
) -> None:
    put(name, error=error)
    code, found = report()
    assert code == 1
    title = TITLES[name]
    assert found[title][2] == f"cannot be used: {cause.format(title)}"
    assert "\n" not in examine(toolbox(name)).cause
    assert not [line for line in found[title] if "handled" in line]
    step = (step or f'See the whole error of {{}}:\n  python -c "import drsl_plugin.{name}.host"').format(title)
    assert found["What to type next"][:2] == step.split("\n")
    assert f"drsl {name}" not in "\n".join(commands(found))


@pytest.mark.filterwarnings("error")
def test_both_work(put: Put, report: Doctor) -> None:
    code, found = report()
    assert code == 0
    assert "pip install" not in str(found)
    assert "noise" not in str(found)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"INSTALLER": "pip\n"}, "fastreid 8.8 from PyPI"),
        ({"INSTALLER": "uv"}, "fastreid 8.8 from PyPI"),
        ({"INSTALLER": "conda"}, "fastreid 8.8 from conda"),
        (
            {"INSTALLER": "pip", "direct_url_json": json.dumps({"url": "https://x.org/y", "vcs_info": {}})},
            "fastreid 8.8 from https://x.org/y",
        ),
        (
            {"INSTALLER": "pip", "direct_url_json": json.dumps({"url": "file:///y", "dir_info": {"editable": True}})},
            "a checkout, version 7.7",
        ),
        ({}, "a checkout, version 7.7"),
        ({"direct_url_json": "{"}, "a checkout, version 7.7"),
    ],
)
def test_distributions(
    files: dict[str, str], expected: str, put: Put, report: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = put("fastreid").parent
    metadata(site, "fastreid", "8.8", **files)
    monkeypatch.setattr(sys, "path", [str(site), *(path for path in sys.path if "site-packages" not in path)])
    assert report()[1]["FastReID"][0] == expected


def test_a_checkout_beside_an_installed_one(put: Put, report: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    site = put("fastreid").parent
    metadata(site, "fastreid", "8.8", INSTALLER="pip")
    monkeypatch.setattr(sys, "path", [str(site), *(path for path in sys.path if "site-packages" not in path)])
    put("fastreid", "clone")
    expected = "a checkout, version 7.7 (before fastreid 8.8 from PyPI, which is installed too)"
    assert report()[1]["FastReID"][0] == expected


def test_a_checkout_of_unknown_version(put: Put, report: Doctor) -> None:
    (put("torchreid", "clone") / "__init__.py").unlink()
    assert report()[1]["Torchreid"][0].startswith("a checkout, of unknown version")


# the machine


def test_a_gpu(put: Put, report: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Card {index}")
    _, found = report()
    assert "GPU          Card 0, Card 1" in found["This machine"]
    assert "MODEL.DEVICE" not in str(found)


def test_no_gpu_and_why(put: Put, report: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_available() -> bool:
        warnings.warn("the driver\nis too old", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    _, found = report()
    assert "GPU          none found (the driver is too old): runs are on the CPU" in found["This machine"]
    assert commands(found)[-1].endswith(" MODEL.DEVICE cpu")


@pytest.mark.parametrize(
    ("cuda", "hip", "expected"), [("13.0", None, "CUDA 13.0"), (None, "6.4", "ROCm 6.4"), (None, None, "the CPU alone")]
)
def test_torch_builds(
    cuda: str | None, hip: str | None, expected: str, put: Put, report: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert f"torch        {torch.__version__}, built for {expected}" in report()[1]["This machine"]


@pytest.mark.parametrize(
    ("names", "expected", "advice"),
    [
        ((), "none", ""),
        (("opencv-python-headless",), "opencv-python-headless 9.9", ""),
        (
            ("opencv-python", "opencv-python-headless"),
            "opencv-python 9.9, opencv-python-headless 9.9",
            "not handled: opencv-python and opencv-python-headless write to one folder, cv2, and break one another",
        ),
        (
            OPENCV,
            ", ".join(f"{name} 9.9" for name in OPENCV),
            f"not handled: {' and '.join(OPENCV)} write to one folder",
        ),
    ],
)
def test_opencvs(
    names: tuple[str, ...],
    expected: str,
    advice: str,
    put: Put,
    report: Doctor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in names:
        metadata(tmp_path / "cv", name, "9.9")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "cv")])
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    lines = report()[1]["This machine"]
    assert f"OpenCV       {expected}" in lines
    assert advice in " ".join(" ".join(lines).split())
    assert ("not handled" in str(lines)) is bool(advice)


def test_damaged_metadata(put: Put, report: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cv" / "opencv_python-9.dist-info").mkdir(parents=True)
    (tmp_path / "cv" / "fastreid-9.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "cv")])
    code, found = report()
    assert code == 0
    assert "could not be found out" not in str(found)
    assert found["FastReID"][0] == "a checkout, version 7.7"


# troubles


def test_troubles_are_listed_with_what_is_done_about_them(
    put: Put, report: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    obstacles = ("no make", "no Cython")
    change = {"build_obstacles": obstacles, "has_lamb": False, "affine_fits": True, "zero_grad_drops": False}
    torchreids = replace(torchreid_troubles.find_facts(None), has_utils=False)
    fastreids = replace(fastreid_troubles.find_facts(None), **change)
    monkeypatch.setattr("drsl_plugin.torchreid.toolbox.find_facts", lambda package: torchreids)
    monkeypatch.setattr("drsl_plugin.fastreid.toolbox.find_facts", lambda package: fastreids)
    _, found = report()
    torchreid, fastreid = (" ".join(" ".join(found[title]).split()) for title in ("Torchreid", "FastReID"))
    assert "by drsl torchreid and drsl run: handled " in torchreid
    assert " handled `from torchreid.utils import ...` in scripts" in torchreid
    assert "Cython" not in torchreid
    assert "by drsl fastreid and drsl run: handled " in fastreid
    assert (
        " handled F4 evaluation ends the process: its Cython part cannot be built here (no make, no Cython)" in fastreid
    )
    assert " refused F9 SOLVER.OPT Lamb: torch has no such optimizer" in fastreid
    assert " handled F5 without CUDA: its data loader stops" in fastreid
    assert "moves no weight" not in fastreid
    assert re.findall(r"\bF(\d+) ", fastreid) == [*"45789", "10", "11", "12", "13", "14"]


# data sets


def rows(found: Report) -> list[tuple[str, str, str]]:
    lines = [line.split(maxsplit=1) for line in found["Data sets"] if line.startswith("  ") and line[2] != " "]
    matches = [re.fullmatch(r"(there|not there|incomplete) +(.*)", rest) for _, rest in lines]
    return [(title, match[1], match[2]) for (title, _), match in zip(lines, matches, strict=True) if match]


def test_where_data_sets_are_looked_for(put: Put, report: Doctor, here: Path) -> None:
    code, found = report()
    assert code == 0
    below, beside = here / "reid-data", here / "datasets"
    assert rows(found) == [
        ("Market-1501", "not there", str(below / "market1501" / "Market-1501-v15.09.15")),
        ("MSMT17", "not there", str(below / "msmt17" / "MSMT17_V1")),
        ("CUHK03", "not there", str(below / "cuhk03")),
        ("Market-1501", "not there", str(beside / "Market-1501-v15.09.15")),
        ("MSMT17", "not there", str(beside / "MSMT17_V1")),
        ("CUHK03", "not there", str(beside / "cuhk03")),
    ]
    assert "FastReID, below $FASTREID_DATASETS (is not set, so ./datasets):" in found["Data sets"]


def test_roots_can_be_given(put: Put, report: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "b"))
    monkeypatch.setenv("HOME", str(tmp_path))
    _, found = report("~/a")
    assert [path for _, _, path in rows(found)[::3]] == [
        str(tmp_path / "a" / "market1501" / "Market-1501-v15.09.15"),
        str(tmp_path / "b" / "Market-1501-v15.09.15"),
    ]
    assert "FastReID, below $FASTREID_DATASETS (is set):" in found["Data sets"]


def fill(folder: Path, needs: tuple[str, ...]) -> None:
    for need in needs:
        path = folder / need
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            path.touch()
        else:
            path.mkdir()


@pytest.mark.parametrize(
    ("index", "layout"),
    [(index, layout) for index, data_set in enumerate(DATA_SETS) for layout in data_set.readable],
)
@pytest.mark.parametrize("below", [True, False], ids=["Torchreid", "FastReID"])
def test_data_sets_that_are_there(index: int, layout: str, below: bool, put: Put, report: Doctor, here: Path) -> None:
    data_set = DATA_SETS[index]
    folder = (here / "reid-data" / data_set.home if below else here / "datasets") / layout
    needs = data_set.readable[layout]
    fill(folder, needs[1:])
    number = index if below else index + 3
    _, found = report()
    assert rows(found)[number] == (data_set.title, "incomplete", str(folder))
    assert f"lacks {needs[0]}" in [line.strip() for line in found["Data sets"]]
    assert all(state == "not there" for at, (_, state, _) in enumerate(rows(found)) if at != number)
    fill(folder, needs[:1])
    assert rows(report()[1])[number] == (data_set.title, "there", str(folder))


def test_the_folder_that_the_loaders_read_counts(put: Put, report: Doctor, here: Path) -> None:
    market(here / "datasets")
    (here / "datasets" / "Market-1501-v15.09.15").mkdir()
    assert rows(report()[1])[3][1:] == ("incomplete", str(here / "datasets" / "Market-1501-v15.09.15"))


LISTS = {f"list_{part}.txt": "0000/0000_000_01_x.jpg 0\n" for part in ("train", "val", "query", "gallery")}
IMAGES = {
    "Market-1501-v15.09.15": {
        "bounding_box_train/0002_c1s1_000451_01.jpg": "",
        "query/0001_c1s1_000451_00.jpg": "",
        "bounding_box_test/0001_c2s1_000451_01.jpg": "",
    },
    "MSMT17_V1": {"train/0000/0000_000_01_x.jpg": "", "test/0000/0000_000_01_x.jpg": "", **LISTS},
    "MSMT17_V2": {"mask_train_v2/0000/0000_000_01_x.jpg": "", "mask_test_v2/0000/0000_000_01_x.jpg": "", **LISTS},
}


@pytest.mark.parametrize("name", ["torchreid", "fastreid"])
@pytest.mark.parametrize(("number", "folder"), zip((0, 1, 1), IMAGES, strict=True))
def test_the_toolboxes_agree(name: str, number: int, folder: str, report: Doctor, here: Path) -> None:
    """What the doctor calls there is what the toolbox's own class reads, and nothing that it needs can be left out."""
    package = getattr(pytest.importorskip(f"drsl_plugin.{name}.host", exc_type=ImportError), name)
    data_set = DATA_SETS[number]
    if name == "torchreid":
        root = here / "reid-data"
        reader = {"market1501": "Market1501", "msmt17": "MSMT17"}[data_set.home]
        read = getattr(package.data.datasets.image, reader, None) or getattr(package.data.datasets, reader)
    else:
        root = here / "datasets"
        read = package.data.datasets.DATASET_REGISTRY.get(folder.split("_")[0].replace("-1501-v15.09.15", "1501"))
    place = root / (data_set.home if name == "torchreid" else "") / folder
    for file, text in IMAGES[folder].items():
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_text(text, encoding="utf-8")

    def state() -> str:
        return rows(report()[1])[number + (0 if name == "torchreid" else 3)][1]

    def can_be_read() -> bool:
        try:
            read(root=str(root), verbose=False)
        except Exception:
            return False
        return True

    assert (state(), can_be_read()) == ("there", True)
    for need in {file.partition("/")[0] for file in IMAGES[folder]}:
        (place / need).rename(place / "away")
        assert (state(), can_be_read()) == ("incomplete", False)
        (place / "away").rename(place / need)
    assert (state(), can_be_read()) == ("there", True)


# what to type next


def test_every_preset_that_may_be_offered_exists() -> None:
    known = preset_names()
    offered = [each.first_preset(data_set) for data_set in DATA_SETS for each in toolboxes()]
    assert len(offered) == 6
    assert [preset for preset in offered if preset not in known] == []


def test_next_with_no_data(put: Put, report: Doctor) -> None:
    assert report()[1]["What to type next"] == [
        *("See it run, on a small data set that it renders:", "  drsl demo"),
        *("Render such a data set, to train on:", f"  {RENDER.format('reid-data')}"),
        *("Train with Torchreid:", f"  {TORCHREID.format('market1501', 'reid-data')}"),
        "Train with FastReID:",
        f"  FASTREID_DATASETS={Path('reid-data', 'market1501')} {FASTREID.format('Market1501')} MODEL.DEVICE cpu",
    ]


def test_next_with_no_data_and_fastreid_alone(put: Put, report: Doctor) -> None:
    put("torchreid", None)
    first, second, _ = commands(report()[1])
    assert first == RENDER.format("reid-data")
    assert second.startswith(f"FASTREID_DATASETS={Path('reid-data', 'market1501')} {FASTREID.format('Market1501')}")


def test_the_demo_set_leads_to_a_training(put: Put, report: Doctor, here: Path) -> None:
    from drsl_plugin.data import render_demo

    render = commands(report("my data")[1])[1]
    assert render == RENDER.format("'my data'")
    render_demo(Path(shlex.split(render)[-1]), identities=8, cameras=2, images=1)
    _, found = report("my data")
    assert [state for _, state, _ in rows(found)] == ["there"] + ["not there"] * 5
    assert commands(found) == [
        TORCHREID.format("market1501", "'my data'"),
        f"FASTREID_DATASETS='my data/market1501' {FASTREID.format('Market1501')} MODEL.DEVICE cpu",
    ]


def test_next_with_data_for_fastreid_alone(put: Put, report: Doctor, here: Path) -> None:
    market(here / "datasets" / "Market-1501-v15.09.15")
    own = f"{FASTREID.format('Market1501')} MODEL.DEVICE cpu"
    assert commands(report()[1])[1:] == [
        RENDER.format("reid-data"),
        TORCHREID.format("market1501", "reid-data"),
        own,
    ]
    put("torchreid", None)
    assert commands(report()[1]) == [own, INSTALL["torchreid"]]


@pytest.mark.parametrize("index", [1, 2])
def test_next_with_other_data(index: int, put: Put, report: Doctor, here: Path) -> None:
    data_set = DATA_SETS[index]
    layout, needs = next(iter(data_set.readable.items()))
    fill(here / "reid-data" / data_set.home / layout, needs)
    root = os.path.join("reid-data", data_set.home)
    assert commands(report()[1]) == [
        TORCHREID.format(data_set.title.lower(), "reid-data"),
        f"FASTREID_DATASETS={root} {FASTREID.format(data_set.title)} MODEL.DEVICE cpu",
    ]


def test_next_with_half_a_data_set(put: Put, report: Doctor, here: Path) -> None:
    """The demo set is rendered into no folder that holds something else: `drsl demo` would refuse."""
    market(here / "reid-data" / "market1501", without="query")
    _, render, *trainings = commands(report()[1])
    assert render == RENDER.format("demo-data")
    assert trainings[0] == TORCHREID.format("market1501", "demo-data")
    assert trainings[1].startswith(f"FASTREID_DATASETS={Path('demo-data', 'market1501')} ")


def test_next_without_presets(put: Put, report: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "preset_names", lambda toolbox: [])
    assert commands(report()[1])[-2:] == ["drsl presets", "drsl presets"]


# whatever it finds


def test_changes_nothing_on_disk(put: Put, report: Doctor, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    report()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_part_that_fails_leaves_the_others(put: Put, report: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    def get_device_name(index: int) -> str:
        raise RuntimeError("CUDA error:\nunknown")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", get_device_name)
    code, found = report()
    assert code == 0
    assert found["This machine"] == ["could not be found out (RuntimeError: CUDA error: unknown)"]
    assert commands(found)


def test_a_current_folder_that_is_gone(put: Put, report: Doctor, here: Path) -> None:
    here.rmdir()
    code, found = report()
    assert code == 0
    assert rows(found)[0][2] == os.path.join("reid-data", "market1501", "Market-1501-v15.09.15")


def test_a_console_with_few_letters(put: Put, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", console)
    assert main("Bilder-für-mich") == 0
    console.seek(0)
    assert "Bilder-f\\xfcr-mich" in console.read()


def test_a_module_without_a_spec(put: Put, report: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", ModuleType("cv2"))
    monkeypatch.setattr(sys.modules["cv2"], "__spec__", None)
    monkeypatch.setattr(machine, "installed_version", lambda name: None)
    assert "OpenCV       none" in report()[1]["This machine"]


def test_a_module_of_no_distribution(put: Put, report: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "installed_version", lambda name: None)
    assert "numpy        of unknown origin" in report()[1]["This machine"]


# arguments


def test_help() -> None:
    result = CliRunner().invoke(cli.app, ["doctor", "--help"], prog_name="drsl")
    assert result.exit_code == 0
    assert result.stdout.lstrip().startswith("Usage: drsl doctor [OPTIONS]")
    assert "--root DIR" in result.stdout
    assert "Exit code 1" in result.stdout


def test_unknown_arguments_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["drsl", "doctor", "--rot", "x"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("drsl: error: No such option: --rot")


def test_the_command_takes_the_root_and_gives_the_exit_code(put: Put, here: Path) -> None:
    put("torchreid", error=RuntimeError("broken"))
    result = CliRunner().invoke(cli.app, ["doctor", "--root", "elsewhere"])
    assert result.exit_code == 1
    assert str(here / "elsewhere" / "market1501") in result.stdout
