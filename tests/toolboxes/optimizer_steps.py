"""What is to be done before and after each step of any optimizer; torch before 2.0 has no hooks for that."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

Hook = Callable[[Any, Any, Any], None]


def do_nothing(optimizer: Any, args: Any, kwargs: Any) -> None:
    pass


@contextlib.contextmanager
def watching_steps(before: Hook = do_nothing, after: Hook = do_nothing) -> Iterator[None]:
    optimizers: Any = importlib.import_module("torch.optim.optimizer")
    with contextlib.ExitStack() as stack:
        if hasattr(optimizers, "register_optimizer_step_pre_hook"):
            stack.callback(optimizers.register_optimizer_step_pre_hook(before).remove)
            stack.callback(optimizers.register_optimizer_step_post_hook(after).remove)
        else:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            for kind in torch.optim.Optimizer.__subclasses__():
                patch.setattr(kind, "step", between(kind.step, before, after))
        yield


def between(step: Callable[..., Any], before: Hook, after: Hook) -> Callable[..., Any]:
    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        before(self, args, kwargs)
        result = step(self, *args, **kwargs)
        after(self, args, kwargs)
        return result

    return watched
