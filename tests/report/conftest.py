from __future__ import annotations

from pathlib import Path

import pytest
from report_runs import MakeRun, make_run_folder


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Make a run folder below the test's own."""
    return lambda name, *arguments, **keywords: make_run_folder(tmp_path / name, *arguments, **keywords)
