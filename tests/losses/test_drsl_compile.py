"""The loss under torch.compile, as one graph."""

import pytest
import torch
from cases import SETTINGS, Batch, assert_near, leaves, name, uneven, value_and_gradients

from drsl_plugin import DRSLoss, drsl_loss

# The first torch that compiles the loss in one piece, as far as it has been tried.
COMPILES_FROM = (2, 10)
VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])

pytestmark = pytest.mark.skipif(
    VERSION < COMPILES_FROM, reason=f"the loss compiles in one piece from torch {COMPILES_FROM[0]}.{COMPILES_FROM[1]}"
)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compositions(refs):
    """Batches of one shape with different numbers of positives, then of another shape."""
    batch = uneven(refs)
    pairs = batch._replace(labels=torch.arange(11) // 2)
    one = batch._replace(labels=torch.zeros_like(batch.labels))
    smaller = batch._replace(embeddings=batch.embeddings[:7], labels=batch.labels[:7])
    return [batch, pairs, one, smaller]


def assert_compiled_is_eager(compiled, batch, **settings):
    expected, expected_gradients = value_and_gradients(batch, **settings)
    batch = leaves(batch)
    loss = compiled(*batch)
    assert_near(loss, expected)
    loss.backward()
    for leaf, gradient in zip((batch.embeddings, batch.ref_embeddings), expected_gradients, strict=False):
        assert_near(leaf.grad, gradient)


# Every value of every setting, not all of them together: a compilation takes seconds.
@pytest.mark.parametrize("settings", [SETTINGS[i] for i in (0, 4, 7, 11)], ids=name)
def test_compiles_as_one_graph(settings):
    refs = settings["sort"] == "order"
    compiled = torch.compile(DRSLoss(**settings), fullgraph=True, backend="aot_eager")
    for batch in compositions(refs):
        assert_compiled_is_eager(compiled, batch, **settings)


def test_parts_compile_as_one_graph():
    compiled = torch.compile(drsl_loss, fullgraph=True, backend="aot_eager")
    for batch in compositions(refs=True):
        loss, parts = compiled(*batch, return_parts=True)
        expected, expected_parts = drsl_loss(*batch, return_parts=True)
        assert_near(loss, expected)
        for mine, theirs in zip(parts, expected_parts, strict=True):
            assert_near(mine, theirs)


def test_no_query_compiles_as_one_graph():
    compiled = torch.compile(drsl_loss, fullgraph=True, backend="aot_eager")
    batch = leaves(Batch(uneven().embeddings, torch.arange(11)))
    loss = compiled(*batch)
    loss.backward()
    assert loss == 0
    assert not batch.embeddings.grad.any()


@pytest.mark.slow
def test_compiles_with_inductor():
    compiled = torch.compile(DRSLoss(), fullgraph=True)
    for batch in compositions(refs=True)[:2]:
        assert_compiled_is_eager(compiled, batch)
