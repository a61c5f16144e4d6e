"""What keeps FastReID from being imported, and what is said where it cannot be.

When the half of a test fails that asks the stock toolbox, FastReID or torch has mended the fault, and the function that
the docstring names can go.
"""

from __future__ import annotations

import collections
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import drsl_plugin.fastreid
from drsl_plugin.fastreid import host, shims
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.troubles import INSTALL

FASTREID = Path(fastreid.__file__).parent
TORCH = tuple(int(number) for number in torch.__version__.split(".")[:2])


def run_module(name: str) -> ModuleType:
    """Run a module of FastReID's anew, beside the one that is imported."""
    spec = importlib.util.spec_from_file_location(name, FASTREID / f"{name.split('.', 1)[1].replace('.', '/')}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["fastreid.data.build", "fastreid.evaluation.testing"])
def test_fastreid_needs_collections_mapping(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the first half fails, FastReID imports ``collections.abc.Mapping``, and ``shims.alias_mapping`` can go."""
    monkeypatch.delattr(collections, "Mapping", raising=False)
    with pytest.raises(ImportError, match="Mapping"):
        run_module(name)
    shims.alias_mapping()
    assert vars(collections)["Mapping"] is collections.abc.Mapping
    assert run_module(name).Mapping is collections.abc.Mapping


@pytest.mark.skipif(TORCH < (2, 0), reason="torch has it until 2.0")
@pytest.mark.skipif(
    not re.search(r"^from torch\._six", (FASTREID / "data/build.py").read_text(), re.MULTILINE),
    reason="GitHub's asks for it on old torch alone",
)
def test_pypi_needs_torch_six(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the first half fails, PyPI's FastReID does without ``torch._six``, and ``shims.stub_torch_six`` can go."""
    monkeypatch.delitem(sys.modules, "torch._six", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"torch\._six"):
        run_module("fastreid.data.build")
    shims.stub_torch_six()
    build = run_module("fastreid.data.build")
    batch = build.fast_batch_collator([{"images": torch.ones(2), "targets": 1, "img_paths": "a.jpg"}] * 2)
    assert batch["img_paths"] == ["a.jpg", "a.jpg"]
    assert batch["targets"].tolist() == [1, 1]
    stub = sys.modules["torch._six"]
    shims.stub_torch_six()
    assert sys.modules["torch._six"] is stub


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """FastReID is not imported, as long as the test lasts."""
    before = dict(sys.modules)
    for name in before:
        if name.partition(".")[0] == "fastreid":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield monkeypatch
    for name in [*sys.modules]:
        if name.partition(".")[0] == "fastreid" and name not in before:
            del sys.modules[name]


def test_install_names_both_packages() -> None:
    assert INSTALL == 'pip install "drsl-plugin[fastreid]" && pip install --no-deps fastreid==1.4.0'


def test_without_fastreid_the_commands_that_install_it_are_named(forgotten: pytest.MonkeyPatch) -> None:
    forgotten.setattr(sys, "path", [path for path in sys.path if not Path(path, "fastreid").exists()])
    with pytest.raises(ImportError) as raised:
        host.import_fastreid()
    assert str(raised.value) == f"FastReID is not installed: {INSTALL}"
    assert raised.value.name == "fastreid"


@pytest.mark.parametrize("name", ["yacs", "termcolor", "faiss"])
def test_without_what_fastreid_imports_the_commands_are_named(name: str, forgotten: pytest.MonkeyPatch) -> None:
    for each in [*sys.modules]:
        if each.partition(".")[0] == name:
            forgotten.delitem(sys.modules, each)
    forgotten.setitem(sys.modules, name, None)
    with pytest.raises(ImportError) as raised:
        host.import_fastreid()
    assert str(raised.value).startswith(f"FastReID needs {name}")
    assert str(raised.value).endswith(f": {INSTALL}")


def test_a_module_that_cannot_be_loaded_is_named(forgotten: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "termcolor.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    forgotten.delitem(sys.modules, "termcolor")
    forgotten.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError) as raised:
        host.import_fastreid()
    text = "FastReID cannot be imported (libGL.so.1: cannot open shared object file)"
    assert str(raised.value) == f"{text}: {INSTALL}"


def test_a_clone_in_the_current_folder_is_found(forgotten: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forgotten.chdir(tmp_path)
    before = sys.path[:]
    shims._find_clone()
    assert sys.path == before, "there is none here"
    (tmp_path / "fastreid/engine").mkdir(parents=True)
    shims._find_clone()
    shims._find_clone()
    assert sys.path == [*before, str(tmp_path)]


def test_a_clone_in_the_current_folder_is_left_alone_where_fastreid_is_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "fastreid/engine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    before = sys.path[:]
    shims._find_clone()
    assert sys.path == before


IMPORTS = """
import collections, collections.abc, sys, types
collections.Mapping = collections.abc.Mapping
six = sys.modules["torch._six"] = types.ModuleType("torch._six")
six.string_classes = str
import fastreid.engine, fastreid.modeling.meta_arch
import fastreid.engine.defaults, fastreid.evaluation.reid_evaluation
modules = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "fastreid"}
before = {name: dict(vars(module)) for name, module in modules.items()}
registry = fastreid.modeling.meta_arch.META_ARCH_REGISTRY._obj_map
architectures = dict(registry)
defaults = fastreid.config.get_cfg().dump()

import drsl_plugin.fastreid, drsl_plugin.fastreid.main, drsl_plugin.fastreid.script

for name, attributes in before.items():
    after = vars(modules[name])
    changed = {key for key, value in attributes.items() if after.get(key) is not value}
    # Python itself names what it imports below a package.
    added = {key for key in after.keys() - attributes.keys() if f"{name}.{key}" not in sys.modules}
    assert not changed and not added, (name, changed, added)
assert {key: registry[key] for key in architectures} == architectures
assert set(registry) - set(architectures) == {"DRSLBaseline", "DRSLMGN"}, set(registry)
assert fastreid.config.get_cfg().dump() == defaults
assert sys.modules["torch._six"] is six
"""


def run_python(program: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a new process that finds the package where this one found it."""
    path = [str(Path(drsl_plugin.__file__).parents[1]), str(FASTREID.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in path if each)}
    command = [sys.executable, "-W", "ignore", "-c", program]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_importing_the_package_replaces_nothing(tmp_path: Path) -> None:
    done = run_python(IMPORTS, tmp_path)
    assert done.returncode == 0, done.stderr
