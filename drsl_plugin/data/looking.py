"""Whether a published data set lies where a toolbox would look for it."""

from __future__ import annotations

import contextlib
import os
from typing import Literal, NamedTuple

from drsl_plugin.data.published_set import PublishedSet


class Found(NamedTuple):
    """Where a data set was looked for, and what was there.

    Attributes:
        data_set: which one.
        holder: the folder that was looked into.
        folder: the one of the set's ``readable`` folders in it that this tells of, as a path from the disk's root.
        state: whether all is there that the folder has to hold.
        missing: what is not.
    """

    data_set: PublishedSet
    holder: str
    folder: str
    state: Literal["there", "incomplete", "not there"]
    missing: list[str]


def look_for(data_set: PublishedSet, holder: str) -> Found:
    """Look for a data set in a folder.

    Args:
        data_set: which one.
        holder: the folder that one of its ``readable`` folders may lie in.
    """
    finds = []
    for name, needs in data_set.readable.items():
        path = os.path.join(holder, name)
        missing = [need for need in needs if not os.path.exists(os.path.join(path, need))]
        begun = len(missing) < len(needs) or (name and os.path.isdir(path))
        with contextlib.suppress(OSError):  # the current folder may be gone
            path = os.path.abspath(path)
        finds.append(Found(data_set, holder, path, "incomplete" if begun else "not there", missing))
    found = next((found for found in finds if found.state == "incomplete"), finds[0])
    return found if found.missing else found._replace(state="there")
