"""Whether there is anything to find: no toolbox ranks queries of which none has a correct match."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

NO_MATCH = "no query has a correct match in the gallery from another camera"


def explain_no_match(queries: Iterable[tuple[Hashable, Hashable]], gallery: Iterable[tuple[Hashable, Hashable]]) -> str:
    """Say why no query has a correct match, or nothing where one has.

    Args:
        queries: identity and camera of each.
        gallery: likewise.

    Example:
        >>> explain_no_match([(1, 0), (2, 0)], [(1, 0), (2, 1)])
        ''
        >>> explain_no_match([(1, 0)], [(2, 1)])
        'no query has a correct match in the gallery from another camera: they share no identity'
    """
    cameras: dict[Hashable, set[Hashable]] = {}
    for pid, camid in gallery:
        cameras.setdefault(pid, set()).add(camid)
    asked = list(queries)
    if any(cameras.get(pid, set()) - {camid} for pid, camid in asked):
        return ""
    if not asked or not cameras:
        return f"{NO_MATCH}: there is no {'gallery' if asked else 'query'} image"
    if not any(pid in cameras for pid, _ in asked):
        return f"{NO_MATCH}: they share no identity"
    return f"{NO_MATCH}: all of their identity are from the query's own camera, and those are left out"
