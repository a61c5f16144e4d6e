"""Every setting of DRSL, once: its name, type, default, values and meaning.

The configuration nodes of the toolboxes, their checks and comments, and the tables of the documentation are made of
what stands here. A new setting is a field of :class:`DRSLSettings` (of the loss) or of :class:`TrainingSettings` (of a
training with it); one of the loss has a line in :class:`LossOptions` or :class:`DRSLOptions` too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict, get_args

from drsl_plugin.errors import RangeError, SettingError
from drsl_plugin.losses.checked_settings import CheckedSettings, Values

Distance = Literal["cosine", "euclidean"]
Relaxation = Literal["sigmoid", "linear"]
Sort = Literal["angle", "order", "none"]
Gradient = Literal["slope", "error"]
Terms = Literal["error", "log", "graded"]
Backend = Literal["auto", "unfused", "chunked", "triton"]
Schedule = Literal["constant", "linear", "cosine"]
Fill = Literal["fresh", "stored"]


def is_number(value: object) -> bool:
    """Tell whether a value is an int or a float, and no bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_flag(value: object) -> bool:
    """Tell whether a value is a bool."""
    return isinstance(value, bool)


def is_whole_number(value: object) -> bool:
    """Tell whether a value is an int, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def _names(literal: object) -> Values:
    names = get_args(literal)
    return Values(f"one of {', '.join(map(repr, names))}", lambda value: isinstance(value, str) and value in names)


_POSITIVE = Values("a finite number above 0", lambda value: is_number(value) and 0 < value < math.inf)
_WEIGHT = Values("a finite number, 0 or above", lambda value: is_number(value) and 0 <= value < math.inf)
_END = Values("a finite number above 0", _WEIGHT.include)
_FLAG = Values("True or False", is_flag)
_COUNT = Values("a whole number, 0 or above", lambda value: is_whole_number(value) and value >= 0)
_PART = Values("an integer, 0 (off) or above", _COUNT.include)
_SHARE = Values("a number from 0 to 1", lambda value: is_number(value) and 0 <= value <= 1)
_BYTES = Values(
    "a whole number of bytes, at least one query's row of scores, or None",
    lambda value: value is None or (is_whole_number(value) and value >= 1),
    unit=" bytes",
    needs_in_files="a whole number of bytes, at least one query's row of scores, or 0, which chooses",
)


@dataclass(frozen=True)
class DRSLSettings(CheckedSettings):
    """The settings of the loss; see :func:`~drsl_plugin.drsl_loss` and :class:`~drsl_plugin.DRSLoss`.

    Raises:
        SettingError: a setting outside its values, or two that contradict each other.

    Example:
        >>> DRSLSettings(temperature=0.02).sort
        'angle'
        >>> DRSLSettings(temperature=0.0)
        Traceback (most recent call last):
            ...
        drsl_plugin.errors.RangeError: temperature must be a finite number above 0, got 0.0
    """

    distance: Annotated[
        Distance, _names(Distance), "score that ranks: `cosine`, or `euclidean` on the features as they are"
    ] = "cosine"
    temperature: Annotated[
        float, _POSITIVE, "width of the relaxed step, above 0; not comparable between distances, nor relaxations"
    ] = 0.05
    relaxation: Annotated[Relaxation, _names(Relaxation), "relaxed step: `sigmoid` or `linear`"] = "sigmoid"
    sort: Annotated[
        Sort, _names(Sort), "sorting term: `angle`, `order`, or `none` (with `gradient slope` Smooth-AP)"
    ] = "angle"
    sort_weight: Annotated[float, _WEIGHT, "weight of the sorting term, 0 or above"] = 1.0
    gradient: Annotated[
        Gradient,
        _names(Gradient),
        "of the ranks: `slope`, their derivative, or `error`, the errors shared out among those that cause them",
    ] = "error"
    terms: Annotated[
        Terms,
        _names(Terms),
        "a positive's two errors: `error`, their sum; `log`, that of their -log(1 - error); `graded`, as one precision",
    ] = "error"
    center: Annotated[
        bool, _FLAG, "scores of embeddings less their batch's mean, and of references without gradient less theirs"
    ] = False
    memory_size: Annotated[
        int,
        _COUNT,
        "embeddings of earlier batches that are references too, at least a batch of all processes; 0 for none",
    ] = 0
    memory_share: Annotated[
        float,
        _SHARE,
        "in place of `memory_size`: its size as a share of the training images, from 0 to 1, never below a batch",
    ] = 0.0
    memory_warmup: Annotated[int, _COUNT, "batches that are stored before the memory takes part"] = 0
    backend: Annotated[Backend, _names(Backend), "how it is computed: `auto`, `unfused`, `chunked` or `triton`"] = (
        "auto"
    )
    chunk_budget: Annotated[
        int | None, _BYTES, "bytes for the rows of scores that `chunked` and `triton` work on at a time; 0 chooses"
    ] = None

    @classmethod
    def contradictions(cls, values: Mapping[str, Any]) -> Iterator[SettingError]:
        """Yield what is wrong with values that are each of them right, such as a warm-up without a memory."""
        if values["terms"] == "log" and values["gradient"] == "error":
            yield RangeError("terms", "log", "'error' or 'graded' where gradient is 'error'; 'log' goes with 'slope'")
        if values["terms"] == "graded" and values["sort"] == "none":
            yield RangeError("terms", "graded", "'error' or 'log' where sort is 'none', with nothing to grade by")
        if values["terms"] == "graded" and values["sort_weight"] > 1:
            yield RangeError("sort_weight", values["sort_weight"], "1 or below where terms is 'graded'")
        size, share = values["memory_size"], values["memory_share"]
        if size > 0 and share > 0:
            yield RangeError("memory_share", share, f"0 where memory_size is {size}, which gives the size too")
        if values["memory_warmup"] > 0 and size == share == 0:
            none = "0 where memory_size and memory_share are 0, for there is no memory"
            yield RangeError("memory_warmup", values["memory_warmup"], none)


class LossOptions(TypedDict, total=False):
    """The fields of :class:`DRSLSettings` as keyword arguments, for type checkers: those of a loss without a memory."""

    distance: Distance
    temperature: float
    relaxation: Relaxation
    sort: Sort
    sort_weight: float
    gradient: Gradient
    terms: Terms
    center: bool
    backend: Backend
    chunk_budget: int | None


class DRSLOptions(LossOptions, total=False):
    """All of them."""

    memory_size: int
    memory_share: float
    memory_warmup: int


@dataclass(frozen=True)
class TrainingSettings(CheckedSettings):
    """The settings of a training with DRSL, beside those of the loss.

    Raises:
        SettingError: a setting outside its values, or two that contradict each other.
    """

    weight: Annotated[float, _WEIGHT, "weight of DRSL, 0 or above"] = 1.0
    weight_x: Annotated[float, _WEIGHT, "weight of the cross-entropy, 0 or above"] = 1.0
    temperature_schedule: Annotated[
        Schedule,
        _names(Schedule),
        "from the temperature at the first step to `temperature_end` at the last: `constant`, `linear` or `cosine`",
    ] = "constant"
    temperature_end: Annotated[
        float, _END, "temperature at the last step, above 0; 0 where the schedule is constant"
    ] = 0.0
    sub_batch: Annotated[
        int,
        _PART,
        "samples (in video tracklets) in a process's memory at once, a divisor of its batch; 0: the whole batch",
    ] = 0
    memory_fill: Annotated[
        Fill,
        _names(Fill),
        "what the memory first takes part with: training images `fresh` by the model as it then is, or `stored` before",
    ] = "fresh"

    @classmethod
    def contradictions(cls, values: Mapping[str, Any]) -> Iterator[SettingError]:
        """Yield what is wrong with values that are each of them right: an end without a schedule, nothing to train."""
        schedule, end = values["temperature_schedule"], values["temperature_end"]
        if schedule == "constant" and end > 0:
            instead = "; for one that ends there: linear or cosine"
            yield RangeError("temperature_end", end, "left at 0 where the schedule is constant", instead)
        if schedule != "constant" and end == 0:
            yield RangeError("temperature_end", end, f"a finite number above 0 where the schedule is {schedule}")
        if values["weight"] == values["weight_x"] == 0:
            yield RangeError("weight", 0, "above 0 where weight_x is 0, or nothing is trained")
