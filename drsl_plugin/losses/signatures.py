"""Functions that take settings of DRSL as ``**options``, or in order, show them one by one in :func:`help`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

from drsl_plugin.losses.settings import DRSLSettings, LossOptions

Function = TypeVar("Function", bound=Callable[..., object])


def show_options(options: type[LossOptions]) -> Callable[[Function], Function]:
    """Return a decorator that gives a function's signature the settings in place of ``**options`` and ``*values``.

    Args:
        options: those that it takes.

    Example:
        >>> @show_options(LossOptions)
        ... def function(batch, **options): ...
        >>> inspect.signature(function).parameters["sort_weight"].default
        1.0
    """
    settings = [each for each in DRSLSettings.settings().values() if each.name in options.__annotations__]

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        parameters = signature.parameters.values()
        in_order = any(each.kind == each.VAR_POSITIONAL for each in parameters)
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if in_order else inspect.Parameter.KEYWORD_ONLY
        own = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        shown = [inspect.Parameter(each.name, kind, default=each.default, annotation=each.type) for each in settings]
        function.__signature__ = signature.replace(parameters=[*own, *shown])  # type: ignore[attr-defined]
        return function

    return decorate
