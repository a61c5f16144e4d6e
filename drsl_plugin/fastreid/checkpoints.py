"""FastReID's checkpoints, under its names: written whole, resumed exactly, refused where they are another model's."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drsl_plugin.errors import SettingError
from drsl_plugin.fastreid.going_on import RunSettings, explain_refusal, go_on_as_set
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.memory import KEY, tell_of_memories
from drsl_plugin.runs.checkpoint_files import check_kind, load
from drsl_plugin.runs.folder import whole_file
from drsl_plugin.toolbox.going_on import SETTINGS

logger = logging.getLogger("fastreid.drsl")


class ExactCheckpointer(fastreid.utils.checkpoint.Checkpointer):
    """FastReID's ``Checkpointer``, for which another model's file is an error: the stock one takes what fits of it.

    Args:
        model: as in FastReID, like the others.
        save_dir: the run's folder.
        save_to_disk: False writes nothing, as all processes but one do.
        **checkpointables: objects with ``state_dict`` and ``load_state_dict``.
    """

    _setting = "MODEL.WEIGHTS"
    """The setting that names the file that is loaded, for errors."""
    _path = ""
    """That file."""

    def save(self, name: str, **kwargs: Any) -> None:
        """Save the states as FastReID does; a file is replaced by a whole one alone."""
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: each.state_dict() for key, each in self.checkpointables.items()}
        path = Path(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {path}")
        with whole_file(path) as unfinished:
            torch.save({"model": self.model.state_dict(), **states, **kwargs}, unfinished)
        self.tag_last_checkpoint(path.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the last checkpoint, by a file that is whole."""
        with whole_file(Path(self.save_dir, "last_checkpoint")) as unfinished:
            unfinished.write_text(last_filename_basename, encoding="utf-8")

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Go on from the last checkpoint where there is one, or start from the weights in ``path``.

        Returns:
            What the checkpoint holds beside the states that were loaded.

        Raises:
            SettingError: a file of another model or optimizer.
        """
        self._setting = "--resume" if resume and self.has_checkpoint() else "MODEL.WEIGHTS"
        others: dict[str, Any] = super().resume_or_load(path, resume=resume)
        return others

    def load_for_evaluation(self, path: str) -> None:
        """Load weights to evaluate: all of them but the classifier's.

        Raises:
            SettingError: a file of another model.
        """
        self._setting = "--eval-only MODEL.WEIGHTS"
        self.load(path, checkpointables=[])

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load as FastReID does.

        Returns:
            What the file holds beside the states that were loaded.

        Raises:
            SettingError: no such file, or a state that does not fit.
        """
        self._path = path
        if path and "://" not in path and not Path(path).is_file():
            raise self._refuse("no such file")
        try:
            others: dict[str, Any] = super().load(path, checkpointables)
        except (ValueError, KeyError) as error:
            if isinstance(error, SettingError) and error.setting == self._setting:
                raise
            raise self._refuse(" ".join(str(error).split())) from error
        return others

    def _refuse(self, why: str) -> SettingError:
        """Return the error of a file that cannot be used."""
        return SettingError(self._setting, self._path, why)

    def _load_file(self, f: str) -> dict[str, Any]:
        checkpoint = load(f, self._setting)
        if "model" not in checkpoint:
            raise SettingError(self._setting, f, "no `model` in it, so it is no checkpoint of FastReID")
        if self._setting == "--resume":
            self._check_states(checkpoint)
        return checkpoint

    def _check_states(self, checkpoint: dict[str, Any]) -> None:
        missing = [key for key in ("optimizer", "epoch") if key not in checkpoint]
        if missing:
            raise self._refuse(f"no {' and no '.join(missing)} in it, so training cannot go on from it")
        optimizer, groups = self.checkpointables["optimizer"], checkpoint["optimizer"]["param_groups"]
        check_kind(optimizer, groups, self._setting, self._path, "SOLVER.OPT")
        tell_of_memories(checkpoint, self.checkpointables.get(KEY), f"{self._setting} {self._path}")

    def _go_on(self, checkpoint: dict[str, Any]) -> None:
        """Let the settings of this run hold in the states that are to be loaded, and tell what is another."""
        run = self.checkpointables.get(SETTINGS)
        if not isinstance(run, RunSettings):
            return
        why = explain_refusal(checkpoint, self.checkpointables, run)
        if why:
            raise self._refuse(why)
        for line in go_on_as_set(checkpoint, self.checkpointables, run):
            logger.warning(f"{self._setting} {self._path}: {line}")

    def _load_model(self, checkpoint: dict[str, Any]) -> object:
        saved = {key.removeprefix("module."): value for key, value in checkpoint["model"].items()}
        own = self.model.state_dict()
        wrong = _compare(own, saved)
        if self._setting.startswith("--eval-only"):
            wrong = {key: how for key, how in wrong.items() if not _is_classifiers(key)}
        elif self._setting == "MODEL.WEIGHTS" and 2 * len(own.keys() - wrong.keys()) >= len(own):
            wrong = {}  # a start for another data set or with other losses: FastReID logs what it leaves out
        if wrong:
            first = "; ".join(f"{key} {how}" for key, how in list(wrong.items())[:2])
            more = f" (and {len(wrong) - 2} more)" if len(wrong) > 2 else ""
            raise self._refuse(f"a checkpoint of another model: {first}{more}")
        if self._setting == "--resume":
            self._go_on(checkpoint)
        return super()._load_model(checkpoint)


def _compare(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> dict[str, str]:
    """Return what is wrong with a checkpoint's weights, by their names: missing, unknown, of another shape."""
    wrong = {key: "is missing" for key in own if key not in saved}
    wrong |= {key: "is unknown" for key in saved if key not in own}
    for key, value in own.items():
        if key in saved and saved[key].shape != value.shape:
            wrong[key] = f"has shape {tuple(saved[key].shape)} there and {tuple(value.shape)} in the model"
    return wrong


def _is_classifiers(key: str) -> bool:
    """Tell whether a weight is a classifier's, which no evaluation uses."""
    parts = key.split(".")
    return len(parts) > 1 and parts[0].endswith(("heads", "head")) and parts[1] in ("weight", "cls_layer")
