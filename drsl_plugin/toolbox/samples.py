"""The samples of a data set, as both toolboxes have them: path or paths, identity, camera and perhaps more.

Own data sets bring them, too, so their types are looked at before a training finds them out.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from drsl_plugin.data.images import Opener, find_bad_images
from drsl_plugin.errors import SettingError

Sample: TypeAlias = "tuple[Any, ...]"


def leave_out_unreadable(
    samples: Sequence[Sample], tell: Callable[[str], None], open_file: Opener = open
) -> list[Sample]:
    """Look at all files of some samples, tell which are no images, and return the samples without them.

    A tracklet is left without the frames that are none; where nothing is left of it, it is left out.

    Args:
        samples: as their data set has them.
        tell: called with a line for each such file.
        open_file: opens a file, called with its path and ``"rb"``.
    """
    files = dict.fromkeys(file for sample in samples for file in _files(sample))
    errors = find_bad_images(files, open_file)
    for error in errors:
        tell(f"left out: {error}")
    bad = {error.file for error in errors}
    kept: list[Sample] = []
    for sample in samples:
        paths, *labels = sample
        if isinstance(paths, str):
            if paths not in bad:
                kept.append(sample)
        elif left := [path for path in paths if path not in bad]:
            kept.append((type(paths)(left), *labels))
    return kept


def relabel(samples: Sequence[Sample]) -> list[Sample]:
    """Number the identities of training samples from 0 without a gap, in the order of their numbers."""
    labels = {pid: label for label, pid in enumerate(sorted({sample[1] for sample in samples}))}
    return [(paths, labels[pid], *others) for paths, pid, *others in samples]


def unfit_types(setting: str, name: str, part: str, samples: Sequence[Sample], kind: type) -> Iterator[SettingError]:
    """Yield an error where paths, identities or cameras are not all of the type that the toolbox makes batches of.

    Args:
        setting: the key or option that names the data set.
        name: of the data set.
        part: what the samples are for, in words.
        samples: as the data set has them.
        kind: ``int`` where the toolbox asks for that type itself, ``numbers.Integral`` where any integer will do.
    """
    no_text = next((file for each in samples for file in _files(each) if not isinstance(file, str)), None)
    if no_text is not None:
        needs = f"paths of its {part} must be str, got {type(no_text).__name__} {str(no_text)!r}"
        yield SettingError(setting, name, f"{needs}; make them str in its class")
    for column, what in ((1, "identities"), (2, "cameras")):
        odd = next((each for each in samples if not isinstance(each[column], kind)), None)
        if odd is not None:
            value = odd[column]
            needs = f"{what} of its {part} must be int, got {type(value).__name__} {value!r} of {_files(odd)[0]}"
            yield SettingError(setting, name, f"{needs}; number them in its class")


def gaps(setting: str, name: str, samples: Sequence[Sample]) -> Iterator[SettingError]:
    """Yield an error where the identities of training samples are not the numbers from 0 on, without a gap.

    Args:
        setting: as for :func:`unfit_types`, like the others.
        name: of the data set.
        samples: whose identities are integers.
    """
    pids = {int(sample[1]) for sample in samples}
    if pids != set(range(len(pids))):
        needs = (
            f"identities of its training samples must be 0 to {len(pids) - 1}, as there are {len(pids)}, got numbers "
        )
        needs += f"from {min(pids)} to {max(pids)}"
        yield SettingError(setting, name, f"{needs}; number them so in its class")


def mixed_types(setting: str, samples: Sequence[Sample]) -> Iterator[SettingError]:
    """Yield an error where identities, or cameras, of all training samples are of several types.

    Args:
        setting: the key and the names of the data sets.
        samples: of all of them.
    """
    for column, what in ((1, "identities"), (2, "cameras")):
        kinds = {_kind(each[column]): each for each in reversed(samples)}
        if len(kinds) > 1:
            shown = [f"{type(each[column]).__name__} {each[column]!r} of {_files(each)[0]}" for each in kinds.values()]
            needs = f"{what} of the training images must be of one type, got {' and '.join(sorted(shown))}"
            yield SettingError(setting, "", f"{needs}; text that begins with the data set's name keeps sets apart")


def _kind(value: object) -> type:
    return numbers.Number if isinstance(value, numbers.Number) else type(value)


def _files(sample: Sample) -> Sequence[str]:
    paths: Any = sample[0]
    alone: list[Any] = [paths]
    return alone if isinstance(paths, (str, os.PathLike)) else list(paths)
