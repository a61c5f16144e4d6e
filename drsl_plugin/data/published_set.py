"""What is known of a published data set: how it is called, how it lies on disk, where it comes from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Images = Mapping[tuple[str, ...], int]
"""How many images a data set has: by a folder, or by the lists that name them together."""


@dataclass(frozen=True)
class Source:
    """A file that its owners offer.

    Attributes:
        url: of the file.
        name: of the file on disk.
        digest: ``"md5:…"`` or ``"sha256:…"``.
        room: bytes on disk, of the file and of what it unpacks to, below which a download is not begun.
    """

    url: str
    name: str
    digest: str
    room: int


@dataclass(frozen=True)
class PublishedSet:
    """A published data set.

    Attributes:
        name: what ``drsl download`` and Torchreid call it.
        title: what papers call it.
        folder: where it lies below a root of data sets.
        layouts: the folders it comes as, below ``folder``, and what each of them has to hold.
        linked: whether each of those folders can stand in the root itself as well, where FastReID looks for it.
        bare: whether what such a folder holds can stand without it.
        check: returns what is amiss with an unpacked folder of this set, or an empty string.
        getting: in a few words how to get it and where to put it, as the end of an error line.
        images: how many there are, where they are counted.
        source: where it is offered; None where it has to be asked for.
        asking: how it is asked for.
        beside: files that have to stand beside it in ``folder``.
        note: what to know when training on it.
    """

    name: str
    title: str
    folder: str
    layouts: dict[str, tuple[str, ...]]
    linked: bool
    check: Callable[[Path, PublishedSet], str]
    getting: str
    bare: bool = False
    images: Images = field(default_factory=dict)
    source: Source | None = None
    asking: str = ""
    beside: tuple[Source, ...] = ()
    note: str = ""

    @property
    def home(self) -> str:
        """The folder below a root that has nothing else in it than this set; an empty text where there is none."""
        return self.folder if self.linked else ""

    @property
    def readable(self) -> dict[str, tuple[str, ...]]:
        """The folders that the toolboxes read, the first that is there, and what each has to hold.

        They lie in ``home``, and in the root itself where the set is ``linked``; an empty name is that place itself.
        """
        if self.beside:
            inner = [f"{layout}/{need}" for layout, needs in self.layouts.items() for need in needs]
            return {self.folder: (*inner, *(source.name for source in self.beside))}
        return self.layouts | ({"": next(iter(self.layouts.values()))} if self.bare else {})

    def is_called(self, name: str) -> bool:
        """Tell whether a name is this set's; case, hyphens and a version after it do not matter.

        Args:
            name: as a person, a paper or a toolbox spells it.
        """
        plain = re.sub(r"[^a-z0-9]", "", name.lower())
        return plain in (self.name, self.name.rstrip("0123456789")) or bool(
            re.fullmatch(rf"{self.name}(v\d+|np)", plain)
        )

    def find_fault(self, folder: Path) -> str:
        """Say what is amiss with an unpacked folder, or return an empty string.

        Args:
            folder: one of ``layouts``.
        """
        return self.check(folder, self)
