"""What torch 1.13 to 2.4 lacks to read tensors and numpy's scalars, and nothing else."""

from __future__ import annotations

import collections
import contextlib
import importlib
import pickle
import types
from collections.abc import Iterator
from typing import Any

import torch

OLD_TORCH = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 5)
"""Whether ``torch.load(weights_only=True)`` cannot be told of more that is harmless."""


@contextlib.contextmanager
def numpy_scalars_read() -> Iterator[None]:
    """Let ``torch.load(weights_only=True)`` find what its own list has, and numpy's scalars and ``Counter``.

    Cause: ``torch.serialization.safe_globals`` is there since torch 2.5; before that ``weights_only=True`` refuses
    every checkpoint that Torchreid itself has written, and those of a FastReID with milestones; and torch 1.13 takes
    no ``pickle_module``: it goes on with pickle whatever it is given. To see it gone: torch below 2.5 is no longer
    supported.
    """
    serialization: Any = torch.serialization
    before = serialization._weights_only_unpickler
    serialization._weights_only_unpickler = types.SimpleNamespace(load=_load, Unpickler=_Unpickler)
    try:
        yield
    finally:
        serialization._weights_only_unpickler = before


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return what is on the list, which is torch's own, and numpy's scalars.

        Raises:
            UnpicklingError: something else.
        """
        found = _allowed().get(f"{module}.{name}")
        if found is None:
            raise pickle.UnpicklingError(f"{module}.{name} is no tensor")
        return found


def _load(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


def _allowed() -> dict[str, Any]:
    import numpy as np

    of_torch: dict[str, Any] = importlib.import_module("torch._weights_only_unpickler")._get_allowed_globals()
    scalar = np.float64(0).__reduce__()[0]
    return {
        **of_torch,
        "collections.Counter": collections.Counter,
        "collections.OrderedDict": collections.OrderedDict,
        "numpy.dtype": np.dtype,
        "numpy.core.multiarray.scalar": scalar,
        "numpy._core.multiarray.scalar": scalar,
        "_codecs.encode": _encode,
    }


def _encode(text: str, _: str) -> bytes:
    """Encode as a pickle of bytes asks for: by Latin-1, and by no codec that would have to be looked up."""
    return text.encode("latin1")
