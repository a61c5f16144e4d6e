from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hosts import FastReID

SMALLEST = {
    "MODEL.DEVICE": "cpu",
    "MODEL.BACKBONE.NAME": "build_osnet_backbone",
    "MODEL.BACKBONE.DEPTH": "x0_25",
    "MODEL.BACKBONE.FEAT_DIM": 128,
    "MODEL.BACKBONE.PRETRAIN": False,
    "MODEL.HEADS.WITH_BNNECK": True,
    "MODEL.LOSSES.NAME": '("CrossEntropyLoss", "DRSLoss")',
    "INPUT.SIZE_TRAIN": "[64, 32]",
    "INPUT.SIZE_TEST": "[64, 32]",
    "DATALOADER.SAMPLER_TRAIN": "NaiveIdentitySampler",
    "DATALOADER.NUM_INSTANCE": 2,
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": 8,
    "SOLVER.MAX_EPOCH": 1,
    "SOLVER.WARMUP_ITERS": 2,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "TEST.EVAL_PERIOD": 1,
    "SEED": 1,
}


@pytest.fixture
def fastreid_root(demo_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The rendered Market-1501 as FastReID's root of data sets, in this process and in those that it starts."""
    from drsl_plugin.fastreid.host import fastreid

    monkeypatch.setenv("FASTREID_DATASETS", str(demo_root))
    monkeypatch.setattr(fastreid.data.build, "_root", str(demo_root))
    return demo_root


@pytest.fixture(scope="session")
def fastreid_options() -> Callable[..., list[str]]:
    """``fastreid_options(output_dir, **{"SOLVER.BASE_LR": 0.1})``: the options of the smallest run, with changes."""

    def options(output_dir: Path, **changes: Any) -> list[str]:
        settings = {**SMALLEST, "OUTPUT_DIR": output_dir, **changes}
        return [str(word) for pair in settings.items() for word in pair]

    return options


@pytest.fixture(scope="session")
def host(demo_root: Path) -> FastReID:
    """The toolbox as the tests of both see it."""
    return FastReID(demo_root)
