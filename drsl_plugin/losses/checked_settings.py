"""Settings that check themselves: a frozen dataclass whose fields say their values and their meaning.

Each field is annotated with its type, its :class:`Values` and its meaning in a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, get_type_hints

from drsl_plugin.errors import RangeError, SettingError


class Values(NamedTuple):
    """Which values a setting takes."""

    needs: str
    """In words, after "must be"."""
    include: Callable[[Any], bool]
    unit: str = ""
    """After a value that is not among them."""
    needs_in_files: str = ""
    """In words likewise, where a configuration file writes them in another way."""


class Setting(NamedTuple):
    """What there is to know of a setting."""

    name: str
    type: object
    """Without what its annotation says beside it."""
    default: Any
    values: Values
    meaning: str
    """One line."""

    @property
    def in_files(self) -> Any:
        """The default as a configuration file has it, where every key has one type: None is 0 there."""
        return 0 if self.default is None else self.default


class CheckedSettings:
    """A frozen dataclass of settings that takes no value outside theirs."""

    _settings: ClassVar[dict[str, Setting]]
    """Made with the class, not when it is first asked for: ``torch.compile`` follows nothing that is cached."""

    def __init_subclass__(cls) -> None:
        """Read the fields."""
        cls._settings = {
            name: Setting(name, hint.__origin__, getattr(cls, name), *hint.__metadata__)
            for name, hint in get_type_hints(cls, include_extras=True).items()
            if hasattr(hint, "__metadata__")
        }

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: the first that is wrong.
        """
        for error in self.problems(vars(self)):
            raise error

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """Return what there is to know of each setting, by its name, in their order."""
        return cls._settings

    @classmethod
    def problems(cls, values: Mapping[str, Any]) -> Iterator[SettingError]:
        """Yield all that is wrong with values.

        Args:
            values: by the settings' names; one that is missing has its default, and other names are left alone.
        """
        complete = {name: values.get(name, each.default) for name, each in cls.settings().items()}
        wrong = [each for each in cls.settings().values() if not each.values.include(complete[each.name])]
        for each in wrong:
            yield RangeError(each.name, complete[each.name], each.values.needs, each.values.unit)
        if not wrong:
            yield from cls.contradictions(complete)

    @classmethod
    def contradictions(cls, values: Mapping[str, Any]) -> Iterator[SettingError]:
        """Yield what is wrong with values that are each of them right.

        Args:
            values: of all settings.
        """
        yield from ()

    @classmethod
    def from_files(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of this class among the keys of a configuration; 0 is None where that is the default.

        Args:
            values: by the settings' names; other names are left out.
        """
        known = cls.settings()
        return {
            name: None if known[name].default is None and value == 0 else value
            for name, value in values.items()
            if name in known
        }
