"""A run's log file, beside or instead of the console."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TextIO


class Console:
    """Stands in for ``sys.stdout`` where Torchreid's ``Logger`` would close the real one once it is collected.

    No ``io`` class: those close themselves.

    Args:
        stream: the real one.
    """

    def __init__(self, stream: TextIO) -> None:
        """Keep the stream."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write to the stream."""
        written: int = self._stream.write(text)
        return written

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Tell whether the stream is a terminal."""
        return bool(self._stream.isatty())

    def close(self) -> None:
        """Leave the stream open."""


class RunLog(Console):
    """Writes what is printed while a run lasts to its log file; what comes before :meth:`open` waits for the file.

    Args:
        echo: print to the console as well.
    """

    def __init__(self, echo: bool) -> None:
        """Keep the console."""
        super().__init__(sys.stdout)
        self._echo = echo
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
        if self._echo:
            super().write(text)
        return self._file.write(text)

    def flush(self) -> None:
        """Flush both."""
        super().flush()
        self._file.flush()

    def isatty(self) -> bool:
        """Tell whether a terminal shows what is printed."""
        return self._echo and super().isatty()

    def __enter__(self) -> RunLog:
        """Take the place of ``sys.stdout``."""
        sys.stdout = self
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give ``sys.stdout`` back and close the file, never the console."""
        sys.stdout = self._stream
        self._file.close()
