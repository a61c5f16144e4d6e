"""What is known to break in Torchreid as it is, and what this package does about it; imports no Torchreid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from drsl_plugin.toolbox.modules import import_quietly
from drsl_plugin.toolbox.troubles import Stack, Trouble, this_stack

INSTALL = 'pip install "drsl-plugin[torchreid]"'
"""What installs it and all that it imports, where that is missing."""


@dataclass(frozen=True)
class Facts(Stack):
    """The facts that decide which troubles there are.

    Attributes:
        has_utils: whether ``torchreid.utils`` is a module of the Torchreid that is there.
        has_numpy_bool: whether numpy has ``np.bool``.
    """

    has_utils: bool
    has_numpy_bool: bool


def find_facts(package: Path | None) -> Facts:
    """Find the facts out; what cannot be found out counts as no trouble.

    Args:
        package: the folder of Torchreid's package, or None where it is not there.
    """
    return Facts(
        **vars(this_stack()),
        has_utils=package is None or (package / "utils").is_dir(),
        has_numpy_bool=hasattr(import_quietly("numpy"), "bool"),
    )


def list_troubles(facts: Facts) -> list[Trouble]:
    """List the troubles that Torchreid has on a stack.

    Args:
        facts: of :func:`find_facts`.
    """
    rows = (
        (True, "T1", "loss.name drsl: its main builds the triplet engine, then ends in a KeyError"),
        (not facts.has_utils, "T2", "`from torchreid.utils import ...` in scripts: PyPI's has torchreid.reid.utils"),
        (
            facts.torch >= (2, 6),
            "T3",
            "resume: torch.load (2.6 on) refuses its checkpoints, which hold a numpy scalar",
        ),
        (not facts.has_numpy_bool, "T4", "CUHK03's own metric: this numpy has no np.bool"),
        (True, "T5", "small galleries: IndexError when it prints ranks beyond their size"),
        (True, "T6", "its Logger closes the console's stdout at the end"),
    )
    return [Trouble(key, "handled", what) for applies, key, what in rows if applies]
