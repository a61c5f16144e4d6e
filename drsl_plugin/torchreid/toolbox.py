"""What Torchreid tells of itself to those who know no toolbox; importing this imports no Torchreid."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from drsl_plugin.data.looking import Found
from drsl_plugin.data.published_set import PublishedSet
from drsl_plugin.errors import DRSLError
from drsl_plugin.runs.config import EvaluationSettings, find_value
from drsl_plugin.toolbox.contract import Keys, RunRequest
from drsl_plugin.toolbox.troubles import Trouble
from drsl_plugin.torchreid.keys import DRSL_KEYS
from drsl_plugin.torchreid.troubles import INSTALL, find_facts, list_troubles

_KEYS = Keys(
    loss="loss.name",
    model="model.name",
    depth="",
    weights="model.load_weights",
    pretrained="model.pretrained",
    sources="data.sources",
    batch="train.batch_size",
    instances="sampler.num_instances",
    epochs="train.max_epoch",
    optimizer="train.optim",
    learning_rate="train.lr",
    schedule="train.lr_scheduler",
    weight_decay="train.weight_decay",
    metric="test.dist_metric",
    reranking="test.rerank",
    seed="train.seed",
    output="data.save_dir",
    drsl=DRSL_KEYS.all_dotted(),
    losses="loss.",
)


class TorchreidToolbox:
    """Torchreid as a :class:`~drsl_plugin.toolbox.Toolbox`."""

    name = "torchreid"
    title = "Torchreid"
    preset_command = "drsl torchreid --config-file NAME --root DIR"
    script = "scripts/main.py"
    script_example = "drsl run scripts/main.py --config-file configs/mine.yaml --root reid-data loss.name drsl"
    install = INSTALL
    demo = "drsl demo"
    keys = _KEYS

    def spell_data_set(self, name: str) -> str:
        """Return what it calls a data set of the catalogue, which has its names."""
        return name

    def has_key(self, key: str) -> bool:
        """Tell whether a key begins with a small letter, as all of its do."""
        return not key[:1].isupper()

    def wrote(self, config: Mapping[str, Any]) -> bool:
        """Tell whether all settings have names in small letters."""
        return bool(config) and all(self.has_key(str(name)) for name in config)

    def evaluation_settings(self, config: Mapping[str, Any]) -> EvaluationSettings:
        """Return how a run evaluated; its Euclidean distance of normalised features ranks as the cosine does."""
        euclidean = find_value(config, self.keys.metric) == "euclidean"
        normalised = bool(find_value(config, "test.normalize_feature"))
        single_shot = bool(find_value(config, "cuhk03.use_metric_cuhk03"))
        return EvaluationSettings("euclidean" if euclidean and not normalised else "cosine", single_shot)

    def build_arguments(self, request: RunRequest) -> list[str]:
        """Return the arguments of ``drsl torchreid`` that start a run, or go on from a checkpoint."""
        changes: dict[str, Any] = {"use_gpu": request.cuda}
        changes |= {"data.sources": [request.data], "data.targets": [request.data], "train.seed": request.seed}
        changes |= {"data.save_dir": str(request.folder), **request.overrides}
        if request.checkpoint:
            changes["model.resume"] = str(request.checkpoint)
        pairs = [word for key, value in changes.items() for word in (key, str(value))]
        return ["--config-file", str(request.config), "--root", str(request.root), *pairs]

    def build_environment(self, root: Path) -> dict[str, str]:
        """Return nothing: the root is among the arguments."""
        return {}

    def find_checkpoint(self, folder: Path) -> Path | None:
        """Return the checkpoint of the last epoch in a run folder, or None."""
        epochs = {path.name.rpartition("-")[2]: path for path in folder.glob("model/model.pth.tar-*")}
        return max(((int(epoch), path) for epoch, path in epochs.items() if epoch.isdecimal()), default=(0, None))[1]

    def problems(self, request: RunRequest) -> Iterator[DRSLError]:
        """Yield all that is wrong with a run and can be found before it starts."""
        from drsl_plugin.torchreid.main import configure, parser
        from drsl_plugin.torchreid.problems import problems

        try:
            cfg, _, wrong = configure(parser().parse_args(self.build_arguments(request)))
        except DRSLError as error:
            yield from error.errors
            return
        yield from wrong
        yield from problems(cfg)

    def main(self, arguments: Sequence[str]) -> object:
        """Run ``drsl torchreid``."""
        from drsl_plugin.torchreid.main import main

        return main(arguments)

    def run_script(self, script: Path, arguments: Sequence[str]) -> None:
        """Run a copy of its ``scripts/main.py`` with DRSL known to it."""
        from drsl_plugin.torchreid.script import run_script

        run_script(script, arguments)

    def troubles(self, package: Path | None) -> list[Trouble]:
        """Return what is known to break in it on this stack."""
        return list_troubles(find_facts(package))

    def describe_data_root(self) -> str:
        """Say which option names the folder where it looks for data sets."""
        return "--root"

    def name_data_root(self, root: str) -> str:
        """Return the option that names a folder of data sets."""
        return f"--root {root}"

    def data_root(self, root: str) -> str:
        """Return the root that it is given."""
        return root

    def data_holder(self, root: str, data_set: PublishedSet) -> str:
        """Return the set's own folder below the root, where it has one."""
        return os.path.join(root, data_set.home)

    def can_read(self, found: Found) -> bool:
        """Tell whether the set lies in the folder that it looks for below a root."""
        return found.data_set.home in ("", os.path.basename(found.holder))

    def first_preset(self, data_set: PublishedSet) -> str:
        """Name the preset to begin with on a data set."""
        return f"{self.name}/osnet_x1_0_drsl_256x128_{data_set.name}"

    def training_command(self, preset: str, found: Found, cuda: bool) -> str:
        """Return the command that trains by a preset on a data set; without a GPU it takes the CPU by itself."""
        above, last = os.path.split(found.holder)
        root = above if last == found.data_set.home else found.holder
        return f"drsl {self.name} --config-file {preset} --root {shlex.quote(root)}"


TOOLBOX = TorchreidToolbox()
