"""The errors that become one clear line and exit code 2: objects with parts, of which text is made at the top."""

from __future__ import annotations

import argparse
import copy
import difflib
from collections.abc import Iterable, Sequence
from typing import NoReturn, TypeVar

Error = TypeVar("Error", bound="SettingError")


class DRSLError(Exception):
    """What a user can put right: its text is one line that names the setting, what it got and what would do."""

    @property
    def errors(self) -> list[DRSLError]:
        """The errors that this one is made of, each of them a line: itself, but for a :class:`ConfigError`."""
        return [self]


class SettingError(DRSLError, ValueError):
    """A setting, an option, an argument or a file that cannot be used: ``setting got: needs``.

    Args:
        setting: its name, as the user knows it.
        got: its value; an empty text is left out of the line.
        needs: what is wrong with it and what would do.

    Example:
        >>> error = SettingError("batch_size", 30, "no multiple of num_instances 4; 28 or 32 would do")
        >>> print(error.named("train.batch_size"))
        train.batch_size 30: no multiple of num_instances 4; 28 or 32 would do
    """

    def __init__(self, setting: str, got: object, needs: str) -> None:
        """Keep the parts."""
        super().__init__(setting, got, needs)
        self.setting, self.got, self.needs = setting, got, needs

    def __str__(self) -> str:
        """Return the line."""
        value = "" if isinstance(self.got, str) and not self.got else f" {self.got}"
        return f"{self.setting}{value}: {self.needs}"

    def named(self: Error, setting: str) -> Error:
        """Return the same error under another name of the setting, such as a toolbox's."""
        renamed = copy.copy(self)
        renamed.setting = setting
        renamed.args = (setting, *self.args[1:])
        return renamed


class RangeError(SettingError):
    """A setting outside its values: ``setting must be needs, got got``.

    Args:
        setting: its name, as the user knows it.
        got: its value.
        needs: what would do, after "must be".
        note: ends the line: the unit of the value, or what to do instead.

    Example:
        >>> print(RangeError("temperature", -1, "a finite number above 0"))
        temperature must be a finite number above 0, got -1
    """

    def __init__(self, setting: str, got: object, needs: str, note: str = "") -> None:
        """Keep the parts."""
        super().__init__(setting, got, needs)
        self.note = note

    def __str__(self) -> str:
        """Return the line."""
        return f"{self.setting} must be {self.needs}, got {self.got!r}{self.note}"


class UnknownKeyError(SettingError):
    """A key that no configuration has: ``unknown key setting``, and the nearest that there are.

    Args:
        setting: the key.
        known: the keys that there are.
        where: the file that has it; nothing for the command line.
    """

    def __init__(self, setting: str, known: Iterable[str], where: str = "") -> None:
        """Keep the parts."""
        known = tuple(known)
        super().__init__(setting, where, f"unknown key {setting}{nearest(setting, known)}")
        self.args = (setting, known, where)

    def __str__(self) -> str:
        """Return the line."""
        return f"{self.got}: {self.needs}" if self.got else self.needs


class MissingPackageError(DRSLError, ImportError):
    """A package that is not installed, or cannot be imported: ``reason: command``.

    Args:
        reason: what is missing, or why it cannot be imported.
        command: what to type.
        name: of the module.
    """

    def __init__(self, reason: str, command: str, name: str | None = None) -> None:
        """Keep the parts."""
        super().__init__(reason, command, name=name)
        self.reason, self.command = reason, command

    def __str__(self) -> str:
        """Return the line."""
        return f"{self.reason}: {self.command}"


class ConfigError(DRSLError):
    """Several errors, each of them a line of its own; the same one twice is one.

    Args:
        errors: the errors.

    Example:
        >>> print(ConfigError([SettingError("a", 1, "too small"), SettingError("b", 2, "too large")]))
        a 1: too small
        b 2: too large
    """

    def __init__(self, errors: Iterable[DRSLError]) -> None:
        """Keep the errors."""
        self._errors = list({str(each): each for error in errors for each in error.errors}.values())
        super().__init__(self._errors)

    @property
    def errors(self) -> list[DRSLError]:
        """The errors."""
        return self._errors

    def __str__(self) -> str:
        """Return the lines."""
        return "\n".join(map(str, self._errors))


def raise_all(errors: Iterable[DRSLError]) -> None:
    """Raise what is wrong, if anything is.

    Raises:
        ConfigError: all of it.
    """
    found = list(errors)
    if found:
        raise ConfigError(found)


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line too, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage.

        Raises:
            DRSLError: always, with argparse's message.
        """
        raise DRSLError(f"{message}; `{self.prog} --help` shows the arguments")


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Name the known names nearest to ``name``, as the end of an error line.

    Args:
        name: what was given.
        known: the names that exist.
        count: how many to offer at most.

    Returns:
        ``"; did you mean a, b or c?"``, or an empty string where nothing is near.

    Example:
        >>> nearest("loss.drls", ["loss.drsl", "train.lr"])
        '; did you mean loss.drsl?'
    """
    close = difflib.get_close_matches(name, list(known), n=count, cutoff=0.5)
    return f"; did you mean {one_of(close)}?" if close else ""


def one_of(names: Sequence[str]) -> str:
    """Offer names in a sentence.

    Example:
        >>> one_of(["a", "b", "c"])
        'a, b or c'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
