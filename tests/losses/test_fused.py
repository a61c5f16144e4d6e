"""What the fused paths promise beside the right numbers: memory, chunks, precision, one graph, no waiting."""

from __future__ import annotations

import dataclasses
import weakref

import pytest
import torch
from cases import EVERY, Batch, assert_near, error, gradients, leaves, name, truth_and_gradients, uneven
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile

from drsl_plugin import DRSLoss, drsl_loss
from drsl_plugin.losses.backends import choice, chunked
from drsl_plugin.losses.backends.rows import RowGradients
from drsl_plugin.losses.settings import DRSLSettings

NAMES_ITS_PATHS = True
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Kept:
    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def batch_of(count: int, instances: int, width: int = 8, refs: int = 0, dtype: torch.dtype = torch.float32) -> Batch:
    generator = torch.Generator().manual_seed(count)
    labels = torch.arange(count) % (count // instances)
    embeddings = torch.randn(count, width, generator=generator, dtype=dtype)
    if not refs:
        return Batch(embeddings, labels)
    ref_embeddings = torch.randn(refs, width, generator=generator, dtype=dtype)
    return Batch(embeddings, labels, ref_embeddings, torch.arange(refs) % count)


def outcome(batch: Batch, **settings):
    batch = leaves(batch)
    loss, parts = drsl_loss(*batch, return_parts=True, **settings)
    return [loss.detach(), *parts, *gradients(loss, batch)]


@given(st.integers(15_000, 60_000), st.sampled_from(EVERY), st.booleans())
def test_chunks_do_not_matter(budget, settings, refs):
    batch = uneven(refs)
    expected = outcome(batch, backend="unfused", **settings)
    for mine, theirs in zip(outcome(batch, backend="chunked", chunk_budget=budget, **settings), expected, strict=True):
        assert_near(mine, theirs)


def test_budget_decides_how_many_queries_are_worked_on_at_a_time(monkeypatch):
    sizes = []
    rows = chunked.row_gradients
    monkeypatch.setattr(chunked, "row_gradients", lambda *args: sizes.append(len(args[0])) or rows(*args))
    batch = batch_of(64, 4)
    for budget in (1 << 22, 1 << 15):
        drsl_loss(*batch, backend="chunked", chunk_budget=budget)
    assert sizes[0] == 64
    assert sum(sizes[1:]) == 64
    assert max(sizes[1:]) * 64 * 3 * 4 <= 1 << 15, "a chunk of N x K x R numbers is within its budget"
    assert len(sizes) - 1 < 64, "and makes use of it"


@pytest.mark.parametrize("call", [drsl_loss, lambda *batch, **how: DRSLoss(**how)(*batch)])
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"backend": "chunked", "chunk_budget": 100}, r"chunk_budget .* one query's row, \d+ bytes .* got 100"),
        ({"backend": "chunked", "chunk_budget": 0}, r"chunk_budget .* got 0 bytes"),
        ({"chunk_budget": -1}, r"chunk_budget .* got -1 bytes"),
        ({"chunk_budget": True}, r"chunk_budget .* got True"),
        ({"chunk_budget": 1e6}, r"chunk_budget .* got 1000000\.0"),
        ({"backend": "cuda"}, r"backend .* 'auto', 'unfused', 'chunked', 'triton', got 'cuda'"),
        ({"backend": "triton"}, r"backend 'triton': needs Triton and embeddings on CUDA, got embeddings on cpu"),
    ],
)
def test_bad_input_is_named(call, how, says):
    with pytest.raises(ValueError, match=says):
        call(*batch_of(64, 4), **how)


def test_labels_that_overflow_and_references_elsewhere_are_named():
    embeddings, labels, *_ = batch_of(8, 2)
    if hasattr(torch, "uint64"):
        with pytest.raises(TypeError, match=r"labels .* int64, got torch\.uint64"):
            drsl_loss(embeddings, labels.to(torch.uint64))
    with pytest.raises(ValueError, match="ref_embeddings must be on the device of embeddings, cpu, got meta"):
        drsl_loss(embeddings, labels, torch.empty(3, 8, device="meta"), torch.zeros(3, dtype=torch.int64))


def test_auto_is_unfused_for_small_batches_and_fused_for_large_ones(monkeypatch):
    choose = choice.choose_backend
    assert choose("auto", CPU, choice.SMALL) == "unfused"
    assert choose("auto", CPU, choice.SMALL + 1) == "chunked"
    assert choose("unfused", CPU, 10**9) == "unfused"
    monkeypatch.setattr(choice, "kernels_run_on", lambda kind: kind == "cuda")
    assert choose("auto", CUDA, 1) == "triton"
    assert choose("auto", CPU, 10**9) == "chunked"
    monkeypatch.setattr(choice, "kernels_run_on", lambda kind: False)
    assert choose("auto", CUDA, 10**9) == "chunked"

    for count, is_fused in ((32, False), (33, True)):
        loss = drsl_loss(*leaves(batch_of(count, 1)))
        assert ("FusedDRSL" in str(loss.grad_fn)) == is_fused


@pytest.mark.parametrize("refs", [False, True], ids=["batch", "refs"])
def test_a_second_derivative_is_had_unfused_and_refused_fused(refs):
    for backend in ("unfused", "chunked"):
        batch = leaves(uneven(refs))
        loss = drsl_loss(*batch, gradient="slope", backend=backend)
        if backend == "unfused":
            (gradient,) = torch.autograd.grad(loss, batch.embeddings, create_graph=True)
            gradient.pow(2).sum().backward()
            assert batch.embeddings.grad.abs().sum() > 0
        else:
            with pytest.raises(RuntimeError, match=r"no second derivative .* backend='unfused'"):
                torch.autograd.grad(loss, batch.embeddings, create_graph=True)


@pytest.mark.parametrize("settings", EVERY, ids=name)
@pytest.mark.parametrize(("count", "refs"), [(64, 0), (64, 128), (256, 0)])
def test_what_is_kept_for_backward_is_the_gradient_alone(settings, count, refs):
    batch = leaves(batch_of(count, 8, refs=refs))
    memory = None if batch.ref_embeddings is None else batch.ref_embeddings.detach()
    for chosen, numbers in ((batch, (count + refs) * 8), (batch._replace(ref_embeddings=memory), count * 8)):
        kept = weakref.WeakSet()  # what is needed within the forward pass alone is gone by its end

        def pack(tensor: torch.Tensor, kept: weakref.WeakSet = kept) -> Kept:
            kept.add(this := Kept(tensor))
            return this

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda this: this.tensor):
            loss = drsl_loss(*chosen, backend="chunked", **settings)
        assert sum(each.tensor.numel() for each in kept) == numbers
        loss.backward()


@pytest.mark.parametrize("settings", EVERY, ids=name)
def test_no_tensor_of_a_pass_is_larger_than_the_budget(settings):
    budget, (count, width) = 1 << 20, (512, 8)
    batch = leaves(batch_of(count, 8, width))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        drsl_loss(*batch, backend="chunked", chunk_budget=budget, **settings).backward()
    largest = max(event.self_cpu_memory_usage for event in profiler.events())
    assert budget / 16 < largest <= budget, "unfused it is 512 x 512 x 7 numbers, 7 MiB"


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("settings", EVERY, ids=name)
def test_float32_is_as_exact_as_unfused(settings, scale):
    # Identities close together: where differences of scores are small against the scores.
    embeddings, labels, *_ = batch_of(24, 4, dtype=torch.float64)
    exact = Batch(embeddings[labels] + scale * embeddings, labels)
    rounded = exact._replace(embeddings=exact.embeddings.float())
    _, (truth,) = truth_and_gradients(rounded._replace(embeddings=rounded.embeddings.double()), **settings)
    errors = {}
    for backend in ("unfused", "chunked"):
        batch = leaves(rounded)
        errors[backend] = error(gradients(drsl_loss(*batch, backend=backend, **settings), batch)[0], truth)
    assert errors["chunked"] <= 1.5 * errors["unfused"] + 1e-5


@pytest.mark.skipif(not chunked.IS_AN_OPERATOR, reason="fake tensors are tried from torch 2.4 on")
@pytest.mark.parametrize("settings", EVERY, ids=name)
def test_the_way_to_the_kernel_never_waits_for_the_device(settings, monkeypatch):
    # Of a fake tensor no value can be read: whatever would wait for a GPU raises here.
    def unread(scores, cosines, *_):
        return RowGradients(scores.new_empty(len(scores), 5), torch.empty_like(scores), cosines)

    monkeypatch.setattr(choice, "kernels_run_on", lambda kind: True)
    monkeypatch.setattr(chunked, "kernel_rows", unread)
    with FakeTensorMode() as mode:
        batch = Batch(*(mode.from_tensor(each) for each in batch_of(64, 4, refs=32)))
        batch.embeddings.requires_grad_()
        loss, _ = drsl_loss(*batch, backend="triton", return_parts=True, **settings)
        loss.backward()
        assert batch.embeddings.grad.shape == (64, 8)
        with pytest.raises(Exception, match=r"_local_scalar_dense|[Dd]ata"):
            drsl_loss(*batch, backend="chunked", **settings)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="waiting for the device: on a GPU alone")
@pytest.mark.parametrize("settings", EVERY, ids=name)
def test_no_synchronisation_on_a_gpu(settings):
    batch = leaves(batch_of(64, 4, refs=32), "cuda")
    drsl_loss(*batch, **settings).backward()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss, _ = drsl_loss(*batch, return_parts=True, **settings)
        loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not chunked.IS_AN_OPERATOR, reason="torch has operators of one's own from 2.4 on")
def test_compiles_as_one_graph_once_whatever_the_number_of_instances():
    torch.compiler.reset()
    compiled = torch.compile(DRSLoss(backend="chunked"), fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for instances in (4, 2, 8):
            embeddings, labels, *_ = batch_of(64, instances, dtype=torch.float64)
            batch, same = leaves(Batch(embeddings, labels)), leaves(Batch(embeddings, labels))
            loss, expected = compiled(*batch), drsl_loss(*same, backend="unfused")
            assert_near(loss, expected)
            for mine, theirs in zip(gradients(loss, batch), gradients(expected, same), strict=True):
                assert_near(mine, theirs)
    torch.compiler.reset()


@pytest.mark.skipif(not chunked.IS_AN_OPERATOR, reason="torch has operators of one's own from 2.4 on")
@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, False)])
def test_the_operator_is_well_formed(wanted):
    batch = uneven(refs=True)
    settings = dataclasses.astuple(DRSLSettings("euclidean", 0.3, "sigmoid", "angle", 0.7))
    torch.library.opcheck(
        chunked.operator,
        (batch.embeddings, batch.ref_embeddings, batch.labels, batch.ref_labels, False, True, *wanted, *settings),
    )
