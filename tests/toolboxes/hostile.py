"""Files that would do something if they were unpickled: a marker file tells that they did."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


def as_pickle(content: dict[str, Any], path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def as_zip(content: dict[str, Any], path: Path) -> None:
    torch.save(content, path)


def as_old_torch(content: dict[str, Any], path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_python_2(content: dict[str, Any], path: Path) -> None:
    """A text that is no UTF-8 before all else: Torchreid reads such a file once more, with pickle."""
    as_pickle(content, path)
    pickled = pickle.dumps(content, protocol=2)
    assert pickled[:2] == b"\x80\x02"
    path.write_bytes(b"\x80\x02U\x01\xe90" + pickled[2:])


def as_tar(content: dict[str, Any], path: Path) -> None:
    """What torch 0.1 wrote, as far as it is unpickled: torch below 2.6 does so whatever it is told."""
    with tarfile.open(path, "w") as archive:
        for name, data in (("storages", pickle.dumps(1) + pickle.dumps(content)), ("pickle", pickle.dumps(content))):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


FORMS: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "pickle": as_pickle,
    "zip": as_zip,
    "old torch": as_old_torch,
    "Python 2": as_python_2,
    "tar": as_tar,
}
