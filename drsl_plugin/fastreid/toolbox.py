"""What FastReID tells of itself to those who know no toolbox; importing this imports no FastReID."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from drsl_plugin.data.looking import Found
from drsl_plugin.data.published_set import PublishedSet
from drsl_plugin.errors import DRSLError
from drsl_plugin.fastreid.keys import DRSL_KEYS
from drsl_plugin.fastreid.troubles import INSTALL, find_facts, list_troubles
from drsl_plugin.runs.config import EvaluationSettings, find_value
from drsl_plugin.toolbox.contract import Keys, RunRequest
from drsl_plugin.toolbox.troubles import Trouble

ROOT = "FASTREID_DATASETS"
"""The variable of the environment that names the folder of data sets; read when FastReID is imported."""
_DATA_SETS = {"market1501": "Market1501", "msmt17": "MSMT17", "cuhk03": "CUHK03"}
_KEYS = Keys(
    loss="MODEL.LOSSES.NAME",
    model="MODEL.BACKBONE.NAME",
    depth="MODEL.BACKBONE.DEPTH",
    weights="MODEL.WEIGHTS",
    pretrained="MODEL.BACKBONE.PRETRAIN",
    sources="DATASETS.NAMES",
    batch="SOLVER.IMS_PER_BATCH",
    instances="DATALOADER.NUM_INSTANCE",
    epochs="SOLVER.MAX_EPOCH",
    optimizer="SOLVER.OPT",
    learning_rate="SOLVER.BASE_LR",
    schedule="SOLVER.SCHED",
    weight_decay="SOLVER.WEIGHT_DECAY",
    metric="TEST.METRIC",
    reranking="TEST.RERANK.ENABLED",
    seed="SEED",
    output="OUTPUT_DIR",
    drsl=DRSL_KEYS.all_dotted(),
    losses="MODEL.LOSSES.",
)


class FastReIDToolbox:
    """FastReID as a :class:`~drsl_plugin.toolbox.Toolbox`."""

    name = "fastreid"
    title = "FastReID"
    preset_command = f"{ROOT}=DIR drsl fastreid --config-file NAME"
    script = "tools/train_net.py"
    script_example = (
        "drsl run tools/train_net.py --config-file configs/mine.yml MODEL.LOSSES.NAME "
        '\'("CrossEntropyLoss","DRSLoss")\''
    )
    install = INSTALL
    demo = ""
    keys = _KEYS

    def spell_data_set(self, name: str) -> str:
        """Return what it calls a data set of the catalogue; any other keeps its name."""
        return _DATA_SETS.get(name, name)

    def has_key(self, key: str) -> bool:
        """Tell whether a key begins with a capital letter, as all of its do."""
        return key[:1].isupper()

    def wrote(self, config: Mapping[str, Any]) -> bool:
        """Tell whether a setting has a name in capital letters."""
        return any(self.has_key(str(name)) for name in config)

    def evaluation_settings(self, config: Mapping[str, Any]) -> EvaluationSettings:
        """Return how a run evaluated; cosine where its settings do not say."""
        return EvaluationSettings("euclidean" if find_value(config, self.keys.metric) == "euclidean" else "cosine")

    def build_arguments(self, request: RunRequest) -> list[str]:
        """Return the arguments of ``drsl fastreid`` that start a run, or go on from its last checkpoint."""
        data = (self.spell_data_set(request.data),)
        changes: dict[str, Any] = {"MODEL.DEVICE": "cuda" if request.cuda else "cpu"}
        changes |= {"DATASETS.NAMES": data, "DATASETS.TESTS": data, "SEED": request.seed}
        changes |= {"OUTPUT_DIR": str(request.folder), **request.overrides}
        resume = ["--resume"] if request.checkpoint else []
        pairs = [word for key, value in changes.items() for word in (key, str(value))]
        return ["--config-file", str(request.config), *resume, *pairs]

    def build_environment(self, root: Path) -> dict[str, str]:
        """Return the variable that names the folder of data sets."""
        return {ROOT: str(root.absolute())}

    def find_checkpoint(self, folder: Path) -> Path | None:
        """Return the file that names the last checkpoint of a run folder, or None."""
        tag = folder / "last_checkpoint"
        return tag if tag.is_file() else None

    def problems(self, request: RunRequest) -> Iterator[DRSLError]:
        """Yield all that is wrong with a run and can be found before it starts."""
        for name, value in self.build_environment(request.root).items():
            os.environ.setdefault(name, value)  # read when FastReID is imported, which is here
        from drsl_plugin.fastreid import datasets
        from drsl_plugin.fastreid.main import configure, parser
        from drsl_plugin.fastreid.problems import config_problems

        try:
            cfg, _, found = configure(parser().parse_args(self.build_arguments(request)))
        except DRSLError as error:
            yield from error.errors
            return
        yield from found
        yield from config_problems(cfg)
        if datasets.root().absolute() == request.root.absolute():
            yield from datasets.dataset_problems(cfg)

    def main(self, arguments: Sequence[str]) -> object:
        """Run ``drsl fastreid``."""
        from drsl_plugin.fastreid.main import main

        return main(arguments)

    def run_script(self, script: Path, arguments: Sequence[str]) -> None:
        """Run a script such as its ``tools/train_net.py`` with DRSL known to it."""
        from drsl_plugin.fastreid.script import run_script

        run_script(script, arguments)

    def troubles(self, package: Path | None) -> list[Trouble]:
        """Return what is known to break in it on this stack."""
        return list_troubles(find_facts(package))

    def describe_data_root(self) -> str:
        """Say which variable names the folder where it looks for data sets."""
        return f"${ROOT} ({'is set' if ROOT in os.environ else 'is not set, so ./datasets'})"

    def name_data_root(self, root: str) -> str:
        """Return the variable that names a folder of data sets, set to it."""
        return f"{ROOT}={root}"

    def data_root(self, root: str) -> str:
        """Return the folder that the environment names; its command takes no root."""
        return os.environ.get(ROOT, "datasets")

    def data_holder(self, root: str, data_set: PublishedSet) -> str:
        """Return the root itself."""
        return root

    def can_read(self, found: Found) -> bool:
        """Tell that it can be sent to any folder."""
        return True

    def first_preset(self, data_set: PublishedSet) -> str:
        """Name the preset to begin with on a data set."""
        return f"{self.name}/{self.spell_data_set(data_set.name)}/bagtricks_R50_drsl"

    def training_command(self, preset: str, found: Found, cuda: bool) -> str:
        """Return the command that trains by a preset on a data set, sent there where it would look elsewhere."""
        where = "" if found.holder == self.data_root("") else f"{ROOT}={shlex.quote(found.holder)} "
        return f"{where}drsl {self.name} --config-file {preset}{'' if cuda else ' MODEL.DEVICE cpu'}"


TOOLBOX = FastReIDToolbox()
