"""The settings of several runs side by side, of one toolbox or of both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

FOLDERS = ("data.save_dir", "OUTPUT_DIR")
"""They name the run's own folder, so they differ always and say nothing."""
LOSS = ("loss.", "MODEL.LOSSES.")
ENVIRONMENT_LEFT_OUT = ("argv", "toolbox")
COUNTERPARTS = {
    "loss": ("loss.name", "MODEL.LOSSES.NAME"),
    "model": ("model.name", "MODEL.BACKBONE.NAME"),
    "depth of the backbone": ("", "MODEL.BACKBONE.DEPTH"),
    "weights": ("model.load_weights", "MODEL.WEIGHTS"),
    "pretrained": ("model.pretrained", "MODEL.BACKBONE.PRETRAIN"),
    "trained on": ("data.sources", "DATASETS.NAMES"),
    "batch": ("train.batch_size", "SOLVER.IMS_PER_BATCH"),
    "images of an identity": ("sampler.num_instances", "DATALOADER.NUM_INSTANCE"),
    "epochs": ("train.max_epoch", "SOLVER.MAX_EPOCH"),
    "optimizer": ("train.optim", "SOLVER.OPT"),
    "learning rate": ("train.lr", "SOLVER.BASE_LR"),
    "schedule": ("train.lr_scheduler", "SOLVER.SCHED"),
    "weight decay": ("train.weight_decay", "SOLVER.WEIGHT_DECAY"),
    "metric": ("test.dist_metric", "TEST.METRIC"),
    "re-ranking": ("test.rerank", "TEST.RERANK.ENABLED"),
    "DRSL: weight": ("loss.drsl.weight", "MODEL.LOSSES.DRSL.SCALE"),
    "DRSL: distance": ("loss.drsl.distance", "MODEL.LOSSES.DRSL.DISTANCE"),
    "DRSL: temperature": ("loss.drsl.temperature", "MODEL.LOSSES.DRSL.TEMPERATURE"),
    "DRSL: relaxation": ("loss.drsl.relaxation", "MODEL.LOSSES.DRSL.RELAXATION"),
    "DRSL: sort": ("loss.drsl.sort", "MODEL.LOSSES.DRSL.SORT"),
    "DRSL: sort weight": ("loss.drsl.sort_weight", "MODEL.LOSSES.DRSL.SORT_WEIGHT"),
    "DRSL: memory": ("loss.drsl.memory_size", "MODEL.LOSSES.DRSL.MEMORY_SIZE"),
    "seed": ("train.seed", "SEED"),
}
"""What Torchreid and FastReID call the same thing."""


class Table(NamedTuple):
    """Settings of some runs."""

    title: str
    runs: list[int]
    rows: list[tuple[str, list[str]]]
    """Each setting's name and its text in each of the runs."""
    folded: bool


def flatten(node: Any, prefix: str = "") -> dict[str, str]:
    """Return the leaves of nested settings as text, by their dotted names.

    Args:
        node: of ``config.yaml`` or ``environment.json``.
        prefix: in front of the names.

    Example:
        >>> flatten({"loss": {"name": "drsl", "drsl": {"weight": 1.0}}, "steps": [20, 40]})
        {'loss.name': 'drsl', 'loss.drsl.weight': '1.0', 'steps': '[20, 40]'}
    """
    if isinstance(node, Mapping) and node:
        parts = (flatten(value, f"{prefix}.{name}" if prefix else str(name)) for name, value in node.items())
        return {name: text for part in parts for name, text in part.items()}
    text = node if isinstance(node, str) else json.dumps(node, ensure_ascii=False, default=str)
    return {prefix: text} if prefix else {}


def settings_tables(configs: Sequence[Mapping[str, str]]) -> list[Table]:
    """Return what to show of the runs' settings.

    Of one run the loss's, of several those that differ; the others are folded away. Runs of the two toolboxes have no
    names in common: they are compared by what both have under names of their own.

    Args:
        configs: flattened, a run each; empty where a run has none.
    """
    toolboxes: dict[str, list[int]] = {}
    for run, config in enumerate(configs):
        if config:
            toolboxes.setdefault(_toolbox(config), []).append(run)
    tables = []
    if len(toolboxes) > 1:
        tables.append(
            Table(
                "In both toolboxes",
                [run for runs in toolboxes.values() for run in runs],
                _counterparts(configs, toolboxes),
                False,
            )
        )
    for toolbox, runs in toolboxes.items():
        mine = [{name: text for name, text in configs[run].items() if name not in FOLDERS} for run in runs]
        shown, folded = _split(mine)
        of_toolbox = f"{toolbox}: " if len(toolboxes) > 1 else ""
        what = ("loss", "the others") if len(runs) == 1 else ("different", f"the same in {_all(len(runs))}")
        tables.append(Table(of_toolbox + what[0], runs, shown, len(toolboxes) > 1))
        tables.append(Table(of_toolbox + what[1], runs if len(runs) == 1 else runs[:1], folded, True))
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


def _all(count: int) -> str:
    return "both" if count == 2 else f"all {count}"


def _toolbox(config: Mapping[str, str]) -> str:
    return "FastReID" if any(name.startswith(("MODEL.", "SOLVER.")) for name in config) else "Torchreid"


def _split(configs: Sequence[Mapping[str, str]]) -> tuple[list[tuple[str, list[str]]], list[tuple[str, list[str]]]]:
    """Return the rows to show and those to fold away, which of several runs are those that are the same."""
    if len(configs) == 1:
        rows = [(name, [text]) for name, text in configs[0].items()]
        loss = [row for row in rows if row[0].startswith(LOSS)]
        return loss, [row for row in rows if row not in loss]
    shown = different(configs)
    names = {name for name, _ in shown}
    return shown, [(name, [text]) for name, text in configs[0].items() if name not in names]


def _counterparts(
    configs: Sequence[Mapping[str, str]], toolboxes: Mapping[str, Sequence[int]]
) -> list[tuple[str, list[str]]]:
    rows = []
    for title, names in COUNTERPARTS.items():
        texts = [
            configs[run].get(names[toolbox == "FastReID"], "") for toolbox in toolboxes for run in toolboxes[toolbox]
        ]
        if any(texts):
            rows.append((title, texts))
    return rows
