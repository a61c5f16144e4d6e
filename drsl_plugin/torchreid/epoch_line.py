"""At least one line an epoch on the console and in the log."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping

from drsl_plugin.torchreid.host import torchreid


class EpochLine:
    """The losses of an epoch, for a line at its end.

    Cause: ``Engine.train`` prints after each ``print_freq`` batches alone, and so nothing of an epoch that has fewer;
    Torchreid 0.2.5 (PyPI) and 1.4.0 (GitHub). To see it gone: ``test_stock_engine_prints_no_short_epoch``.
    """

    def __init__(self) -> None:
        """Begin the epoch."""
        self._meters = torchreid.utils.MetricMeter()
        self._began = time.monotonic()
        self._batches = 0
        self._rate = 0.0

    def add(self, summary: Mapping[str, float], rate: float) -> None:
        """Take the losses of a batch, and its learning rate."""
        self._meters.update(dict(summary))
        self._batches += 1
        self._rate = rate

    def print(self, epoch: int, max_epoch: int, print_freq: int) -> None:
        """Print the line, in the toolbox's form, where the toolbox has printed none.

        Args:
            epoch: the one that ends, from 1.
            max_epoch: how many there are.
            print_freq: after how many batches the toolbox prints.
        """
        if not 0 < self._batches < print_freq:
            return
        seconds = time.monotonic() - self._began
        eta = datetime.timedelta(seconds=int(seconds * (max_epoch - epoch)))
        at = f"epoch: [{epoch}/{max_epoch}][{self._batches}/{self._batches}]"
        print(f"{at}\ttime {seconds / self._batches:.3f}\teta {eta}\t{self._meters}\tlr {self._rate:.6f}")
