"""A run's log file, beside or instead of the console."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TextIO


class RunLog(io.TextIOBase):
    """Stands in for ``sys.stdout`` while a run lasts; what is printed before :meth:`open` waits for the file.

    Torchreid's own ``Logger`` closes the console when it is collected and is no terminal to whoever asks.

    Args:
        echo: print to the console as well.
    """

    def __init__(self, echo: bool) -> None:
        """Keep the console."""
        self._console: TextIO | None = sys.stdout if echo else None
        self._file: TextIO = io.StringIO()

    def open(self, folder: Path, kind: str) -> Path:
        """Begin ``FOLDER/KIND.log-DATE``, with all that was printed so far.

        Args:
            folder: the run's folder; made if it is missing.
            kind: ``train`` or ``test``, as upstream names its logs.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{kind}.log{time.strftime('-%Y-%m-%d-%H-%M-%S')}"
        waiting = self._file
        assert isinstance(waiting, io.StringIO)
        self._file = path.open("a", encoding="utf-8")
        self._file.write(waiting.getvalue())
        return path

    def write(self, text: str) -> int:
        """Write to the file, and to the console."""
        if self._console is not None:
            self._console.write(text)
        return self._file.write(text)

    def flush(self) -> None:
        """Flush both."""
        if self._console is not None:
            self._console.flush()
        self._file.flush()

    def isatty(self) -> bool:
        """Tell whether the console is a terminal."""
        return self._console is not None and self._console.isatty()

    def __enter__(self) -> RunLog:
        """Take the place of ``sys.stdout``."""
        self._before, sys.stdout = sys.stdout, self
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give ``sys.stdout`` back and close the file, never the console."""
        sys.stdout = self._before
        self._file.close()
