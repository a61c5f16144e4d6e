"""What is said of an evaluation that did not end: what is on disk, and how to evaluate again; knows no toolbox."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

from drsl_plugin.errors import DRSLError
from drsl_plugin.runs.folder import RunFolder

TRACEBACK = "failed-evaluation.txt"
"""The file in a run folder with the traceback of the last evaluation, where that failed."""


@contextlib.contextmanager
def explain_failure(folder: RunFolder, what: str, way_on: str) -> Iterator[None]:
    """Turn whatever an evaluation raises into a line that says how to evaluate again.

    What is no bad input leaves its traceback in the run folder.

    Args:
        folder: the run's.
        what: what is evaluated, such as ``"evaluation of market1501 after epoch 3"``.
        way_on: what to do, such as ``"model.resume FILE evaluates again"``.

    Raises:
        DRSLError: whatever is raised in the block, but for interruptions.
    """
    before = _stamps(folder)
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())
        if not isinstance(error, DRSLError):
            reason = f"{type(error).__name__}{': ' * bool(reason)}{reason}"
            with contextlib.suppress(OSError):  # a full disk may be what it failed of
                folder.write_text(TRACEBACK, traceback.format_exc())
                reason += f" ({folder.path / TRACEBACK} has the traceback)"
        written = [name for name, stamp in _stamps(folder).items() if before.get(name) != stamp]
        features = f"; `drsl evaluate {folder.path}` does from {', '.join(written)}" if written else ""
        raise DRSLError(f"{what} failed: {reason}; {way_on}{features}") from error
    (folder.path / TRACEBACK).unlink(missing_ok=True)


def _stamps(folder: RunFolder) -> dict[str, tuple[int, int]]:
    """Return what tells whether a file of features is another one than before."""
    found = {path.name: path.stat() for path in sorted(folder.path.glob("features-*.npz"))}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}
