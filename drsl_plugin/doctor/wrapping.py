"""How the report breaks its lines."""

from __future__ import annotations

import textwrap

LINE_WIDTH = 96


def wrap(first: str, text: str) -> str:
    """Fill a paragraph whose later lines stand below the text of the first.

    Args:
        first: what the first line begins with.
        text: the paragraph.
    """
    return textwrap.fill(
        text,
        LINE_WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )
