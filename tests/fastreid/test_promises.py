"""The tests that the docstrings of the workarounds promise are there, and so are the workarounds."""

from __future__ import annotations

import re
from pathlib import Path

import drsl_plugin.fastreid
from drsl_plugin.fastreid.troubles import Facts, list_troubles


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
