"""The contract: what those who know no toolbox ask of one.

Each toolbox keeps it in the module ``toolbox`` of its own package, which imports nothing of the toolbox itself before
one of the methods needs it: features are evaluated and reports are made where no toolbox is installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from drsl_plugin.data.looking import Found
from drsl_plugin.data.published_set import PublishedSet
from drsl_plugin.errors import DRSLError
from drsl_plugin.runs.config import EvaluationSettings
from drsl_plugin.toolbox.troubles import Trouble


@dataclass(frozen=True)
class Keys:
    """What a toolbox's configuration calls what every toolbox has: dotted keys, an empty text where it has none."""

    loss: str
    model: str
    depth: str
    weights: str
    pretrained: str
    sources: str
    batch: str
    instances: str
    epochs: str
    optimizer: str
    learning_rate: str
    schedule: str
    weight_decay: str
    metric: str
    reranking: str
    seed: str
    output: str
    drsl: Mapping[str, str]
    """The keys of DRSL's settings by their names; a setting without a key is left out."""
    losses: str
    """How the keys of all losses begin."""


@dataclass(frozen=True)
class RunRequest:
    """A training that is to be run: what every toolbox can be asked for."""

    config: Path
    """The configuration file."""
    data: str
    """The published data set to train and evaluate on, as the catalogue names it, or any other by its own name."""
    seed: int
    folder: Path
    """The run folder."""
    root: Path
    """The folder of data sets, laid out for all toolboxes."""
    cuda: bool
    overrides: Mapping[str, Any]
    """Keys of the toolbox's configuration; they go over all else."""
    checkpoint: Path | None = None
    """The checkpoint to go on from, as :meth:`Toolbox.find_checkpoint` gives it."""


class Toolbox(Protocol):
    """What a toolbox tells of itself, and does."""

    @property
    def name(self) -> str:
        """The name of its module, of the command that runs it and of the folder of its presets."""

    @property
    def title(self) -> str:
        """What people call it."""

    @property
    def preset_command(self) -> str:
        """The command that runs the preset NAME on data sets in the folder DIR."""

    @property
    def script(self) -> str:
        """The script, below its clone, whose arguments its command takes too."""

    @property
    def script_example(self) -> str:
        """A command that runs a team's own such script."""

    @property
    def keys(self) -> Keys:
        """What its configuration calls what every toolbox has."""

    def spell_data_set(self, name: str) -> str:
        """Return what it calls a data set of the catalogue; any other keeps its name."""

    def has_key(self, key: str) -> bool:
        """Tell whether a dotted key reads like one of its configuration, known or not."""

    def wrote(self, config: Mapping[str, Any]) -> bool:
        """Tell whether nested settings, such as those of a run's ``config.yaml``, are of its own configuration."""

    def evaluation_settings(self, config: Mapping[str, Any]) -> EvaluationSettings:
        """Return how a run with these nested settings evaluated: by cosine where they do not say."""

    def build_arguments(self, request: RunRequest) -> list[str]:
        """Return the arguments of its command that start a run, or go on from a checkpoint."""

    def build_environment(self, root: Path) -> dict[str, str]:
        """Return what a process needs in its environment to find the data sets below a root."""

    def find_checkpoint(self, folder: Path) -> Path | None:
        """Return the last checkpoint in a run folder, or None."""

    def problems(self, request: RunRequest) -> Iterator[DRSLError]:
        """Yield all that is wrong with a run and can be found before it starts.

        Raises:
            MissingPackageError: the toolbox is not installed.
        """

    def main(self, arguments: Sequence[str]) -> object:
        """Run its command.

        Raises:
            DRSLError: bad input, or a loss that is not finite.
        """

    def run_script(self, script: Path, arguments: Sequence[str]) -> None:
        """Run a team's own script, unmodified, with DRSL known to the toolbox.

        Raises:
            DRSLError: bad settings.
        """

    @property
    def install(self) -> str:
        """The command that installs it and all that it imports."""

    @property
    def demo(self) -> str:
        """A command that shows it at work and needs no data set; an empty text where there is none."""

    def troubles(self, package: Path | None) -> list[Trouble]:
        """Return what is known to break in it on this stack; ``package`` is its folder, where it is installed."""

    def describe_data_root(self) -> str:
        """Say which option or variable names the folder where it looks for data sets."""

    def name_data_root(self, root: str) -> str:
        """Return the words that send its command to the data sets in a folder, as they are typed."""

    def data_root(self, root: str) -> str:
        """Return the folder where it looks for data sets if its command is given this root."""

    def data_holder(self, root: str, data_set: PublishedSet) -> str:
        """Return the folder in its root that one of the set's ``readable`` folders has to lie in."""

    def can_read(self, found: Found) -> bool:
        """Tell whether its command can be sent to where a data set was looked for."""

    def first_preset(self, data_set: PublishedSet) -> str:
        """Name the preset to begin with on a data set."""

    def training_command(self, preset: str, found: Found, cuda: bool) -> str:
        """Return the command that trains by a preset on a data set that it can read."""
