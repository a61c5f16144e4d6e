"""What a configuration is checked for in either toolbox: rules that are told the names of its keys.

Each yields all that is wrong. A toolbox's ``problems(cfg)`` asks them in its order.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from drsl_plugin.errors import SettingError, nearest
from drsl_plugin.losses.backends.chunked import count_row_bytes
from drsl_plugin.losses.backends.launch import kernels_run_on
from drsl_plugin.losses.settings import DRSLSettings
from drsl_plugin.losses.two_stage import indivisible_batch


class Keyed(NamedTuple):
    """A key of a toolbox's configuration and its value."""

    key: str
    value: Any


def unknown_name(setting: Keyed, known: Collection[str]) -> Iterator[SettingError]:
    """Yield an error where a name is none of those that the toolbox knows."""
    if setting.value not in known:
        offered = f"; one of {', '.join(known)}" if len(known) <= 10 else nearest(str(setting.value), known)
        yield SettingError(setting.key, setting.value, f"unknown{offered}")


def below_least(values: Mapping[str, Any], least: Mapping[str, float]) -> Iterator[SettingError]:
    """Yield the keys whose number, or one of whose numbers, is below the least that it may be, or not finite.

    Args:
        values: of all keys.
        least: by the keys that have one.
    """
    for key, value in values.items():
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if key in least and not all(least[key] <= number < math.inf for number in numbers):
            kind = "" if all(map(math.isfinite, numbers)) else "a finite number, "
            yield SettingError(key, value, f"must be {kind}{least[key]} or above")


def named_twice(setting: str, names: Sequence[str]) -> Iterator[SettingError]:
    """Yield an error for each data set that a list names more than once: its images would count as others'.

    Args:
        setting: the list's key or option.
        names: what it has.
    """
    for name in dict.fromkeys(name for at, name in enumerate(names) if name in names[:at]):
        yield SettingError(setting, name, f"named {list(names).count(name)} times; once is enough")


def missing_file(setting: Keyed, *, home: bool = True) -> Iterator[SettingError]:
    """Yield an error where a key names a file that is not there; an empty one names none, an address is left alone.

    Args:
        setting: the key and the file.
        home: whether ``~`` is a home folder to the toolbox.
    """
    path = str(setting.value)
    if path and "://" not in path and not (Path(path).expanduser() if home else Path(path)).is_file():
        yield SettingError(setting.key, path, "no such file")


def bad_folder(setting: Keyed) -> Iterator[SettingError]:
    """Yield an error where the folder of a run cannot be made or written to."""
    path = Path(setting.value).absolute()
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir():
        yield SettingError(setting.key, setting.value, f"{there} is a file; give a folder, or one yet to be made")
    elif not os.access(there, os.W_OK):
        yield SettingError(setting.key, setting.value, f"{there} cannot be written to; give another folder")


def no_positives(
    sampler: Keyed, instances: Keyed, identity_samplers: Sequence[str], offered: str
) -> Iterator[SettingError]:
    """Yield an error where a batch has positives by chance or not at all.

    Args:
        sampler: the sampler of the training images.
        instances: how many images of an identity it puts in a batch.
        identity_samplers: those that put some there.
        offered: which of them to use, in words.
    """
    if sampler.value not in identity_samplers:
        needs = f"puts positives in a batch only by chance, and DRSL ranks positives; {offered}"
        yield SettingError(*sampler, needs)
    elif instances.value < 2:
        needs = "no image has a positive in its batch, and DRSL ranks positives; use 4, or any number from 2"
        yield SettingError(*instances, needs)


def small_memory(memory: Keyed, batch: int, made_of: str) -> Iterator[SettingError]:
    """Yield an error where a memory does not hold a batch.

    Args:
        memory: its size; 0 for none.
        batch: how many embeddings are stored at a time.
        made_of: the batch in words, such as ``"a batch, which has 64 images (train.batch_size)"``.
    """
    if 0 < memory.value < batch:
        yield SettingError(*memory, f"smaller than {made_of}; {batch} or more, or 0 for no memory")


def bad_sub_batch(
    setting: Keyed, batch: int, of: str, processes: int = 1, samples: str = "samples"
) -> Iterator[SettingError]:
    """Yield an error where the size of a sub-batch does not divide the batch.

    Args:
        setting: the size; 0 switches it off.
        batch: the number of samples in a batch, that of all processes.
        of: the batch in words, such as ``"train.batch_size 64"``.
        processes: how many share the batch.
        samples: what they are called.
    """
    for error in indivisible_batch(setting.value, batch, of, processes, samples):
        yield error.named(setting.key)


def unfit_backend(backend: Keyed, has_cuda: bool) -> Iterator[SettingError]:
    """Yield an error where the Triton kernel is asked for and cannot run.

    Args:
        backend: how the loss is computed.
        has_cuda: whether the run is on CUDA.
    """
    if backend.value == "triton" and not (has_cuda and kernels_run_on("cuda")):
        missing = "Triton, which is not installed here" if has_cuda else "CUDA, and the run is on the CPU"
        yield SettingError(*backend, f"needs {missing}; auto takes it where it runs")


def small_budget(budget: Keyed, settings: DRSLSettings, batch: int, instances: int) -> Iterator[SettingError]:
    """Yield an error where a budget does not hold the row of one query, once the memory is full.

    Args:
        budget: bytes; 0 chooses.
        settings: of the loss.
        batch: how many embeddings there are in a step, those of all processes.
        instances: how many of them are of one identity, which no batch has twice.
    """
    if budget.value == 0 or settings.backend == "unfused":
        return
    references = batch + settings.memory_size
    remembered = math.ceil(settings.memory_size / max(batch, 1))
    most = min(instances * (1 + remembered), references) - 1
    least = count_row_bytes(references, most, settings)
    if budget.value < least:
        of = f"{references:,} references, of which {most:,} may be positives"
        yield SettingError(*budget, f"must be {least} bytes or above, one query's row of {of}; 0 chooses")


def multiples(number: int, unit: int) -> str:
    """Offer the two multiples of ``unit`` that are nearest to a number that is none.

    Example:
        >>> multiples(30, 4)
        '28 or 32'
        >>> multiples(3, 4)
        '4 or 8'
    """
    fitting = max(number - number % unit, unit)
    return f"{fitting} or {fitting + unit}"
