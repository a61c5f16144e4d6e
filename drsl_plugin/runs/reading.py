"""Files of tensors are read without running what a pickle among them says, whatever the version of torch."""

from __future__ import annotations

import contextlib
import os
import pickle
import tarfile
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, BinaryIO

import torch

from drsl_plugin.errors import SettingError
from drsl_plugin.runs.old_torch import OLD_TORCH, numpy_scalars_read
from drsl_plugin.runs.pickled_names import foreign_names

OPTION = "--trust-checkpoints"
"""The option of the commands that read all the same what is refused here."""
TRUSTING = "read checkpoints and weights that would have to be run to be read, as pickles can say anything"
"""What it does, for a command's help."""
torch_load = torch.load  # torch's own, also while another stands in its place
_trusting: ContextVar[bool] = ContextVar("trusting", default=False)


class UnsafeFileError(SettingError):
    """A file that cannot be read but by running what it says: ``setting got: needs``."""


def refusal(what: str) -> str:
    """Return the end of the line that refuses a file.

    Args:
        what: is in it, or what it is.

    Example:
        >>> refusal("holds posix.system")
        'holds posix.system; to read that is to run it, so it is refused; --trust-checkpoints reads it all the same'
    """
    return f"{what}; to read that is to run it, so it is refused; {OPTION} reads it all the same"


@contextlib.contextmanager
def trusting_files(trust: bool = True) -> Iterator[None]:
    """Read, within the block, whatever a file says: it comes from someone who could as well send a program.

    Args:
        trust: False reads tensors, numbers, texts and what holds them alone, as is done outside of any such block.
    """
    before = _trusting.set(trust)
    try:
        yield
    finally:
        _trusting.reset(before)


def is_trusting() -> bool:
    """Tell whether files are trusted here."""
    return _trusting.get()


def read_tensors(file: Any, map_location: Any = None, **options: Any) -> Any:
    """Read a file as ``torch.load`` does, but nothing that would have to be run, unless files are trusted.

    Besides tensors and plain values this is numpy's scalars: Torchreid's own checkpoints hold one.

    Args:
        file: a path, or a file that is open.
        map_location: as in ``torch.load``.
        **options: likewise; what they say of ``weights_only`` and ``pickle_module`` counts for trusted files alone.

    Raises:
        UnsafeFileError: something else is in it; names that. Any other error is torch's own.
    """
    if is_trusting():
        options["weights_only"] = bool(options.get("weights_only"))
        return torch_load(file, map_location, **options)
    options = {name: value for name, value in options.items() if name not in ("weights_only", "pickle_module")}
    with _opened(file) as stream:
        start = stream.tell()
        container = _runnable_container(stream)
        if container:
            raise UnsafeFileError(_name(file), "", refusal(container))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return _load_plainly(file, start, map_location, options)
    except OSError:
        raise
    except Exception as error:
        _rewind(file, start)
        with _opened(file) as stream:
            names = foreign_names(stream)
        if not names and isinstance(error, pickle.UnpicklingError):  # torch's own advises to read it unsafely
            raise pickle.UnpicklingError("it is not what torch.save writes") from error
        if not names:
            raise
        more = f" (and {len(names) - 2} more)" if len(names) > 2 else ""
        raise UnsafeFileError(_name(file), "", refusal(f"holds {' and '.join(names[:2])}{more}")) from None


def _load_plainly(file: Any, start: int, map_location: Any, options: dict[str, Any]) -> Any:
    try:
        with numpy_scalars_allowed():
            return torch_load(file, map_location, weights_only=True, **options)
    except Exception:
        if not OLD_TORCH:
            raise
        _rewind(file, start)
        with numpy_scalars_read():
            return torch_load(file, map_location, weights_only=True, **options)


def _rewind(file: Any, start: int) -> None:
    if not isinstance(file, (str, os.PathLike)):
        file.seek(start)


@contextlib.contextmanager
def numpy_scalars_allowed() -> Iterator[None]:
    """Let ``torch.load`` read the numpy scalar that Torchreid's own checkpoints hold as their ``rank1``.

    Cause: ``Engine.save_model`` (Torchreid 0.2.5 from PyPI, 1.4.0 from GitHub) stores ``cmc[0]``, which is neither
    tensor nor plain value. To see it gone: ``test_old_checkpoint_needs_the_allow_list``. Torch below 2.5 has no way to
    allow it: see :func:`~drsl_plugin.runs.old_torch.numpy_scalars_read`.
    """
    import numpy as np

    if OLD_TORCH:
        yield
        return
    scalar = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(name)) for name in ("float64", "float32", "int64")]
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    with torch.serialization.safe_globals([*names, np.dtype, *dtypes]):
        yield


def _runnable_container(stream: BinaryIO) -> str:
    """Name the kind of file that torch below 2.6 runs whatever ``weights_only`` says (CVE-2025-32434); else nothing."""
    start = stream.tell()
    try:
        if stream.read(4) == b"PK\x03\x04":
            stream.seek(start)
            names = torch._C.PyTorchFileReader(stream).get_all_records()
            return "is a program in TorchScript" if "constants.pkl" in names else ""
        stream.seek(start)
        with tarfile.open(fileobj=stream, mode="r:"):
            return "is a tar file of torch 0.1"
    except (tarfile.TarError, RuntimeError):
        return ""
    finally:
        stream.seek(start)


@contextlib.contextmanager
def _opened(file: Any) -> Iterator[BinaryIO]:
    """Open a file; one that is open is left at the place where it was."""
    if isinstance(file, (str, os.PathLike)):
        with open(file, "rb") as stream:
            yield stream
        return
    start = file.tell()
    try:
        yield file
    finally:
        file.seek(start)


def _name(file: Any) -> str:
    return str(file if isinstance(file, (str, os.PathLike)) else getattr(file, "name", "a file"))
