"""Every way round a fault of FastReID's, from both sides: the fault is still there, and the way round still leads past.

When the half of a test fails that asks the stock toolbox, FastReID or torch has mended the fault, and the function that
the docstring names can go.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import itertools
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.nn import functional

import drsl_plugin.fastreid
from drsl_plugin.errors import DRSLError
from drsl_plugin.fastreid import compat, host, shims
from drsl_plugin.fastreid.compat import (
    FrozenSteps,
    hide_known_errors,
    keep_gradient_buffers,
    use_plain_loaders,
)
from drsl_plugin.fastreid.config import get_cfg
from drsl_plugin.fastreid.evaluation import FeatureEvaluator, _can_compile
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.processes import _do_with_gloo, _Job, launch
from drsl_plugin.fastreid.recording import LinePrinter
from drsl_plugin.fastreid.seeding import choose_seed, derive_seed, seed_process, start_epoch_of_data
from drsl_plugin.fastreid.troubles import INSTALL, Facts, list_troubles

FASTREID = Path(fastreid.__file__).parent
NEEDS_NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="the fault is one of machines without CUDA")
TORCH = tuple(int(number) for number in torch.__version__.split(".")[:2])


def config(*options: Any) -> Any:
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "SOLVER.BASE_LR", 0.1, "OUTPUT_DIR", "", *options])
    return cfg


class Toy(nn.Module):
    """A network with a backbone and heads; its losses come as FastReID's do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone, self.heads = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"loss_cls": functional.cross_entropy(self.heads(self.backbone(data["x"])), data["y"])}

    def weights(self) -> list[torch.Tensor]:
        return [each.detach().clone() for each in self.parameters()]


def batches(count: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    return [{"x": torch.rand(6, 3, generator=generator), "y": torch.arange(6) % 2} for _ in range(count)]


def take_steps(model: Any, optimizer: Any, wrapper: Any, count: int = 3) -> None:
    """Train with FastReID's own loop."""
    trainer = fastreid.engine.SimpleTrainer(model, batches(count), optimizer, wrapper)
    with fastreid.utils.events.EventStorage(0):
        for trainer.iter in range(count):
            trainer.run_step()


@pytest.fixture
def log_handlers() -> Iterator[None]:
    """FastReID's log as it was, whoever sets it up meanwhile."""
    logger = logging.getLogger("fastreid")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before
    fastreid.utils.logger.setup_logger.cache_clear()
    fastreid.utils.logger._cached_log_stream.cache_clear()


@pytest.fixture
def fastreid_log() -> Iterator[list[str]]:
    """What FastReID and the package log, a line each."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname} {record.getMessage()}")

    handler = Keep()
    logging.getLogger("fastreid").addHandler(handler)
    yield lines
    logging.getLogger("fastreid").removeHandler(handler)


# What keeps it from being imported


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


# What keeps it from training


@pytest.mark.skipif(TORCH < (2, 0), reason="zero_grad drops the gradients since torch 2.0")
@pytest.mark.parametrize("clip", [False, True], ids=["plain", "clipped"])
@pytest.mark.parametrize("opt", ["SGD", "Adam"])
def test_stock_trainer_moves_no_parameter(opt: str, clip: bool) -> None:
    """When the first half fails, FastReID trains on torch 2, and ``compat.keep_gradient_buffers`` can go."""
    cfg = config("SOLVER.OPT", opt, "SOLVER.CLIP_GRADIENTS.ENABLED", clip, "SOLVER.WEIGHT_DECAY", 0.0)
    model = Toy()
    before = model.weights()
    take_steps(model, *fastreid.solver.build_optimizer(cfg, model))
    assert all(torch.equal(*pair) for pair in zip(before, model.weights(), strict=True))

    model = Toy()
    optimizer, wrapper = fastreid.solver.build_optimizer(cfg, model)
    keep_gradient_buffers(optimizer)
    take_steps(model, optimizer, wrapper)
    assert all(not torch.equal(*pair) for pair in zip(before, model.weights(), strict=True))


@pytest.mark.parametrize("opt", ["SGD", "Adam"])
def test_training_is_what_torch_makes_of_it(opt: str) -> None:
    """Each step's gradient alone counts, as where the gradients are dropped between two steps."""
    cfg = config("SOLVER.OPT", opt, "SOLVER.WEIGHT_DECAY", 0.0, "SOLVER.WEIGHT_DECAY_BIAS", 0.0)
    ours = Toy()
    optimizer, wrapper = fastreid.solver.build_optimizer(cfg, ours)
    keep_gradient_buffers(optimizer)
    take_steps(ours, optimizer, wrapper)

    truth = Toy()
    settings = {"momentum": cfg.SOLVER.MOMENTUM, "nesterov": cfg.SOLVER.NESTEROV} if opt == "SGD" else {}
    reference = getattr(torch.optim, opt)(truth.parameters(), lr=0.1, **settings)
    for data in batches(3):
        reference.zero_grad()
        sum(truth(data).values()).backward()
        reference.step()
    for mine, theirs in zip(ours.weights(), truth.weights(), strict=True):
        torch.testing.assert_close(mine, theirs)


class Images(torch.utils.data.Dataset[Any]):
    """Pictures as FastReID's set gives them."""

    num_classes = 2

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, Any]:
        noise = torch.from_numpy(np.random.rand(2))
        return {"images": torch.full((2,), float(index)), "noise": noise, "targets": index, "img_paths": f"{index}.jpg"}


def build_test_loader(workers: int = 4) -> Any:
    return fastreid.data.build.build_reid_test_loader(
        test_set=Images(), test_batch_size=4, num_query=2, num_workers=workers
    )[0]


@NEEDS_NO_CUDA
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_stock_loader_needs_cuda() -> None:
    """When the first half fails, FastReID loads images without CUDA, and ``compat.use_plain_loaders`` can go."""
    stock = fastreid.data.build.DataLoaderX
    with pytest.raises((RuntimeError, AssertionError)):
        build_test_loader()
    with use_plain_loaders("cpu", workers=0):
        loader = build_test_loader()
    assert fastreid.data.build.DataLoaderX is stock
    assert (loader.num_workers, loader.pin_memory) == (0, False)
    for _ in range(2):
        assert [batch["targets"].tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5]]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("asked", "started"), [(0, 0), (1, 1), (9, 4)])
def test_no_more_workers_are_started_than_asked_for(asked: int, started: int) -> None:
    with use_plain_loaders("cpu", workers=asked):
        assert build_test_loader(workers=4).num_workers == started


def test_loaders_on_cuda_are_fastreids_own() -> None:
    stock = fastreid.data.build.DataLoaderX
    with use_plain_loaders("cuda:0", workers=0):
        assert fastreid.data.build.DataLoaderX is stock


def test_loaders_are_put_back_after_an_error() -> None:
    stock = fastreid.data.build.DataLoaderX
    with pytest.raises(ZeroDivisionError), use_plain_loaders("cpu", workers=0):
        raise ZeroDivisionError
    assert fastreid.data.build.DataLoaderX is stock


@pytest.fixture
def one_process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", world_size=1, rank=0)
    yield
    dist.destroy_process_group()


class ToyLoader(list[Any]):
    """Batches, and the set that they are of."""

    dataset: Any = Images()


class ToyTrainer(fastreid.engine.DefaultTrainer):  # type: ignore[misc]
    """FastReID's own trainer, of the toy."""

    @classmethod
    def build_model(cls, cfg: Any) -> Any:
        return Toy()

    @classmethod
    def build_train_loader(cls, cfg: Any) -> Any:
        return ToyLoader(batches(2))

    def build_hooks(self) -> list[Any]:
        return []


@NEEDS_NO_CUDA
@pytest.mark.usefixtures("one_process_group", "log_handlers")
def test_stock_wrapper_takes_no_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the first half fails, FastReID wraps a model on the CPU, and ``compat.wrap_without_cuda`` can go."""
    monkeypatch.setattr(fastreid.utils.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(fastreid.utils.comm, "get_local_rank", lambda: 0)
    cfg = config("SOLVER.IMS_PER_BATCH", 2)
    with pytest.raises(ValueError, match="device_ids"):
        ToyTrainer(cfg)
    stock = fastreid.engine.defaults.DistributedDataParallel
    with compat.wrap_without_cuda(cfg):
        model = ToyTrainer(cfg).model
    assert isinstance(model, nn.parallel.DistributedDataParallel)
    assert isinstance(model.module, Toy)
    assert fastreid.engine.defaults.DistributedDataParallel is stock


@pytest.mark.usefixtures("one_process_group")
@pytest.mark.parametrize(
    ("names", "unused"), [(("CrossEntropyLoss", "DRSLoss"), False), (("DRSLoss",), True), (("TripletLoss",), True)]
)
def test_a_classifier_without_gradient_is_allowed_for(names: tuple[str, ...], unused: bool) -> None:
    with compat.wrap_without_cuda(config("MODEL.LOSSES.NAME", names)):
        wrapped = fastreid.engine.defaults.DistributedDataParallel(Toy(), device_ids=[0], broadcast_buffers=False)
    assert wrapped.find_unused_parameters is unused
    assert wrapped.broadcast_buffers is False


def test_on_cuda_the_wrapper_gets_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "DistributedDataParallel", lambda model, **kwargs: kwargs)
    with compat.wrap_without_cuda(config("MODEL.DEVICE", "cuda")):
        kwargs = fastreid.engine.defaults.DistributedDataParallel(None, device_ids=[1], broadcast_buffers=False)
    assert kwargs == {"device_ids": [1], "broadcast_buffers": False, "find_unused_parameters": False}


@NEEDS_NO_CUDA
def test_stock_launch_needs_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the first half fails, FastReID starts processes on CPUs, and ``processes._do_with_gloo`` can go."""
    stock = importlib.import_module("fastreid.engine.launch")
    meeting = f"file://{tmp_path}/meeting"
    with pytest.raises(AssertionError, match="cuda is not available"):
        stock._distributed_worker(0, print, 1, 1, 0, meeting, ())
    assert not dist.is_initialized()

    comm = fastreid.utils.comm
    monkeypatch.setattr(comm, "_LOCAL_PROCESS_GROUP", None)
    seen: list[Any] = []

    def main_func(word: str) -> None:
        seen.append((word, dist.get_backend(), comm.get_rank(), comm.get_local_rank(), comm.get_local_size()))

    _do_with_gloo(0, _Job(main_func, ("word",), None), 1, 1, 0, meeting)
    assert seen == [("word", "gloo", 0, 0, 1)]
    assert not dist.is_initialized()


def test_one_process_is_this_one() -> None:
    assert launch(lambda *numbers: (os.getpid(), sum(numbers)), 1, args=(1, 2)) == (os.getpid(), 3)


def test_no_gpu_is_one_process() -> None:
    """As in FastReID, where ``--num-gpus 0`` trains in this process."""
    done: list[int] = []
    fastreid.engine.launch(done.append, 0, args=(1,))
    launch(done.append, 0, args=(2,))
    assert done == [1, 2]


# What keeps it from being resumed


@pytest.fixture
def random_state() -> Iterator[None]:
    """The random numbers go on as before."""
    states = torch.get_rng_state(), np.random.get_state()
    yield
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])


def draws() -> tuple[float, ...]:
    return (torch.rand(()).item(), np.random.rand(), importlib.import_module("random").random())


@pytest.mark.usefixtures("log_handlers", "random_state")
def test_stock_setup_seeds_by_the_clock(tmp_path: Path) -> None:
    """When the first half fails, FastReID can be seeded, and ``SEED`` and ``seeding.choose_seed`` can go."""
    cfg = config("SEED", 7, "OUTPUT_DIR", str(tmp_path), "CUDNN_BENCHMARK", False)
    args = argparse.Namespace(config_file="", eval_only=True)
    found = []
    for _ in range(2):
        fastreid.engine.default_setup(cfg, args)
        found.append(draws())
    assert all(first != second for first, second in zip(*found, strict=True))

    assert choose_seed(cfg) == 7
    found = []
    for seed in (7, 7, 8):
        seed_process(seed)
        found.append(draws())
    assert found[0] == found[1]
    assert all(first != second for first, second in zip(found[0], found[2], strict=True))


@pytest.mark.usefixtures("random_state")
def test_each_process_has_random_numbers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seed_process(7)
    first = draws()
    monkeypatch.setattr(fastreid.utils.comm, "get_rank", lambda: 1)
    seed_process(7)
    assert all(one != other for one, other in zip(first, draws(), strict=True))


@pytest.mark.parametrize("cfg", [config(), config("SEED", -5), fastreid.config.get_cfg()])
def test_without_a_seed_each_run_has_another(cfg: Any) -> None:
    seeds = {choose_seed(cfg) for _ in range(8)}
    assert len(seeds) > 1
    assert min(seeds) >= 0


def test_seeds_are_mixed_well() -> None:
    numbers = {derive_seed(seed, epoch) for seed, epoch in itertools.product(range(30), repeat=2)}
    assert len(numbers) == 900
    assert all(0 <= number < 2**31 for number in numbers)


def items() -> list[tuple[str, str, str]]:
    return [(f"{index}.jpg", f"p{index // 4}", f"c{index % 2}") for index in range(16)]


SAMPLERS: dict[str, Callable[[], Any]] = {
    "TrainingSampler": lambda: fastreid.data.samplers.TrainingSampler(16),
    "NaiveIdentitySampler": lambda: fastreid.data.samplers.NaiveIdentitySampler(items(), 8, 4),
    "BalancedIdentitySampler": lambda: fastreid.data.samplers.BalancedIdentitySampler(items(), 8, 4),
    "ImbalancedDatasetSampler": lambda: fastreid.data.samplers.ImbalancedDatasetSampler(items()),
}


@pytest.mark.usefixtures("random_state")
@pytest.mark.parametrize("name", SAMPLERS)
def test_stock_sampler_starts_again(name: str) -> None:
    """When the first half fails, FastReID's samplers can be resumed, and ``seeding.start_epoch_of_data`` can go."""
    sampler = SAMPLERS[name]()

    def stream() -> list[int]:
        return [int(index) for index in itertools.islice(iter(sampler), 32)]

    torch.manual_seed(1)
    first = stream()
    torch.manual_seed(1)  # of which one of the samplers draws
    assert stream() == first, "a run that is resumed after its first epoch begins with the same images"
    assert not hasattr(sampler, "state_dict")

    batch_sampler = torch.utils.data.BatchSampler(sampler, 8, drop_last=True)
    loader = torch.utils.data.DataLoader(Images(), batch_sampler=batch_sampler, collate_fn=list)
    trainer = SimpleNamespace(data_loader=loader, _data_loader_iter=iter([]))
    epochs = []
    for seed, epoch in ((3, 0), (3, 1), (3, 2), (3, 1), (4, 1)):
        start_epoch_of_data(trainer, seed, epoch)
        batches = [next(trainer._data_loader_iter) for _ in range(3)]
        epochs.append([int(image["targets"]) for batch in batches for image in batch])
    assert epochs[1] == epochs[3], "the seed and the epoch decide"
    assert len({tuple(epoch) for epoch in epochs}) == 4, "nothing else does"


class Stream:
    """What stands for a CUDA stream."""

    def wait_stream(self, _other: Any) -> None:
        return


@pytest.fixture
def pretended_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """So much of CUDA as FastReID's loader asks for."""
    monkeypatch.setattr(torch.cuda, "Stream", lambda _device: Stream())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Stream())
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "set_device", lambda _device: None)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, **_kwargs: self)


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("pretended_cuda", "random_state")
@pytest.mark.filterwarnings("ignore:'pin_memory' argument")
@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_that_reads_ahead_is_started_anew_each_epoch(workers: int) -> None:
    """With CUDA ``start_epoch_of_data`` ends a thread and starts another: none may be left, and none may wait."""
    sampler = fastreid.data.samplers.NaiveIdentitySampler(items(), 8, 4)
    loader = fastreid.data.build.build_reid_train_loader(
        Images(), sampler=sampler, total_batch_size=4, num_workers=workers
    )
    assert isinstance(loader, fastreid.data.data_utils.DataLoaderX)
    trainer = SimpleNamespace(data_loader=loader, _data_loader_iter=iter(loader))
    threads = threading.active_count()
    epochs = []
    for epoch, steps in ((0, 1), (1, 3), (2, 0), (1, 3), (3, 25)):  # it reads ten batches ahead
        start_epoch_of_data(trainer, seed=3, epoch=epoch)
        taken = [next(trainer._data_loader_iter) for _ in range(steps)]
        epochs.append([(batch["targets"].tolist(), batch["noise"].tolist()) for batch in taken])
        assert threading.active_count() == threads
    assert epochs[1] == epochs[3]
    assert epochs[0][0] not in (epochs[1][0], epochs[4][0])
    loader.shutdown()


@pytest.mark.parametrize("clip", [False, True], ids=["plain", "clipped"])
@pytest.mark.parametrize("opt", ["SGD", "Adam"])
def test_stock_resume_freezes_again(opt: str, clip: bool) -> None:
    """When the first half fails, FastReID saves how long layers were frozen, and ``compat.FrozenSteps`` can go."""
    cfg = config("MODEL.FREEZE_LAYERS", ["backbone"], "SOLVER.FREEZE_ITERS", 2, "SOLVER.OPT", opt)
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = clip

    def trained(steps: int, state: dict[str, Any] | None = None, frozen: dict[str, int] | None = None) -> Any:
        """Take steps from a checkpoint; return whether the backbone moved, the optimizer's state and the number."""
        model = Toy()
        before = model.backbone.weight.detach().clone(), model.heads.weight.detach().clone()
        optimizer, wrapper = fastreid.solver.build_optimizer(cfg, model)
        keep_gradient_buffers(optimizer)
        counter = FrozenSteps(optimizer)
        if state is not None:
            optimizer.load_state_dict(state)
        if frozen is not None:
            counter.load_state_dict(frozen)
        take_steps(model, optimizer, wrapper, steps)
        assert not torch.equal(before[1], model.heads.weight), "the heads are not frozen"
        return not torch.equal(before[0], model.backbone.weight), optimizer.state_dict(), counter.state_dict()

    moved, state, frozen = trained(2)
    assert (moved, frozen) == (False, {"steps": 2})
    assert trained(3)[0], "a run that is not interrupted opens the backbone"
    assert not trained(1, state)[0]
    moved, _, frozen = trained(1, state, frozen)
    assert (moved, frozen) == (True, {"steps": 2})


def test_where_nothing_is_frozen_there_is_no_number() -> None:
    optimizer, _ = fastreid.solver.build_optimizer(config(), Toy())
    counter = FrozenSteps(optimizer)
    counter.load_state_dict({"steps": 3})
    assert counter.state_dict() == {"steps": 0}


# What it says, and when it ends


class FailingLoop(fastreid.engine.TrainerBase):  # type: ignore[misc]
    """FastReID's loop around a step that fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def run_step(self) -> None:
        raise self.error


@pytest.fixture
def loop_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("fastreid.engine.train_loop")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_stock_loop_logs_tracebacks(loop_log: pytest.LogCaptureFixture) -> None:
    """When the first half fails, FastReID logs no tracebacks of its own, and ``compat.hide_known_errors`` can go."""

    def logged(error: Exception) -> bool:
        loop_log.clear()
        with pytest.raises(type(error)):
            FailingLoop(error).train(0, 1, 1)
        return any(record.exc_info for record in loop_log.records)

    assert logged(DRSLError("a line"))
    filters = logging.getLogger("fastreid.engine.train_loop").filters[:]
    with hide_known_errors():
        assert not logged(DRSLError("a line"))
        assert logged(ValueError("something else"))
    assert logging.getLogger("fastreid.engine.train_loop").filters == filters


@pytest.mark.usefixtures("log_handlers")
def test_stock_printer_divides_by_zero(fastreid_log: list[str]) -> None:
    """When the first half fails, FastReID prints epochs of one or two steps, and ``LinePrinter.write`` can go."""
    logging.getLogger("fastreid").setLevel(logging.INFO)
    with fastreid.utils.events.EventStorage(5) as storage:
        storage.epoch = 0
        storage.put_scalars(loss_drsl=0.5, drsl_ap=0.25, drsl_above_all=0.125, drsl_ranking=0.75, lr=0.1)
        stock = fastreid.utils.events.CommonMetricPrinter(10)
        stock.write()
        with pytest.raises(ZeroDivisionError):
            stock.write()

        fastreid_log.clear()
        printer = LinePrinter(10)
        printer.write()
        printer.write()
        storage.iter = 6
        printer.write()
        storage.iter = 10
        printer.write()
    values = "loss_drsl: 0.5 drsl_ap: 0.25 drsl_above_all: 0.125 lr: 1.00e-01"
    steps = [" ".join(line.split()) for line in fastreid_log]
    assert steps[:2] == [f"INFO epoch/iter: 0/5 {values}"] * 2
    assert steps[2:] == [f"INFO eta: 0:00:00 epoch/iter: 0/6 {values}"], "and nothing after the last step"


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_handlers: None) -> Iterator[Callable[..., Path]]:
    """``made = build(2)``: a ``make`` that ends with 2 is to build FastReID's Cython part, and leaves a file."""
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setitem(sys.modules, "fastreid.evaluation.rank_cylib.rank_cy", None)
    logging.getLogger("fastreid").setLevel(logging.INFO)

    def make(code: int, *obstacles: str) -> Path:
        (tools / "make").write_text(f"#!/bin/sh\n: > {tmp_path}/made\nexit {code}\n")
        (tools / "make").chmod(0o755)
        monkeypatch.setattr("drsl_plugin.fastreid.evaluation.build_obstacles", lambda _folder: obstacles)
        return tmp_path / "made"

    _can_compile.cache_clear()
    yield make
    _can_compile.cache_clear()


@pytest.mark.skipif(os.name == "nt", reason="its make is a shell script")
def test_stock_evaluator_exits_without_compiler(build: Callable[..., Path], fastreid_log: list[str]) -> None:
    """When the first half fails, FastReID evaluates uncompiled; ``FeatureEvaluator._compile_dependencies`` can go."""
    made = build(2)
    with pytest.raises(SystemExit):
        fastreid.evaluation.ReidEvaluator(config(), 2)
    made.unlink()
    fastreid_log.clear()
    FeatureEvaluator(config(), 2)
    assert made.exists(), "where nothing is known to keep it from being built, it is tried"
    assert fastreid_log[-1] == "WARNING Evaluation runs in Python: FastReID's Cython code could not be built"


@pytest.mark.skipif(os.name == "nt", reason="its make is a shell script")
def test_where_it_can_be_built_it_is(build: Callable[..., Path], fastreid_log: list[str]) -> None:
    made = build(0)
    FeatureEvaluator(config(), 2)
    assert made.exists()
    assert not any("Evaluation runs in Python" in line for line in fastreid_log)


def test_where_it_cannot_be_built_nothing_is_tried(build: Callable[..., Path], fastreid_log: list[str]) -> None:
    made = build(2, "no Cython", "no C compiler")
    for _ in range(2):
        FeatureEvaluator(config(), 2)
    assert not made.exists()
    line = "INFO Evaluation runs in Python: FastReID's Cython part cannot be built here (no Cython, no C compiler)"
    assert fastreid_log == [line], "said once"


# What the docstrings promise


def test_every_promised_test_is_there() -> None:
    package = Path(drsl_plugin.fastreid.__file__).parent
    sources = "".join(path.read_text(encoding="utf-8") for path in sorted(package.glob("*.py")))
    promised = set(re.findall(r"to see it\s+gone:\s+``(test_\w+)``", sources, re.IGNORECASE))
    assert len(promised) == len(re.findall(r"to see it\s+gone:", sources, re.IGNORECASE)) > 0
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert {name for name in promised if f"def {name}(" not in tests} == set()
    worst = Facts(
        python=(3, 14),
        torch=(3, 0),
        cuda=False,
        zero_grad_drops=True,
        has_lamb=False,
        affine_fits=False,
        faiss_has_gpu=False,
        wants_mapping=True,
        wants_six=True,
        build_obstacles=("no make",),
    )
    handled = {trouble.key for trouble in list_troubles(worst) if trouble.plugin == "handled"}
    assert len(handled) == 11
    assert {key for key in handled if not re.search(rf"\({key}\b", sources)} == set(), "drsl doctor says it is handled"


def test_stock_model_changes_its_images() -> None:
    """When the first half fails, FastReID leaves the images of a batch alone, and ``compat.keep_images`` can go."""
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.DEPTH", "18x", "MODEL.BACKBONE.FEAT_DIM", 512])
    model = fastreid.modeling.build_model(cfg).eval()
    images = torch.full((1, 3, 32, 32), 200.0)
    with torch.no_grad(), compat.keep_images(model):
        kept = model({"images": images})
    assert images.eq(200).all()
    with torch.no_grad():
        torch.testing.assert_close(model({"images": images}), kept)
    assert not images.eq(200).any()


def test_stock_processes_keep_their_own_buffers() -> None:
    """When this fails, FastReID's processes share their buffers, and ``compat.share_buffers`` can go.

    That it works, ``test_the_evaluation_of_a_training_is_of_what_it_saves`` shows.
    """
    assert "broadcast_buffers=False" in inspect.getsource(fastreid.engine.defaults.DefaultTrainer.__init__)
