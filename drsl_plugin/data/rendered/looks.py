"""Who a person of the demo set is: build, hair, clothes, bag and hat, in the colours of a palette."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from drsl_plugin.data.rendered.canvas import Colour
from drsl_plugin.data.rendered.poses import SIDES, Side

Pattern = Literal["hoops", "bands", "stripes", "bars", "checks", "dots", "diagonals", "zigzag"]
Top = Literal["t-shirt", "sweater", "coat", "dress"]
Bottom = Literal["trousers", "shorts", "skirt"]
Hair = Literal["bald", "short", "bob", "long", "ponytail", "bun", "afro"]
Bag = Literal["backpack", "handbag", "shoulder bag"]
Hat = Literal["none", "cap", "beanie", "sun hat"]

PATTERNS: tuple[Pattern, ...] = ("hoops", "bands", "stripes", "bars", "checks", "dots", "diagonals", "zigzag")
TOPS: tuple[Top, ...] = ("t-shirt", "sweater", "coat", "dress")
BOTTOMS: tuple[Bottom, ...] = ("trousers", "shorts", "skirt", "trousers")
HAIRS: tuple[Hair, ...] = ("short", "bob", "long", "ponytail", "bun", "afro", "bald")
BAGS: tuple[Bag, ...] = ("backpack", "handbag", "shoulder bag")
HATS: tuple[Hat, ...] = ("none", "cap", "none", "beanie", "none", "sun hat")

GROUP_SIZE = 8
"""How many identities share a palette; each of them wears another pattern as top, so that colour finds the group, and
little more."""

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Palette:
    """All the colours a person wears and has.

    Attributes:
        first: of the clothes.
        second: the other one of their pattern.
        skin: of face, hands and legs.
        hair: and beard.
        shoes: both.
        bag: and hat.
    """

    first: Colour
    second: Colour
    skin: Colour
    hair: Colour
    shoes: Colour
    bag: Colour


PALETTES: tuple[Palette, ...] = (
    Palette((60, 45, 170), (225, 228, 230), (150, 180, 225), (30, 28, 28), (35, 35, 35), (150, 110, 50)),
    Palette((120, 65, 35), (190, 175, 120), (75, 105, 155), (28, 26, 26), (225, 225, 225), (60, 130, 215)),
    Palette((55, 100, 50), (85, 200, 230), (110, 145, 195), (35, 50, 75), (45, 65, 105), (70, 50, 140)),
    Palette((45, 40, 42), (150, 150, 152), (175, 200, 235), (105, 165, 205), (70, 60, 170), (75, 165, 95)),
    Palette((110, 60, 110), (185, 160, 215), (50, 70, 105), (24, 24, 26), (130, 80, 40), (170, 205, 210)),
    Palette((40, 70, 125), (70, 140, 230), (150, 175, 215), (150, 150, 155), (60, 55, 50), (170, 165, 60)),
)
"""Dealt to the groups in turn; each is used again where there are more groups."""


@dataclass(frozen=True)
class Build:
    """A body's proportions, 1 for average."""

    girth: float
    shoulders: float
    hips: float
    head: float


@dataclass(frozen=True)
class Look:
    """One person, as every camera gets to see them."""

    palette: Palette
    build: Build
    hair: Hair
    beard: bool
    hat: Hat
    top: Top
    top_pattern: Pattern
    bottom: Bottom
    bottom_pattern: Pattern
    bag: Bag
    bag_side: Side


def _deal(rng: np.random.Generator, items: tuple[_Item, ...], member: int) -> _Item:
    """Deal ``items`` to a group's members in random order, so that they differ as far as the items reach."""
    return items[int(rng.permutation(len(items))[member % len(items)])]


def sample_look(palette: Palette, group: np.random.Generator, own: np.random.Generator, member: int) -> Look:
    """Draw a person of a group that shares its palette.

    All clothes have a pattern of the palette's two colours in equal shares, and everybody has a bag, so
    that within a group neither the colours nor their amounts tell much; shapes and patterns do.

    Args:
        palette: the group's.
        group: drawn from identically for every member of the group.
        own: the person's alone.
        member: which of the group it is.

    Returns:
        The person.
    """
    top_pattern, bottom_pattern = _deal(group, PATTERNS, member), _deal(group, PATTERNS, member)
    top, bottom = _deal(group, TOPS, member), _deal(group, BOTTOMS, member)
    hair, bag, hat = _deal(group, HAIRS, member), _deal(group, BAGS, member), _deal(group, HATS, member)
    build = Build(*(float(np.clip(own.normal(1.0, spread), 0.75, 1.35)) for spread in (0.18, 0.1, 0.12, 0.06)))
    return Look(
        palette=palette,
        build=build,
        hair=hair,
        beard=hair in ("short", "bald") and bool(own.random() < 0.5),
        hat=hat,
        top=top,
        top_pattern=top_pattern,
        bottom=bottom,
        bottom_pattern=bottom_pattern,
        bag=bag,
        bag_side=SIDES[int(own.integers(2))],
    )
