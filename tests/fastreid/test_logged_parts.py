"""The parts of DRSL are logged as FastReID's losses are: no step waits for them, and the numbers are the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fastreid
import pytest
import torch
from loops import ALONE, HEADS, LABELS, NAME, TOGETHER, loop_of, small_mgn, taken
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from drsl_plugin.fastreid import logged_parts, meta_arch
from drsl_plugin.fastreid.logged_parts import PARTS, log_parts, log_parts_with_losses
from drsl_plugin.fastreid.main import main
from drsl_plugin.fastreid.meta_arch import build_model
from drsl_plugin.fastreid.sub_batches import step_in_sub_batches
from drsl_plugin.losses.backends import choice, chunked
from drsl_plugin.losses.backends.rows import RowGradients
from drsl_plugin.runs.folder import RunFolder

Options = Callable[..., list[str]]
AMPTrainer = fastreid.engine.train_loop.AMPTrainer


def step_late(loop: Any, step: Callable[[Any], Any] | None = None) -> None:
    with log_parts_with_losses(loop):
        (step or type(loop).run_step)(loop)


# What a step reads


@pytest.mark.skipif(not chunked.IS_AN_OPERATOR, reason="fake tensors are tried from torch 2.4 on")
@pytest.mark.parametrize("changes", [{}, {"MODEL.LOSSES.DRSL.MEMORY_SIZE": 16}], ids=["", "memory"])
@pytest.mark.parametrize("build", [build_model, small_mgn])
def test_losses_read_nothing_on_account_of_drsl(
    build: Callable[[Any], Any], changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a fake tensor no value can be read: whatever would wait for a GPU raises here.
    monkeypatch.setattr(choice, "kernels_run_on", lambda kind: True)
    monkeypatch.setattr(chunked, "kernel_rows", unread)
    for architecture in ("baseline", "mgn"):
        monkeypatch.setattr(f"fastreid.modeling.meta_arch.{architecture}.log_accuracy", lambda *_: None)  # FastReID's
    settings = {**ALONE, NAME: ("DRSLoss",), "MODEL.LOSSES.DRSL.BACKEND": "triton", **changes}
    model = loop_of(build, **settings).model.float()
    loop = SimpleNamespace(_write_metrics=lambda *_: None)
    with FakeTensorMode() as mode, fastreid.utils.events.EventStorage(0):
        features = [mode.from_tensor(torch.rand(len(LABELS), 32)).requires_grad_() for _ in range(8)]
        outputs = [{"features": each, "cls_outputs": each, "pred_class_logits": each} for each in features]
        arguments = *(outputs[:1] if build is build_model else outputs), mode.from_tensor(LABELS)
        with contextlib.suppress(UnreadableError), log_parts_with_losses(loop):
            for _ in range(2):
                sum(model.losses(*arguments).values()).backward()
            assert features[0].grad.shape == (len(LABELS), 32)
            raise UnreadableError  # else the parts would be logged here
        with pytest.raises(Exception, match=r"_local_scalar_dense|[Dd]ata|tolist|fake|Fake"):
            model.losses(*arguments)


class UnreadableError(Exception):
    """Ends a step whose parts nobody can read."""


def unread(scores: Tensor, cosines: Tensor, *_: Any) -> Any:
    """Stand in for the kernel."""
    return RowGradients(scores.new_empty(len(scores), 5), torch.empty_like(scores), cosines)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens in a step, in order."""
    order: list[str] = []

    def tell(owner: Any, name: str, what: str) -> None:
        method = getattr(owner, name)

        def told(*args: Any, **kwargs: Any) -> Any:
            found = method(*args, **kwargs)
            order.append(what)
            return found

        monkeypatch.setattr(owner, name, told)

    tell(meta_arch, "log_parts", "loss")
    tell(Tensor, "backward", "backward")
    tell(logged_parts._PartsUnderWay, "log", "parts")
    tell(fastreid.engine.train_loop.SimpleTrainer, "_write_metrics", "losses")
    return order


LATE = ["loss", "backward", "parts", "losses"]


@pytest.mark.parametrize("sub_batch", [0, 8])
def test_a_training_reads_them_between_backward_and_its_losses(
    sub_batch: int, told: list[str], fastreid_root: Path, tmp_path: Path, fastreid_options: Options
) -> None:
    main(fastreid_options(tmp_path / "run", **{"MODEL.LOSSES.DRSL.SUB_BATCH": sub_batch}))
    steps = [row for row in RunFolder(tmp_path / "run").rows() if "mAP" not in row]
    assert steps
    assert all(name in row for row in steps for name in ("ranking", "sorting", "ap", "above_all"))
    # In sub-batches the outputs have a backward pass for each.
    assert [what for what, before in zip(told, ["", *told], strict=False) if what != before] == LATE * len(steps)


# On CUDA, which no test machine needs to have: a tensor that writes down what is asked of it


class Far:
    """A tensor on a GPU, or its copy on the host."""

    is_cuda, device = True, "cuda:0"

    def __init__(self, told: list[str]) -> None:
        self.told = told

    def detach(self) -> Far:
        return self

    def to(self, device: str, non_blocking: bool = False) -> Far:
        assert (device, non_blocking) == ("cpu", True)
        self.told.append("copy begins")
        return self

    def tolist(self) -> list[float]:
        self.told.append("read")
        return [0.25, 0.5, 0.75, 1.0]


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Far:
    told: list[str] = []
    event = SimpleNamespace(synchronize=lambda: told.append("wait for the copy"))

    def record_event() -> Any:
        told.append("event")
        return event

    def current_stream(device: str) -> Any:
        assert device == "cuda:0"
        return SimpleNamespace(record_event=record_event)

    monkeypatch.setattr(torch.cuda, "current_stream", current_stream)
    return Far(told)


def test_on_cuda_the_copy_is_under_way_and_is_waited_for_before_any_loss_is_read(far: Far) -> None:
    loop = SimpleNamespace(_write_metrics=lambda *_: far.told.append("losses are read"))
    with fastreid.utils.events.EventStorage(0) as storage, log_parts_with_losses(loop):
        log_parts(far)
        far.told.append("backward")
        loop._write_metrics({}, 0.0)
    begun, ended = ["copy begins", "event", "backward"], ["wait for the copy", "read", "losses are read"]
    assert far.told == begun + ended
    values = (0.25, 0.5, 0.75, 1.0)
    assert storage.latest() == {name: (value, 0) for name, value in zip(PARTS, values, strict=True)}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="waiting for the device: on a GPU alone")
def test_on_a_gpu_nothing_waits() -> None:
    values = torch.rand(len(PARTS), device="cuda")
    loop = SimpleNamespace(_write_metrics=lambda *_: None)
    with fastreid.utils.events.EventStorage(0) as storage, log_parts_with_losses(loop):
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            log_parts(values)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        loop._write_metrics({}, 0.0)
    assert [storage.latest()[name][0] for name in PARTS] == values.tolist()


# What is logged


@pytest.mark.parametrize("changes", HEADS.values(), ids=HEADS)
def test_the_logs_are_those_of_parts_read_at_once(changes: dict[str, Any]) -> None:
    late, at_once = loop_of(**TOGETHER, **changes), loop_of(**TOGETHER, **changes)
    found, expected = taken(lambda: step_late(late), count=3), taken(at_once.run_step, count=3)
    assert found == expected
    assert [list(one) for one in found] == [list(other) for other in expected]  # in their order, too
    assert set(PARTS) < set(found[0])
    assert found[0] != found[1]


def test_the_logs_of_sub_batches_are_those_of_parts_read_at_once() -> None:
    late, at_once = loop_of(**TOGETHER), loop_of(**TOGETHER)
    found = taken(lambda: step_late(late, lambda loop: step_in_sub_batches(loop, 4)))
    assert found == taken(lambda: step_in_sub_batches(at_once, 4))


def test_the_logs_of_several_features_are_those_of_parts_read_at_once() -> None:
    settings = {**TOGETHER, NAME: ("CrossEntropyLoss", "TripletLoss", "DRSLoss")}
    late, at_once = loop_of(small_mgn, **settings), loop_of(small_mgn, **settings)
    assert taken(lambda: step_late(late)) == taken(at_once.run_step)


def test_the_logs_of_mixed_precision_are_those_of_parts_read_at_once(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FastReID's ``AMPTrainer``, on the CPU and without its casts."""
    scaler_class = getattr(torch.amp, "GradScaler", None)
    if scaler_class is None:
        pytest.skip("this torch has a scaler for CUDA alone")
    logs = []
    for step in (step_late, AMPTrainer.run_step):
        simple = loop_of(**ALONE)
        loop = AMPTrainer(simple.model, simple.data_loader, simple.optimizer, simple.param_wrapper, scaler_class("cpu"))
        loop.iter = 0
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "is_available", lambda: True)
            patch.setattr("torch.cuda.amp.autocast", contextlib.nullcontext)
            patch.setattr(torch.cuda, "stream", contextlib.nullcontext)
            logs.append(taken(lambda: step(loop)))  # noqa: B023
    assert logs[0] == logs[1]
    assert told == LATE * 2 + ["parts", "loss", "backward", "losses"] * 2


# Steps of a team's own


def test_a_loop_that_logs_no_losses_has_the_parts_logged_at_the_end() -> None:
    with fastreid.utils.events.EventStorage(0) as storage:
        with log_parts_with_losses(SimpleNamespace()):
            log_parts(torch.arange(len(PARTS)) / 8)
            assert storage.latest() == {}
        assert storage.latest() == {name: (number / 8, 0) for number, name in enumerate(PARTS)}


def test_a_loop_that_looks_at_several_batches_has_them_all_logged_in_order() -> None:
    loop = SimpleNamespace(_write_metrics=lambda *_: None)
    with fastreid.utils.events.EventStorage(0) as storage:
        with log_parts_with_losses(loop):
            for number in (1.0, 2.0):
                log_parts(torch.full((len(PARTS),), number))
            loop._write_metrics({}, 0.0)
        for name in PARTS:
            assert storage.history(name).values() == [(1.0, 0), (2.0, 0)]


def test_elsewhere_they_are_logged_at_once_also_after_a_step_that_failed() -> None:
    loop = SimpleNamespace(_write_metrics=lambda *_: None)
    write = loop._write_metrics
    with fastreid.utils.events.EventStorage(0) as storage:
        with contextlib.suppress(FloatingPointError), log_parts_with_losses(loop):
            log_parts(torch.ones(len(PARTS)))
            raise FloatingPointError
        assert loop._write_metrics is write
        assert storage.latest() == {}
        log_parts(torch.zeros(len(PARTS)))
        assert {storage.latest()[name] for name in PARTS} == {(0.0, 0)}
