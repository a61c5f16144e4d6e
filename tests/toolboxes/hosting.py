"""What the tests of both toolboxes ask of one: what it calls a setting, a file or an argument, and how it is run."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from ended import OF_TORCH, Ended
from torch import Tensor
from typer.testing import CliRunner

from drsl_plugin.cli import app
from drsl_plugin.losses.settings import DRSLSettings, TrainingSettings
from drsl_plugin.runs.checkpoint_files import load
from drsl_plugin.runs.folder import RunFolder

PARTS = ("ranking", "sorting", "ap", "above_all")  # of DRSL, in the rows of steps
OF_DRSL = (*DRSLSettings.settings(), *TrainingSettings.settings())

Samples = dict[str, list[tuple[Any, ...]]]
"""Path, identity and camera of each sample of ``train``, ``query`` and ``gallery``."""


class Host(ABC):
    """A toolbox under test, which reads the rendered Market-1501.

    Changes of a run's settings come by plain names (``epochs=2``, ``temperature=0.1``), which are those of
    :attr:`keys` and DRSL's own, ``losses``, ``model`` and ``images``; or by the toolbox's own keys, which have a dot in
    them or are in capitals.
    """

    name: str
    """As the command has it."""
    title: str
    target: str
    """What the rendered data set is called there."""
    data_folder: str
    """Where it lies below the folder of all data sets."""
    market: str
    """Where the three folders of the rendered data set lie there, as the toolbox spells it."""
    preset: str
    """One of its presets."""
    losses: dict[str, dict[str, Any]]
    """What trains by a kind of loss."""
    triplet: str
    """What it calls the triplet loss in its logs."""
    models: dict[str, dict[str, Any]]
    """The smallest model, and a larger one."""
    images: dict[str, dict[str, Any]]
    """What is done to the training images."""
    schedules: dict[str, dict[str, Any]]
    """What chooses a learning rate's schedule: a cosine, or steps after epochs."""
    frozen: dict[str, Any]
    """All but the classifier, for some steps at first."""

    of_classes: frozenset[str]
    """What it logs of the classification."""
    columns: dict[str, set[str]]
    """What each row of a step has by a kind of loss, besides the step, the epoch and the learning rate."""
    blamed: dict[str, set[str]]
    """What an error names that tells of a loss which is not finite."""
    ranks: tuple[int, ...]
    """The ranks of its evaluations."""
    several_sources: str
    """Its key of the data sets to train on."""
    other_states: tuple[tuple[str, str, str], ...]
    """Settings whose state is not that of the smallest run, their values, and what an error calls these."""
    of_first_process: frozenset[str] = frozenset()
    """What it logs of the first process's share of a batch alone."""
    whole_identities: bool
    """Whether all images of a batch that show an identity go to one process."""
    perhaps: frozenset[str] = frozenset()
    """Files of a run that are there or not."""
    keys: dict[str, str]
    """What the toolbox calls what a plain name means."""
    smallest: dict[str, Any]
    """The smallest run, by the toolbox's own keys."""
    of_this_process: frozenset[str] = frozenset()
    """The places in a checkpoint that tell of the process that wrote it, and not of the run."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def key(self, name: str) -> str:
        """What the toolbox calls a setting."""
        return name if "." in name or name.isupper() else self.keys[name]

    def settings(self, **changes: Any) -> dict[str, Any]:
        """The settings of the smallest run with changes, by the toolbox's own keys."""
        several = {"losses": self.losses, "model": self.models, "images": self.images, "schedule": self.schedules}
        changed: dict[str, Any] = {}
        for name, value in changes.items():
            changed |= several[name][value] if name in several else {self.key(name): value}
        return {**self.smallest, **changed}

    def options(self, folder: Path, **changes: Any) -> list[str]:
        """The ``key value`` pairs of the smallest run with changes."""
        settings = {self.key("folder"): folder} | self.settings(**changes)
        return [str(word) for pair in settings.items() for word in pair]

    @abstractmethod
    def words(
        self,
        folder: Path,
        *,
        resume: Path | bool | None = None,
        evaluate: Path | None = None,
        weights: Path | None = None,
        **changes: Any,
    ) -> list[str]:
        """The arguments of a run.

        Args:
            folder: what it leaves goes there.
            resume: go on from this checkpoint, or, True, from the folder's last one.
            evaluate: evaluate this checkpoint and train nothing.
            weights: begin with the weights of this checkpoint.
            changes: of the smallest run.
        """

    @property
    @abstractmethod
    def typed(self) -> dict[str, Any]:
        """All keys that a user may type, and their defaults; without those that make a run small and find its data."""

    @property
    @abstractmethod
    def environment(self) -> dict[str, str]:
        """What a process of its own needs to know."""

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Read the rendered data set in this process."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            yield

    def command(self, *words: object) -> Ended:
        """Run ``drsl`` in this process; an error that is not bad input is raised as it is."""
        with self.reading():
            result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        return Ended(
            result.exit_code, result.stdout, [line for line in result.stderr.splitlines() if not OF_TORCH(line)]
        )

    def run(self, folder: Path, **changes: Any) -> Ended:
        """Run the toolbox's command; the arguments are those of :meth:`words`."""
        return self.command(self.name, *self.words(folder, **changes))

    def train(self, folder: Path, **changes: Any) -> Ended:
        """Run the toolbox's command, and see that nothing is wrong."""
        ended = self.run(folder, **changes)
        assert (ended.code, ended.lines) == (0, []), ended.lines[:5]
        return ended

    def refusal(self, folder: Path, **changes: Any) -> str:
        """Run the toolbox's command, and return the one thing that is wrong."""
        return self.run(folder, **changes).error

    def steps(self, folder: Path) -> list[dict[str, Any]]:
        """The rows of a run's steps, without its evaluations."""
        return [row for row in RunFolder(folder).rows() if "lr" in row]

    def evaluations(self, folder: Path) -> list[dict[str, Any]]:
        return [row for row in RunFolder(folder).rows() if "mAP" in row]

    def features(self, folder: Path) -> Path:
        return folder / f"features-{self.target}.npz"

    @abstractmethod
    def checkpoint(self, folder: Path, epoch: int | None = None) -> Path:
        """The last checkpoint of a run, or that of the epoch, from 1, which has ended and is not the last."""

    @abstractmethod
    def checkpoint_of_epoch(self, folder: Path, epoch: int, *, last: bool = False) -> Path:
        """Where a run saves an epoch, from 1, or the last one, whether it is there by now or not."""

    def checkpoints(self, folder: Path) -> dict[str, dict[str, Any]]:
        """All checkpoints of a run, by their files' names."""
        return {path.name: load(path, "") for path in sorted(self.checkpoint(folder).parent.glob("*.pth*"))}

    @abstractmethod
    def best(self, folder: Path) -> Path:
        """The checkpoint that was best by the evaluations."""

    @abstractmethod
    def epoch(self, checkpoint: Path) -> int:
        """How many epochs a checkpoint has."""

    @abstractmethod
    def way_on(self, checkpoint: Path) -> str:
        """What a run that was interrupted says of its last checkpoint."""

    @abstractmethod
    def parameters(self, checkpoint: Path) -> dict[str, torch.Tensor]:
        """The weights in a checkpoint."""

    @abstractmethod
    def log(self, folder: Path) -> str:
        """The log of a run."""

    @property
    @abstractmethod
    def package(self) -> ModuleType:
        """The toolbox itself."""

    @property
    @abstractmethod
    def data_set(self) -> type:
        """The toolbox's class of the rendered data set."""

    @property
    @abstractmethod
    def random_patch(self) -> type:
        """The toolbox's class that pastes patches of other images."""

    @property
    @abstractmethod
    def data_sets(self) -> dict[str, Any]:
        """The toolbox's registry of data sets."""

    @contextlib.contextmanager
    def named_again(self, name: str) -> Iterator[None]:
        """Know the data set under another name, too."""
        known = self.data_sets
        known[name] = self.data_set
        try:
            yield
        finally:
            known.pop(name)

    @abstractmethod
    def evaluated_on(self, *names: str) -> dict[str, Any]:
        """The settings of a run that evaluates on these data sets."""

    @abstractmethod
    def distances(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """What the toolbox's evaluations rank by where nothing is said."""

    @abstractmethod
    def told_step(self, before: int, step: int) -> int:
        """The number that an error has for a step of an epoch, before which so many steps were taken."""

    @abstractmethod
    def alter_images(self, patch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> None:
        """Give each training step what ``change`` makes of its images."""

    @abstractmethod
    def register(self, patch: pytest.MonkeyPatch, name: str, read: Callable[[Any], Samples]) -> None:
        """Make a data set of a user's own known, whose class has ``read``; it is called with the object."""

    @abstractmethod
    def sets(self, sources: Sequence[str], targets: Sequence[str]) -> dict[str, Any]:
        """The changes of the smallest run that train and evaluate on these data sets."""

    @abstractmethod
    def score(self, patch: pytest.MonkeyPatch, *scores: float | BaseException) -> None:
        """Give the evaluations to come these scores, by which the best is chosen, or raise; one after the other."""


def flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a configuration by their dotted keys."""
    leaves: dict[str, Any] = {}
    for name, value in node.items():
        key = f"{prefix}{name}"
        leaves |= flat(value, f"{key}.") if isinstance(value, Mapping) and value else {key: value}
    return leaves


def taken(scores: Iterator[float | BaseException]) -> float:
    """The next score, unless it is an error."""
    score = next(scores)
    if isinstance(score, BaseException):
        raise score
    return score
