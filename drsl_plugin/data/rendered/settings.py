"""The settings of the rendered data sets, checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from drsl_plugin.errors import SettingError

FORMAT = 2
"""Raised whenever the same settings give other images, so that older sets are not taken for current ones."""

MAX_IDENTITIES = 750
"""In training, and as many again in the test: Market-1501's readers accept person numbers up to 1501."""

MAX_CAMERAS = 6


def check_range(option: str, got: int, lowest: int, highest: int, why: str = "") -> None:
    """Check that an option has a whole number in its range.

    Args:
        option: its name.
        got: its value.
        lowest: the least that would do.
        highest: the most.
        why: ends the error's line.

    Raises:
        SettingError: it has not.
    """
    if isinstance(got, bool) or not isinstance(got, int) or not lowest <= got <= highest:
        raise SettingError(option, "", f"got {got!r}, but it takes a whole number from {lowest} to {highest}{why}")


@dataclass(frozen=True)
class DemoSettings:
    """What decides every byte of a demo set, for one version of OpenCV.

    Attributes:
        identities: number of training identities, and of test identities.
        cameras: number of cameras.
        images: of each identity in each camera, in training and in the gallery; queries are extra.
        seed: decides people, cameras and images.
    """

    identities: int
    cameras: int
    images: int
    seed: int

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            SettingError: an option is outside its range.
        """
        why = " (as many again are rendered for the test)"
        check_range("--identities", self.identities, 2, MAX_IDENTITIES, why)
        why = " (a query's match must come from another camera)"
        check_range("--cameras", self.cameras, 2, MAX_CAMERAS, why)
        check_range("--images", self.images, 1, 99, " (of each identity in each camera)")
        check_range("--seed", self.seed, 0, 2**32 - 1)

    def record(self) -> dict[str, int]:
        """Return what is written beside the images."""
        return {"format": FORMAT, **asdict(self)}
