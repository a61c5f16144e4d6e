"""The workers of loaders under every start method: by the toolbox's command and by a team's script."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from comparing import assert_equal_runs
from hosts import Host
from scripts import write_script

# What `drsl` does on macOS and Windows (spawn), and on Linux from Python 3.14 on (forkserver).
MAIN = """
import sys
import torch.multiprocessing

if __name__ == "__main__":
    torch.multiprocessing.set_start_method(sys.argv.pop(1))
    from drsl_plugin.cli import main
    main()
"""


def drsl(host: Host, folder: Path, method: str, *words: object) -> None:
    main = folder / "drsl_of_another_system.py"
    main.write_text(MAIN)
    ended = subprocess.run(
        [sys.executable, str(main), method, *map(str, words)],
        env={**os.environ, **host.environment, "OMP_NUM_THREADS": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize(("by_script", "method"), [(False, "spawn"), (False, "forkserver"), (True, "spawn")])
def test_workers_of_every_start_method(
    by_script: bool, method: str, host: Host, trained: Callable[..., Path], tmp_path: Path
) -> None:
    """What is trained is what it is with workers that are forks: the images that they read are the same."""
    words = ["run", *write_script(host, tmp_path)] if by_script else [host.name]
    drsl(host, tmp_path, method, *words, *host.words(tmp_path / "run", workers=1))
    if not by_script:  # upstream's script asks for other augmentations
        assert_equal_runs(host, tmp_path / "run", trained(workers=1))


def test_scripts_cannot_be_imported_by_themselves(host: Host, tmp_path: Path) -> None:
    """When this fails for both, a worker can import a script first, and ``prepared_workers`` can go."""
    script = write_script(host, tmp_path)[0]
    import_it = f"import runpy; runpy.run_path({script!r}, run_name='__mp_main__')"
    ended = subprocess.run([sys.executable, "-c", import_it], capture_output=True, text=True, timeout=200)
    assert ended.returncode != 0
    assert "ModuleNotFoundError" in ended.stderr or "ImportError" in ended.stderr
