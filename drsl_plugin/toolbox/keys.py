"""The settings of DRSL as keys of a toolbox's configuration: defaults, values, what is wrong, and help."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from drsl_plugin.errors import RangeError, SettingError
from drsl_plugin.losses.checked_settings import Setting
from drsl_plugin.losses.settings import DRSLSettings, TrainingSettings

SKIP_MEANING = "look at all image files before anything else, list those that cannot be read, and leave them out"
"""Of a key that each toolbox's configuration gets beside those of the loss."""


class DRSLKeys:
    """The keys of the node in which a toolbox's configuration holds the settings of DRSL.

    A node that lacks some of them, such as one of a release that did not know them, has their defaults.

    Args:
        node: the node's name, dotted.
        spelling: the key of each setting by the setting's name; a setting without a key is left at its default.

    Example:
        >>> keys = DRSLKeys("loss.drsl", {name: name for name in DRSLSettings.settings()})
        >>> keys.defaults()["sort"]
        'angle'
        >>> [str(error) for error in keys.problems({"temperature": -1.0})]
        ['loss.drsl.temperature must be a finite number above 0, got -1.0']
    """

    def __init__(self, node: str, spelling: Mapping[str, str]) -> None:
        """Keep both."""
        self.node = node
        settings = {**DRSLSettings.settings(), **TrainingSettings.settings()}
        self.settings: dict[str, Setting] = {key: settings[name] for name, key in spelling.items()}
        """What there is to know of each setting, by its key in the node."""
        self._spelling = dict(spelling)

    def dotted(self, name: str) -> str:
        """Return the whole key of a setting."""
        return f"{self.node}.{self._spelling[name]}"

    def all_dotted(self) -> dict[str, str]:
        """Return the whole key of each setting that has one, by the setting's name."""
        return {name: self.dotted(name) for name in self._spelling}

    def defaults(self) -> dict[str, Any]:
        """Return the defaults by their keys in the node."""
        return {key: setting.in_files for key, setting in self.settings.items()}

    def values(self, node: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values by the settings' names.

        Args:
            node: values by their keys; other keys are left out.
        """
        return {setting.name: node[key] for key, setting in self.settings.items() if key in node}

    def of_loss(self, node: Mapping[str, Any]) -> DRSLSettings:
        """Return the settings of the loss.

        Raises:
            SettingError: a value that is wrong.
        """
        return DRSLSettings(**DRSLSettings.from_files(self.values(node)))

    def of_training(self, node: Mapping[str, Any]) -> TrainingSettings:
        """Return the settings of the training.

        Raises:
            SettingError: a value that is wrong.
        """
        return TrainingSettings(**TrainingSettings.from_files(self.values(node)))

    def problems(self, node: Mapping[str, Any]) -> Iterator[SettingError]:
        """Yield all that is wrong with the values, under the names of their keys."""
        values = self.values(node)
        for settings in (DRSLSettings, TrainingSettings):
            for error in settings.problems(settings.from_files(values)):
                key, allowed = self.dotted(error.setting), settings.settings()[error.setting].values
                needs = allowed.needs_in_files
                yield RangeError(key, error.got, needs, allowed.unit) if needs else error.named(key)

    @contextlib.contextmanager
    def name_errors(self) -> Iterator[None]:
        """Name the key in an error of the loss that only a batch can show, such as a budget too small for its rows."""
        try:
            yield
        except SettingError as error:
            if error.setting not in self._spelling:
                raise
            raise error.named(self.dotted(error.setting)) from error

    def help(self) -> str:
        """Return a list of the keys with default and meaning, for a command's ``--help``."""
        lines = [f"keys of DRSL, {self.node}.KEY, with their defaults:"]
        width = max(map(len, self.settings)) + 2
        for key, setting in self.settings.items():
            text = f"{setting.meaning} [{setting.in_files}]"
            lines += textwrap.wrap(text, 100, initial_indent=f"  {key:{width}}", subsequent_indent=" " * (width + 2))
        return "\n".join(lines)
