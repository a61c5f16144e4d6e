"""The data sets as FastReID's classes read them, with what is wrong with them told in a line."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from drsl_plugin.errors import SettingError, raise_all
from drsl_plugin.fastreid.datasets import PARTS_READ, root, unread_data
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.images import Images, open_file, tell_of_errors
from drsl_plugin.fastreid.keys import SKIP
from drsl_plugin.toolbox.patching import replaced_all
from drsl_plugin.toolbox.readers import PARTS, empty_part, explain_reader
from drsl_plugin.toolbox.samples import Sample, leave_out_unreadable, mixed_types, unfit_types
from drsl_plugin.toolbox.types import ConfigNode

logger = logging.getLogger("fastreid.drsl")


@contextlib.contextmanager
def checked_sets(cfg: ConfigNode, key: str, names: Sequence[str]) -> Iterator[None]:
    """Let the loaders that are built meanwhile read data sets, and their images, with checks.

    What is left out of the sets to train on is told here, of the others where they are first read: an evaluation builds
    their loaders each time.

    Args:
        cfg: the configuration.
        key: ``"NAMES"`` or ``"TESTS"``.
        names: of the sets that it names.

    Raises:
        DRSLError: one cannot be read, or its samples cannot be made batches of.
    """
    tells = key == "NAMES" and fastreid.utils.comm.is_main_process()
    tell = logger.warning if tells else _say_nothing
    for line in unread_data(names, key):
        tell(line)

    def make_images(img_items: list[Sample], *args: Any, **kwargs: Any) -> Images:
        if key == "NAMES":
            raise_all(mixed_types(f"DATASETS.NAMES {', '.join(names)}", img_items))
        return Images(img_items, *args, **kwargs)

    build = fastreid.data.build
    sets = CheckedSets(cfg, key, tell)
    with tell_of_errors(), replaced_all((build, "DATASET_REGISTRY", sets), (build, "CommDataset", make_images)):
        yield


def _say_nothing(line: str) -> None:
    """Leave it untold."""


class CheckedSets:
    """In the place of FastReID's registry of data sets: gives classes whose sets are checked once they are read.

    Args:
        cfg: the configuration.
        key: that names the sets: ``"NAMES"`` or ``"TESTS"``.
        tell: called with a line for each thing to know of them.
    """

    def __init__(self, cfg: ConfigNode, key: str, tell: Callable[[str], None]) -> None:
        """Keep them."""
        self._skip = bool(cfg.DATASETS.get("SKIP_UNREADABLE", False))
        self._key, self._tell = key, tell
        self._owners: dict[int, str] = {}

    def get(self, name: str) -> Callable[..., Any]:
        """Return what reads a data set as its class does.

        Args:
            name: of the data set.
        """
        kind = fastreid.data.datasets.DATASET_REGISTRY.get(name)

        def read(**kwargs: Any) -> Any:
            setting = f"DATASETS.{self._key}"
            with explain_reader(setting, name, lambda: f"FASTREID_DATASETS is {root()}"):
                found = kind(**kwargs)
                parts: dict[str, list[Sample]] = {part: getattr(found, part) for part in PARTS_READ[self._key]}
            for part, samples in parts.items():
                self._check(setting, name, found, part, samples)
            return found

        return read

    def _check(self, setting: str, name: str, found: Any, part: str, samples: list[Sample]) -> None:
        if not samples:
            raise empty_part(setting, name, found, part)
        if part != "train":
            raise_all(unfit_types(setting, name, PARTS[part], samples, int))
        else:
            self._warn_of_shared(name, samples)
        if self._skip:
            kept = leave_out_unreadable(samples, self._tell, open_file)
            if not kept:
                raise SettingError(SKIP, True, f"none of the {PARTS[part]} of {name} can be read")
            setattr(found, f"_{part}", kept)

    def _warn_of_shared(self, name: str, samples: list[Sample]) -> None:
        """Warn of identities that are numbers, and the same in two sets: FastReID makes one class of both."""
        pids = {sample[1] for sample in samples}
        shared = sorted(pid for pid in pids if isinstance(pid, int) and self._owners.get(pid, name) != name)
        if shared:
            also = self._owners[shared[0]]
            self._tell(
                f"DATASETS.NAMES {also}, {name}: {len(shared)} identities, such as {shared[0]}, are in both and become "
                "one class; text that begins with the data set's name keeps them apart"
            )
        self._owners.update((pid, name) for pid in pids if isinstance(pid, int))
