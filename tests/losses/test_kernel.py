"""The Triton kernel, where Triton interprets it: against the rows in torch, tile by tile, and compiled for GPUs."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from cases import EVERY, assert_near, name

pytest.importorskip("triton")
if torch.cuda.is_available():
    pytest.skip("with a GPU every test of the loss runs on the kernel itself", allow_module_level=True)

from drsl_plugin.losses.backends import launch
from drsl_plugin.losses.backends.identities import find_identities
from drsl_plugin.losses.backends.rows import row_gradients
from drsl_plugin.losses.settings import DRSLSettings

NAMES_ITS_PATHS = True
LABELS = torch.tensor([3, 0, 0, 7])
REF_LABELS = torch.tensor([3, 0, 0, 7, 0, 1, 3, 0, 2, 0, 9])  # queries with 1, 4, 4 and 0 positives


def both(settings, scores, cosines=None, exact=True, rows=slice(0, 4)):
    """What the kernel and the rows in torch make of the same scores."""
    identities = find_identities(LABELS, REF_LABELS)
    weights = identities.weights(scores.dtype)
    args = (scores[rows], None if cosines is None else cosines[rows], identities, weights, rows, settings, exact)
    workspace = scores.new_empty(4, 4, scores.shape[1])
    return launch.kernel_rows(*args), row_gradients(*args, workspace)


def random_scores(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(4, 11, generator=generator, dtype=torch.float64).to(dtype) - 1


def assert_same(found, expected, dtype=torch.float64):
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert mine.dtype == dtype
            assert_near(mine, theirs, dtype)


@pytest.fixture
def small_tiles(monkeypatch):
    """Several tiles of positives and of references, the last of each not full."""
    monkeypatch.setattr(launch, "POSITIVES", 2)
    monkeypatch.setattr(launch, "REFERENCES", 4)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("settings", EVERY, ids=name)
def test_tiles_add_up(settings):
    settings = DRSLSettings(**settings, temperature=0.3, sort_weight=0.7)
    cosines = None if settings.distance == "cosine" else random_scores(1)
    assert_same(*both(settings, random_scores(), cosines))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exact", [False, True])
def test_one_tile_in_both_precisions(dtype, exact):
    settings = DRSLSettings("cosine", 0.05, "sigmoid", "angle", 1.0)
    assert_same(*both(settings, random_scores(dtype=dtype), exact=exact), dtype)


def test_some_rows_of_all():
    settings = DRSLSettings("cosine", 0.3, "sigmoid", "order", 1.0)
    assert_same(*both(settings, random_scores(), rows=slice(1, 3)))


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("gradient", ["slope", "error"])
@pytest.mark.parametrize("relaxation", ["sigmoid", "linear"])
def test_tiles_that_are_surely_before_or_behind_are_counted_whole(relaxation, gradient, monkeypatch):
    # References 4 to 7 far above every positive, 8 to 10 far below, for a step that is as good as exact.
    scores = random_scores() / 10
    negative = LABELS.unsqueeze(1) != REF_LABELS
    places = torch.arange(11)
    scores += 10 * (negative & (places >= 4) & (places < 8)) - 10 * (negative & (places >= 8))
    settings = DRSLSettings("cosine", 0.1, relaxation, "angle", 1.0, gradient)
    found, expected = both(settings, scores)
    assert_same(found, expected)
    # Had they all been left out, or all counted: not the same.
    monkeypatch.setattr(launch, "_reach", lambda *_: -1e9)
    with pytest.raises(AssertionError):
        assert_same(both(settings, scores)[0], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_a_skipped_tile_leaves_out_is_less_than_half_a_unit_in_the_last_place(dtype):
    for references in (11, 1024, 65_536):
        scores = torch.empty(1, references, dtype=dtype)
        reach = launch._reach(scores, DRSLSettings("cosine", 0.05, "sigmoid", "angle", 1.0))
        assert references / (1 + math.exp(reach)) < torch.finfo(dtype).eps / 2
        assert reach <= (18 if dtype == torch.float32 else 38) + math.log(references)


@pytest.mark.parametrize("where", [0, 5, 6])
def test_nan_is_never_skipped(where):
    # A query whose only positive is reference 6; reference 5 is a negative, 0 the query itself.
    scores = random_scores()
    scores[0, where] = math.nan
    found, _ = both(DRSLSettings("cosine", 0.001, "sigmoid", "none", 1.0), scores)
    assert torch.isnan(found.parts[0, 0]) == (where != 0)
    assert torch.isfinite(found.parts[1:]).all()


def test_numbers_reach_the_kernel_in_double_precision():
    for value in (0.05, 1 / 3, 123.456):
        assert sum(launch._halves(value)) == pytest.approx(value, rel=1e-14)


COMPILE = """
import inspect, sys, triton
from triton.backends.compiler import GPUTarget
from drsl_plugin.losses.backends import kernel, launch

kind, sort, relaxation, gradient, terms, arch = sys.argv[1:]
constants = {"SIGMOID": relaxation == "sigmoid", "SORT": sort, "SEPARATE": sort == "angle", "EXACT": True,
             "ERROR_DRIVEN": gradient == "error", "TERMS": terms, "LEAST_PRECISION": launch.LEAST_PRECISION,
             "POSITIVES": launch.POSITIVES, "REFERENCES": launch.REFERENCES}
floats = ("scores", "cosines", "gradient", "of_cosines", "parts", "weights")
integers = ("order", "ref_labels", "labels", "starts", "places", "counts")
signature = {}
for name in inspect.signature(kernel.rank_rows.fn).parameters:
    signature[name] = ("constexpr" if name in constants else "*" + kind if name in floats else
                       "*i64" if name in integers else "i32" if name == "references" else "fp32")
source = triton.compiler.ASTSource(fn=kernel.rank_rows, signature=signature, constexprs=constants)
print(len(triton.compile(source, target=GPUTarget("cuda", int(arch), 32)).asm["ptx"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen",
    [
        ("fp32", "angle", "sigmoid", "slope", "error", "75"),
        ("fp32", "order", "linear", "slope", "log", "90"),
        ("fp64", "none", "sigmoid", "slope", "error", "90"),
        ("fp32", "order", "sigmoid", "error", "error", "75"),
        ("fp32", "angle", "linear", "error", "graded", "90"),
    ],
    ids="-".join,
)
def test_compiles_for_gpus_without_one(chosen, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    command = [sys.executable, "-c", COMPILE, *chosen]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert int(run.stdout) > 10_000
