"""What a pickle names, found without running it: for the line that refuses it, not for the refusal itself."""

from __future__ import annotations

import contextlib
import pickletools
import re
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

_PICKLES = 5
"""How many follow one another in a file of torch below 1.6."""
_IS_PLAIN = re.compile(
    r"collections\.(OrderedDict|Counter)|_codecs\.encode|numpy\.dtype|numpy\._?core\.multiarray\.scalar"
    r"|torch\._utils\._rebuild_\w+|torch\.(storage\.)?\w*Storage|torch\.(Size|device|Tensor|nn\.parameter\.Parameter)"
    r"|torch\.(bool|bfloat16|u?int\d+|float\d+|complex\d+)"
).fullmatch


def foreign_names(file: BinaryIO) -> list[str]:
    """Return the names in a file of torch, or in a pickle, that are neither tensors' nor plain values', each once.

    Args:
        file: at its beginning; what is left of one that is damaged counts.

    Example:
        >>> import io, pickle, pathlib
        >>> foreign_names(io.BytesIO(pickle.dumps([1, pathlib.PurePosixPath("a")])))
        ['pathlib.PurePosixPath']
    """
    return list(dict.fromkeys(name for name in _names(file) if not _IS_PLAIN(name)))


def _names(file: BinaryIO) -> Iterator[str]:
    start = file.tell()
    with contextlib.suppress(zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError):
        with zipfile.ZipFile(file) as archive:
            for entry in archive.namelist():
                if entry.rpartition("/")[2] == "data.pkl":
                    with archive.open(entry) as pickled:
                        yield from _named_in(pickled)  # type: ignore[arg-type]
        return
    file.seek(start)
    for _ in range(_PICKLES):
        yield from _named_in(file)


def _named_in(pickled: BinaryIO) -> Iterator[str]:
    texts, memo = [""] * 2, dict[object, str]()
    with contextlib.suppress(Exception):  # what is no pickle names nothing; pickletools raises of every kind
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name in ("GLOBAL", "INST"):
                yield str(argument).replace(" ", ".", 1)
            elif opcode.name == "STACK_GLOBAL":
                yield ".".join(texts)
            elif opcode.name == "MEMOIZE" or "PUT" in opcode.name:
                memo[argument if isinstance(argument, int) else len(memo)] = texts[1]
            elif "GET" in opcode.name:
                texts = [texts[1], memo.get(argument, "")]
            elif isinstance(argument, str):
                texts = [texts[1], argument]
