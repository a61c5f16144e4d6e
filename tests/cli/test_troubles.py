from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from drsl_plugin.fastreid import cython_part
from drsl_plugin.fastreid import troubles as fastreid
from drsl_plugin.toolbox import troubles as common
from drsl_plugin.toolbox.troubles import this_stack
from drsl_plugin.torchreid import troubles as torchreid

# No toolbox has a trouble here that it has not everywhere.
STACK: dict[str, Any] = {"python": (3, 9), "torch": (1, 13), "cuda": True}
TORCHREID = torchreid.Facts(**STACK, has_utils=True, has_numpy_bool=True)
FASTREID = fastreid.Facts(
    **STACK,
    zero_grad_drops=False,
    has_lamb=True,
    affine_fits=True,
    faiss_has_gpu=True,
    wants_mapping=True,
    wants_six=True,
    build_obstacles=(),
)
EVERYWHERE = {"T1", "T5", "T6", "F10", "F11", "F12", "F14"}


def changed(facts: Any, change: dict[str, Any]) -> Any:
    return replace(facts, **{name: value for name, value in change.items() if name in vars(facts)})


def keys(monkeypatch: pytest.MonkeyPatch, **change: Any) -> list[str]:
    """The troubles where these facts differ from those of the stacks above."""
    opencvs = change.pop("opencvs", ("opencv-python",))
    monkeypatch.setattr(common, "installed_version", lambda name: "9" if name in opencvs else None)
    assert change.keys() <= vars(TORCHREID).keys() | vars(FASTREID).keys()
    found = [
        *torchreid.list_troubles(changed(TORCHREID, change)),
        *fastreid.list_troubles(changed(FASTREID, change)),
        *common.opencv_troubles(),
    ]
    return [trouble.key for trouble in found]


def test_all_of_fastreids_troubles_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    worst: dict[str, Any] = dict.fromkeys(vars(TORCHREID) | vars(FASTREID), False)
    worst |= {"python": (3, 14), "torch": (3, 0), "build_obstacles": ("no make",), "opencvs": common.OPENCV}
    worst |= dict.fromkeys(("zero_grad_drops", "wants_mapping", "wants_six"), True)
    everything = keys(monkeypatch, **worst)
    assert {key for key in everything if key.startswith("F")} == {f"F{number}" for number in range(1, 15)}
    assert len(set(everything)) == len(everything) == 21


def test_troubles_of_every_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(keys(monkeypatch)) == EVERYWHERE


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"has_utils": False}, {"T2"}),
        ({"torch": (2, 5)}, {"F3"}),
        ({"torch": (2, 6)}, {"F3", "T3"}),
        ({"torch": (2, 10), "wants_six": False}, {"T3"}),
        ({"torch": (3, 0), "wants_six": False}, {"T3"}),
        ({"has_numpy_bool": False}, {"T4"}),
        ({"zero_grad_drops": True}, {"F1"}),
        ({"python": (3, 10)}, {"F2"}),
        ({"python": (3, 13), "wants_mapping": False}, set()),
        ({"build_obstacles": ("no make",)}, {"F4"}),
        ({"cuda": False}, {"F5", "F7", "F8", "F13"}),
        ({"faiss_has_gpu": False}, {"F7"}),
        ({"affine_fits": False}, {"F6"}),
        ({"has_lamb": False}, {"F9"}),
        ({"opencvs": ("opencv-python", "opencv-contrib-python")}, {"O1"}),
    ],
)
def test_troubles_of_a_stack(change: dict[str, Any], expected: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(keys(monkeypatch, **change)) - EVERYWHERE == expected


# the facts


def test_facts_of_this_stack() -> None:
    stack = fastreid.find_facts(None)
    assert stack.python == sys.version_info[:2]
    assert ".".join(map(str, stack.torch)) == ".".join(torch.__version__.split(".")[:2])
    assert stack.cuda == torch.cuda.is_available()
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    parameter.sum().backward()
    optimizer.zero_grad()
    assert stack.zero_grad_drops == (parameter.grad is None)
    assert torchreid.find_facts(None).has_numpy_bool == ("bool" in dir(np))
    assert stack.has_lamb == ("Lamb" in dir(torch.optim))


def test_affine_fits_where_torchvision_takes_what_fastreid_passes() -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    try:
        transforms.RandomAffine(degrees=10, resample=False, fillcolor=0)
    except TypeError:
        assert not fastreid.find_facts(None).affine_fits
    else:
        assert fastreid.find_facts(None).affine_fits


@pytest.mark.parametrize(
    ("version", "expected"), [("2.6.0a0+git", (2, 6)), ("1.13.1+cu117", (1, 13)), ("2.14", (2, 14)), ("dev", (0, 0))]
)
def test_facts_of_torch(version: str, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    assert this_stack().torch == expected


def test_facts_of_other_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "bool", np.bool_, raising=False)
    monkeypatch.setattr(torch.optim, "Lamb", torch.optim.SGD, raising=False)
    monkeypatch.setitem(sys.modules, "faiss", SimpleNamespace(StandardGpuResources=1))  # type: ignore[arg-type]
    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", lambda self, set_to_none=False: None)
    facts = fastreid.find_facts(None)
    assert torchreid.find_facts(None).has_numpy_bool
    assert (facts.has_lamb, facts.faiss_has_gpu, facts.zero_grad_drops) == (True, True, False)
    monkeypatch.delattr(np, "bool")
    monkeypatch.setitem(sys.modules, "faiss", None)  # type: ignore[arg-type]
    assert not torchreid.find_facts(None).has_numpy_bool
    assert not fastreid.find_facts(None).faiss_has_gpu


@pytest.mark.parametrize(
    ("build", "testing", "mapping", "six"),
    [
        ("from torch._six import string_classes\nfrom collections import Mapping\n", "", True, True),
        (
            "if old:\n    from torch._six import string_classes\n",
            "from collections import Mapping, OrderedDict",
            True,
            False,
        ),
        ("from collections.abc import Mapping", "from collections import OrderedDict", False, False),
        (None, None, False, False),
    ],
    ids=["PyPI", "GitHub", "repaired", "other layout"],
)
def test_facts_of_fastreids_code(
    build: str | None, testing: str | None, mapping: bool, six: bool, tmp_path: Path
) -> None:
    for folder, file, text in (("data", "build.py", build), ("evaluation", "testing.py", testing)):
        if text is not None:
            (tmp_path / folder).mkdir()
            (tmp_path / folder / file).write_text(text, encoding="utf-8")
    facts = fastreid.find_facts(tmp_path)
    assert (facts.wants_mapping, facts.wants_six) == (mapping, six)


def test_facts_of_torchreids_layout(tmp_path: Path) -> None:
    assert not torchreid.find_facts(tmp_path).has_utils
    (tmp_path / "utils").mkdir()
    assert torchreid.find_facts(tmp_path).has_utils


@pytest.fixture
def buildable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A FastReID whose Cython part can be built: its folder, the programs and the modules that there are."""
    folder = tmp_path / "evaluation" / "rank_cylib"
    folder.mkdir(parents=True)
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    programs = {"make": "/bin/make", "python3": str(Path(sys.executable).with_name("python3")), compiler: "/bin/cc"}
    modules = dict.fromkeys(("Cython", "distutils"), "there")
    monkeypatch.setattr(shutil, "which", programs.get)
    monkeypatch.setattr(cython_part, "find_module", modules.get)
    return {"folder": folder, "programs": programs, "modules": modules, "compiler": compiler}


def obstacles(tmp_path: Path) -> tuple[str, ...]:
    return fastreid.find_facts(tmp_path).build_obstacles


def test_what_keeps_the_cython_part_from_being_built(buildable: dict[str, Any], tmp_path: Path) -> None:
    assert obstacles(tmp_path) == ()
    for kind, name, expected in (
        ("modules", "distutils", "no distutils"),
        ("modules", "Cython", "no Cython"),
        ("programs", "make", "no make"),
        ("programs", buildable["compiler"], "no C compiler"),
        ("programs", "python3", "python3 on the PATH is another one"),
    ):
        kept = buildable[kind].copy()
        del buildable[kind][name]
        assert obstacles(tmp_path) == (expected,)
        buildable[kind].update(kept)
    assert obstacles(tmp_path) == ()


def test_another_python3_builds_for_itself(buildable: dict[str, Any], tmp_path: Path) -> None:
    buildable["programs"]["python3"] = "/elsewhere/python3"
    assert obstacles(tmp_path) == ("python3 on the PATH is another one",)


def test_a_folder_that_cannot_be_written_to(
    buildable: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != buildable["folder"])
    assert obstacles(tmp_path) == ("its folder cannot be written to",)


def test_what_is_built_needs_no_building(buildable: dict[str, Any], tmp_path: Path) -> None:
    buildable["programs"].clear()
    assert len(obstacles(tmp_path)) == 3
    (buildable["folder"] / f"rank_cy{sysconfig.get_config_var('EXT_SUFFIX')}").touch()
    assert obstacles(tmp_path) == ()
