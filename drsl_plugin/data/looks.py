"""Who a person of the demo set is: build, skin, hair, clothes, shoes, bag and hat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from drsl_plugin.data.canvas import Colour
from drsl_plugin.data.poses import SIDES, Side

Pattern = Literal["plain", "hoops", "stripes", "checks", "dots", "logo", "block"]
Top = Literal["t-shirt", "sweater", "coat", "dress"]
Bottom = Literal["trousers", "shorts", "skirt"]
Hair = Literal["bald", "short", "bob", "long", "ponytail", "bun", "afro"]
Bag = Literal["none", "backpack", "handbag", "shoulder bag"]
Hat = Literal["none", "cap", "beanie"]

PATTERNS: tuple[Pattern, ...] = ("plain", "hoops", "stripes", "checks", "dots", "logo", "block")
TOPS: tuple[Top, ...] = ("t-shirt", "sweater", "coat", "dress")
BOTTOMS: tuple[Bottom, ...] = ("trousers", "shorts", "skirt", "trousers")
HAIRS: tuple[Hair, ...] = ("short", "bob", "long", "ponytail", "bun", "afro", "bald")
BAGS: tuple[Bag, ...] = ("none", "backpack", "handbag", "shoulder bag")
HATS: tuple[Hat, ...] = ("none", "none", "none", "cap", "beanie")

CLOTHES: tuple[Colour, ...] = (
    (45, 40, 40), (70, 70, 75), (140, 140, 140), (225, 228, 230), (110, 60, 35), (190, 120, 60),
    (60, 50, 175), (50, 60, 105), (70, 110, 60), (120, 165, 195), (80, 190, 225), (130, 90, 150),
    (150, 150, 60), (60, 120, 220),
)  # fmt: skip
SKINS: tuple[Colour, ...] = ((175, 200, 235), (150, 180, 225), (110, 145, 195), (75, 105, 155), (50, 70, 105))
HAIR_COLOURS: tuple[Colour, ...] = ((30, 28, 28), (35, 50, 75), (50, 80, 120), (105, 165, 205), (150, 150, 155))
SHOES: tuple[Colour, ...] = ((35, 35, 35), (225, 225, 225), (45, 65, 105), (70, 60, 170), (130, 80, 40))

GROUP_SIZE = 3
"""So many identities share a palette: among them, colour says nothing about who is who."""

_Item = TypeVar("_Item")


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

    build: Build
    skin: Colour
    hair: Hair
    hair_colour: Colour
    beard: bool
    hat: Hat
    hat_colour: Colour
    top: Top
    top_pattern: Pattern
    top_colour: Colour
    top_accent: Colour
    bottom: Bottom
    bottom_pattern: Pattern
    bottom_colour: Colour
    bottom_accent: Colour
    pattern_scale: float
    shoes: Colour
    bag: Bag
    bag_colour: Colour
    bag_side: Side


def _pick(rng: np.random.Generator, items: tuple[_Item, ...]) -> _Item:
    return items[int(rng.integers(len(items)))]


def _dealt(rng: np.random.Generator, items: tuple[_Item, ...], member: int) -> _Item:
    """Deal ``items`` to a group's members in random order, so that they differ as far as the items reach."""
    return items[int(rng.permutation(len(items))[member % len(items)])]


def _dyed(rng: np.random.Generator, colour: Colour) -> Colour:
    blue, green, red = (int(min(max(channel + rng.normal(0.0, 7.0), 15.0), 240.0)) for channel in colour)
    return blue, green, red


def sample_look(group: np.random.Generator, own: np.random.Generator, member: int) -> Look:
    """Draw a person of a group that shares its palette.

    Args:
        group: drawn from identically for every member of the group.
        own: the person's alone.
        member: which of the group it is; every second one wears the palette upside down, so that even
            the amounts of each colour are about the same.

    Returns:
        The person.
    """
    first, second, accent = (CLOTHES[i] for i in group.choice(len(CLOTHES), 3, replace=False))
    bag_colour, hat_colour = _dyed(group, _pick(group, CLOTHES)), _dyed(group, _pick(group, CLOTHES))
    top_pattern = _dealt(group, PATTERNS, member)
    top, bottom = _dealt(group, TOPS, member), _dealt(group, BOTTOMS, member)
    hair, bag, hat = _dealt(group, HAIRS, member), _dealt(group, BAGS, member), _dealt(group, HATS, member)
    if member % 2:
        first, second = second, first
    build = Build(*(float(np.clip(own.normal(1.0, spread), 0.75, 1.35)) for spread in (0.15, 0.09, 0.1, 0.06)))
    return Look(
        build=build,
        skin=_pick(own, SKINS),
        hair=hair,
        hair_colour=_pick(own, HAIR_COLOURS),
        beard=hair in ("short", "bald") and bool(own.random() < 0.5),
        hat=hat,
        hat_colour=hat_colour,
        top=top,
        top_pattern=top_pattern,
        top_colour=_dyed(own, first),
        top_accent=_dyed(own, accent),
        bottom=bottom,
        bottom_pattern=_pick(own, ("plain", "plain", "plain", "stripes", "checks")),
        bottom_colour=_dyed(own, second),
        bottom_accent=_dyed(own, accent),
        pattern_scale=float(own.uniform(0.75, 1.35)),
        shoes=_pick(own, SHOES),
        bag=bag,
        bag_colour=bag_colour,
        bag_side=_pick(own, SIDES),
    )
