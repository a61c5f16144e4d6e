"""The data sets as Torchreid's classes read them, and their images, with what is wrong with them told in a line."""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Callable, Iterator
from typing import Any

from drsl_plugin.data.images import read_image
from drsl_plugin.errors import SettingError, raise_all
from drsl_plugin.toolbox.patching import replaced, replaced_all
from drsl_plugin.toolbox.readers import PARTS, empty_part, explain_reader, naming_the_key
from drsl_plugin.toolbox.samples import Sample, gaps, leave_out_unreadable, relabel, unfit_types
from drsl_plugin.toolbox.types import ConfigNode
from drsl_plugin.torchreid.host import torchreid
from drsl_plugin.torchreid.keys import SKIP

_OPTIONS = {"train": "--sources", "query": "--targets", "gallery": "--targets"}


@contextlib.contextmanager
def reading_images() -> Iterator[None]:
    """Read images as both toolboxes are made to: twice before one is given up, and turned as their EXIF data say.

    Cause: ``torchreid.utils.tools.read_image`` reads a file that is no image for ever, prints a line each time, and
    turns 16 bits for a colour to white; all distributions. To see it gone: ``test_stock_reader_never_gives_up``.

    Raises:
        SettingError: an image that cannot be read; the line names the key that leaves such files out.
    """
    sets = torchreid.data.datasets.dataset
    with (
        naming_the_key(SKIP),
        replaced_all((sets, "read_image", read_image), (torchreid.utils, "read_image", read_image)),
    ):
        yield


def prepare_worker(worker: int) -> None:
    """Make a loader's worker read images like the main process, whose changes a spawned one does not have."""
    torchreid.data.datasets.dataset.read_image = read_image


@contextlib.contextmanager
def checked_sets(cfg: ConfigNode) -> Iterator[None]:
    """Let the data managers that are built meanwhile read data sets by :func:`read_set`."""
    managers = torchreid.data.datamanager
    with contextlib.ExitStack() as stack:
        for name in ("init_image_dataset", "init_video_dataset"):
            stack.enter_context(replaced(managers, name, _read_by(getattr(managers, name), cfg)))
        yield


def _read_by(init: Callable[..., Any], cfg: ConfigNode) -> Callable[..., Any]:
    def read(name: str, **kwargs: Any) -> Any:
        return read_set(init, cfg, name, **kwargs)

    return read


def read_set(init: Callable[..., Any], cfg: ConfigNode, name: str, **kwargs: Any) -> Any:
    """Read a data set, without the files that are no images where the configuration says so.

    Args:
        init: Torchreid's function that builds the set.
        cfg: the configuration.
        name: of the set.
        **kwargs: what Torchreid gives its class; ``mode`` says which of its samples are asked for.

    Raises:
        ConfigError: it cannot be read, or its samples cannot be made batches of.
    """
    mode = kwargs.get("mode", "train")
    setting = _OPTIONS[mode]
    with explain_reader(setting, name, lambda: f"--root is {cfg.data.root}"), _naming_empty_parts(setting, name):
        found = init(name, **kwargs)
    samples: list[Sample] = getattr(found, mode)
    wrong = list(unfit_types(setting, name, _words(mode), samples, numbers.Integral))
    if mode == "train" and not wrong and not cfg.test.evaluate:
        wrong = list(gaps(setting, name, samples))
    raise_all(wrong)
    if cfg.data.get("skip_unreadable", False):
        _keep(found, mode, leave_out_unreadable(samples, print))
        if not getattr(found, mode):
            raise SettingError(SKIP, True, f"none of the {_words(mode)} of {name} can be read")
    return found


def _keep(found: Any, mode: str, samples: list[Sample]) -> None:
    """Give a data set other samples."""
    if mode == "train":
        samples = relabel(samples)
    setattr(found, mode, samples)
    found.data = samples
    if mode == "train":
        found.num_train_pids = found.get_num_pids(samples)
        found.num_train_cams = found.get_num_cams(samples)
        found.num_datasets = found.get_num_datasets(samples)


@contextlib.contextmanager
def _naming_empty_parts(setting: str, name: str) -> Iterator[None]:
    """Say which samples a class did not find, where Torchreid's own asks the first of none for its length."""
    base: Any = torchreid.data.Dataset
    stock = base.__init__

    def init(self: Any, train: Any, query: Any, gallery: Any, *args: Any, **kwargs: Any) -> None:
        for part, samples in zip(PARTS, (train, query, gallery), strict=True):
            if not len(samples):
                raise empty_part(setting, name, self, part)
        stock(self, train, query, gallery, *args, **kwargs)

    with replaced(base, "__init__", init):
        yield


def _words(mode: str) -> str:
    return {"train": "training samples", "query": "queries", "gallery": "gallery"}[mode]


def loaders(datamanager: Any) -> Iterator[Any]:
    """Yield all loaders of a data manager."""
    yield from (each for each in (datamanager.train_loader, getattr(datamanager, "train_loader_t", None)) if each)
    for target in datamanager.test_loader.values():
        yield from target.values()
