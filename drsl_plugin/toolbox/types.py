"""The few shapes of a toolbox's objects that are used here: the toolboxes themselves are untyped."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator
from typing import Any, Protocol


class ConfigNode(Protocol):
    """A node of a configuration, as yacs has it: a dict whose keys are attributes too."""

    def __getattr__(self, key: str) -> Any:
        """Return the value of a key."""

    def __setattr__(self, key: str, value: Any) -> None:
        """Set the value of a key."""

    def __getitem__(self, key: str) -> Any:
        """Return the value of a key."""

    def __setitem__(self, key: str, value: object) -> None:
        """Set the value of a key."""

    def __contains__(self, key: object) -> bool:
        """Tell whether there is such a key."""

    def __iter__(self) -> Iterator[str]:
        """Yield the keys."""

    def items(self) -> ItemsView[str, Any]:
        """Return its keys and their values, nodes among them."""

    def clone(self) -> ConfigNode:
        """Return a copy."""

    def dump(self) -> str:
        """Return it as YAML."""


class Scheduler(Protocol):
    """A learning rate's scheduler, as torch has it."""

    def step(self) -> None:
        """Take a step."""

    def state_dict(self) -> dict[str, Any]:
        """Return its state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a state."""
