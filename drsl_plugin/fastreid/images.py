"""FastReID's images, read as both toolboxes are made to, and its thread that reads ahead on CUDA."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO, Any

from drsl_plugin.data.images import read_image
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.toolbox.patching import replaced, replaced_all


class Images(fastreid.data.common.CommDataset):
    """FastReID's data set of images, which are read twice before one is given up, and turned into RGB first.

    Cause: ``fastreid.data.data_utils.read_image`` takes a palette's numbers for grey, fails on transparency and on 16
    bits, and does not name a file that is no image; all distributions. To see it gone:
    ``test_stock_reader_takes_a_palette_for_grey``. It is a class, not a change of that module, so that a worker that is
    spawned has it, too.
    """

    def __getitem__(self, index: int) -> Any:
        """Return the sample as FastReID does.

        Raises:
            ImageError: an image that cannot be read.
        """
        with replaced(fastreid.data.common, "read_image", _read):
            return super().__getitem__(index)


class TellingGenerator(fastreid.data.data_utils.BackgroundGenerator):
    """FastReID's thread that reads ahead; what goes wrong in it is raised where the batch is asked for.

    Cause: ``fastreid.data.data_utils.BackgroundGenerator`` ends with its error, and who asks for a batch waits for
    ever; all distributions, on CUDA. To see it gone: ``test_stock_thread_leaves_its_reader_waiting``.
    """

    def __init__(self, generator: Iterator[Any], *args: Any, **kwargs: Any) -> None:
        """Begin to read."""
        super().__init__(_until_error(generator), *args, **kwargs)

    def next(self) -> Any:
        """Return the next batch."""
        item = super().next()
        if isinstance(item, _Failed):
            if self.exit_event.is_set():  # what was read ahead is thrown away
                raise StopIteration
            raise item.error
        return item


class TellingLoader(fastreid.data.data_utils.DataLoaderX):
    """FastReID's loader on CUDA, which reads ahead in such a thread."""

    def __iter__(self) -> Any:
        """Begin an epoch."""
        with replaced(fastreid.data.data_utils, "BackgroundGenerator", TellingGenerator):
            return super().__iter__()


@contextlib.contextmanager
def tell_of_errors() -> Iterator[None]:
    """Let the loaders that are built meanwhile, and their data sets, be of these classes."""
    build = fastreid.data.build
    loader = TellingLoader if build.DataLoaderX is fastreid.data.data_utils.DataLoaderX else build.DataLoaderX
    with replaced_all((build, "CommDataset", Images), (build, "DataLoaderX", loader)):
        yield


def open_file(file: str, mode: str) -> IO[bytes]:
    """Open a file as FastReID does, wherever a handler of its paths finds it."""
    opened: IO[bytes] = fastreid.utils.file_io.PathManager.open(file, mode)
    return opened


class _Failed:
    """Stands in the place of a batch that could not be read."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _until_error(batches: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from batches
    except Exception as error:  # of whatever kind: it is raised in the thread that asks
        yield _Failed(error)


def _read(file: str, format: str | None = None) -> Any:
    return read_image(file, open_file)
