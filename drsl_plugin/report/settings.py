"""The settings of several runs side by side, of one toolbox or of several."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from drsl_plugin.losses.settings import DRSLSettings, TrainingSettings
from drsl_plugin.toolbox import Toolbox
from drsl_plugin.toolbox.registry import find_writer

ENVIRONMENT_LEFT_OUT = ("argv", "toolbox")
SETTING_TITLES = {
    "loss": "loss",
    "model": "model",
    "depth": "depth of the backbone",
    "weights": "weights",
    "pretrained": "pretrained",
    "sources": "trained on",
    "batch": "batch",
    "instances": "images of an identity",
    "epochs": "epochs",
    "optimizer": "optimizer",
    "learning_rate": "learning rate",
    "schedule": "schedule",
    "weight_decay": "weight decay",
    "metric": "metric",
    "reranking": "re-ranking",
    "seed": "seed",
}
"""What to call the keys that every toolbox has, by their names in :class:`~drsl_plugin.toolbox.Keys`."""
DRSL_TITLES = {
    name: f"DRSL: {name.replace('_', ' ')}" for name in (*TrainingSettings.settings(), *DRSLSettings.settings())
}


class SettingsTable(NamedTuple):
    """Settings of some runs."""

    title: str
    runs: list[int]
    rows: list[tuple[str, list[str]]]
    """Each setting's name and its text in each of the runs."""
    folded: bool


def flatten(node: object, prefix: str = "") -> dict[str, str]:
    """Return the leaves of nested settings as text, by their dotted names.

    Args:
        node: of ``config.yaml`` or ``environment.json``.
        prefix: begins the names.

    Example:
        >>> flatten({"loss": {"name": "drsl", "drsl": {"weight": 1.0}}, "steps": [20, 40]})
        {'loss.name': 'drsl', 'loss.drsl.weight': '1.0', 'steps': '[20, 40]'}
    """
    if isinstance(node, Mapping) and node:
        parts = (flatten(value, f"{prefix}.{name}" if prefix else str(name)) for name, value in node.items())
        return {name: text for part in parts for name, text in part.items()}
    text = node if isinstance(node, str) else json.dumps(node, ensure_ascii=False, default=str)
    return {prefix: text} if prefix else {}


def settings_tables(configs: Sequence[Mapping[str, str]]) -> list[SettingsTable]:
    """Return what to show of the runs' settings.

    Of one run the loss's, of several those that differ; the others are folded away. Runs of different toolboxes
    have no names in common: they are compared by what each toolbox has under a name of its own.

    Args:
        configs: flattened, a run each; empty where a run has none.
    """
    writers: dict[Toolbox, list[int]] = {}
    for run, config in enumerate(configs):
        if writer := find_writer(config):
            writers.setdefault(writer, []).append(run)
    tables = []
    if len(writers) > 1:
        all_runs = [run for runs in writers.values() for run in runs]
        title = f"In {_name_count(len(writers))} toolboxes"
        tables.append(SettingsTable(title, all_runs, _compare_toolboxes(configs, writers), False))
    for writer, runs in writers.items():
        mine = [{key: text for key, text in configs[run].items() if key != writer.keys.output} for run in runs]
        open_rows, folded = _split(mine, writer.keys.losses)
        of_toolbox = f"{writer.title}: " if len(writers) > 1 else ""
        what = ("loss", "the others") if len(runs) == 1 else ("different", f"the same in {_name_count(len(runs))}")
        tables.append(SettingsTable(of_toolbox + what[0], runs, open_rows, len(writers) > 1))
        tables.append(SettingsTable(of_toolbox + what[1], runs if len(runs) == 1 else runs[:1], folded, True))
    return [table for table in tables if table.rows]


def different(settings: Sequence[Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    """Return the names whose texts differ, with the text in each; ``""`` where one has no such name.

    Args:
        settings: flattened.

    Example:
        >>> different([{"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}])
        [('b', ['2', '3']), ('c', ['', '4'])]
    """
    names = dict.fromkeys(name for each in settings for name in each)
    rows = [(name, [each.get(name, "") for each in settings]) for name in names]
    return [(name, texts) for name, texts in rows if len({each.get(name) for each in settings}) > 1]


def _name_count(number: int) -> str:
    return "both" if number == 2 else f"all {number}"


def _split(
    configs: Sequence[Mapping[str, str]], losses: str
) -> tuple[list[tuple[str, list[str]]], list[tuple[str, list[str]]]]:
    """Return the rows to show and those to fold away, which of several runs are those that are the same.

    Args:
        configs: flattened, a run each, of one toolbox; without the run's own folder, which differs always.
        losses: how the keys of its losses begin, which are shown of a run alone.
    """
    if len(configs) == 1:
        rows = [(name, [text]) for name, text in configs[0].items()]
        loss = [row for row in rows if row[0].startswith(losses)]
        return loss, [row for row in rows if row not in loss]
    differing = different(configs)
    names = {name for name, _ in differing}
    return differing, [(name, [text]) for name, text in configs[0].items() if name not in names]


def _compare_toolboxes(
    configs: Sequence[Mapping[str, str]], writers: Mapping[Toolbox, Sequence[int]]
) -> list[tuple[str, list[str]]]:
    """Return a row for each key that toolboxes have under names of their own, where a run has it."""
    columns = [
        (configs[run], {**vars(writer.keys), **writer.keys.drsl}) for writer, runs in writers.items() for run in runs
    ]
    rows = []
    for name, title in (SETTING_TITLES | DRSL_TITLES).items():
        texts = [config.get(keys.get(name, ""), "") for config, keys in columns]
        if any(texts):
            rows.append((title, texts))
    return rows
