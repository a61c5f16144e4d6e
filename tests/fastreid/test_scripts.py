"""``drsl run``: a ``train_net.py`` of FastReID's shape, unmodified, in one process and in two."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ended import OF_TORCH
from hosts import HOSTS, Host
from scripts import fastreid_left_as_it_was, write_script
from tiny import tiny

from drsl_plugin import run
from drsl_plugin.errors import ConfigError, DRSLError
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.runs.folder import RunFolder

Options = Callable[..., list[str]]
NAMES = "MODEL.LOSSES.NAME"


# Trainers of teams' own, which stand in the script after its imports.
HOOKS = """
from fastreid.engine import hooks

class Trainer(DefaultTrainer):
    def build_hooks(self):
        before = lambda trainer: print("my own hook")
        return [*super().build_hooks(), hooks.CallbackHook(before_train=before)]
"""
OWN_HOOKS = """
from fastreid.engine import hooks

class Trainer(DefaultTrainer):
    def build_hooks(self):
        evaluate = lambda: self.test(self.cfg, self.model)
        self._last_eval_results = None
        return [hooks.LRScheduler(self.optimizer, self.scheduler), hooks.EvalHook(1, evaluate),
                hooks.PeriodicCheckpointer(self.checkpointer, 1)]
"""
LOADER = """
import torch
from fastreid.data import build_reid_train_loader

class Trainer(DefaultTrainer):
    @classmethod
    def build_train_loader(cls, cfg):
        print("my own loader")
        return build_reid_train_loader(cfg, combineall=cfg.DATASETS.COMBINEALL)
"""
OWN_DATA = """
class Trainer(DefaultTrainer):
    @classmethod
    def build_train_loader(cls, cfg):
        cfg = cfg.clone()
        cfg.defrost()
        cfg.DATASETS.NAMES = ("Market1501",)  # whatever it is called there
        return super().build_train_loader(cfg)
"""
OWN_EVALUATOR = """
from fastreid.evaluation import ReidEvaluator

class Trainer(DefaultTrainer):
    @classmethod
    def build_evaluator(cls, cfg, dataset_name, output_dir=None):
        loader, num_query = cls.build_test_loader(cfg, dataset_name)
        print("my own evaluator")
        return loader, ReidEvaluator(cfg, num_query, output_dir)
"""
OWN_MODEL = """
from fastreid.modeling import build_model
from fastreid.solver import build_optimizer

class Trainer(DefaultTrainer):
    @classmethod
    def build_model(cls, cfg):
        print("my own model")
        return build_model(cfg)

    @classmethod
    def build_optimizer(cls, cfg, model):
        return build_optimizer(cfg, model)
"""

# A loop of a team's own, as FastReID's tools/plain_train_net.py has one.
LOOP = """
import torch
from fastreid.config import get_cfg
from fastreid.data import build_reid_train_loader
from fastreid.engine import default_argument_parser, default_setup, launch
from fastreid.modeling import build_model
from fastreid.solver import build_optimizer
from fastreid.utils.events import EventStorage

def main(args):
    cfg = get_cfg()
    cfg.merge_from_list([*args.opts, "MODEL.HEADS.NUM_CLASSES", "8"])
    default_setup(cfg, args)
    loader = iter(build_reid_train_loader(cfg))
    model = build_model(cfg).train()
    optimizer, wrapper = build_optimizer(cfg, model)
    before = model.backbone.conv1.conv.weight.detach().clone()
    with EventStorage(0):
        for _ in range(2):
            losses = model(next(loader))
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
    print("losses:", *sorted(losses))
    print("moved:", not torch.equal(before, model.backbone.conv1.conv.weight))

if __name__ == "__main__":
    args = default_argument_parser().parse_args()
    launch(main, args.num_gpus, args=(args,))
"""


@pytest.fixture(autouse=True)
def left_as_it_was() -> Iterator[None]:
    with fastreid_left_as_it_was():
        yield


@pytest.fixture
def host(demo_root: Path) -> Host:
    return HOSTS["fastreid"](demo_root)


@pytest.fixture
def script(host: Host, tmp_path: Path) -> Path:
    return Path(write_script(host, tmp_path)[0])


@pytest.fixture
def arguments(script: Path, host: Host, fastreid_root: Path, tmp_path: Path) -> Options:
    """``arguments("--resume", **{"SOLVER.MAX_EPOCH": 2})``: those of ``drsl run``, with flags and changed options."""

    def words(*flags: str, folder: str = "run", **changes: Any) -> list[str]:
        options = host.options(tmp_path / folder, **changes)
        return [str(script), "--config-file", str(tmp_path / "mine.yml"), *flags, *options]

    return words


def own_trainer(script: Path, trainer: str) -> None:
    """Put a trainer into the script, and let it use it."""
    imports, defined, rest = script.read_text().partition("def setup(args):")
    script.write_text(imports + trainer + "\n" + defined + rest.replace("DefaultTrainer", "Trainer"))


def first_and_last(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    rows = RunFolder(folder).rows()
    return rows[0], rows[-1]


# Training


def test_a_script_trains_the_weights_that_it_saves(arguments: Options, tmp_path: Path) -> None:
    rates = {"fast": 0.1, "still": 0.0}
    saved = {}
    for folder, rate in rates.items():
        run.main(arguments(folder=folder, **{"SOLVER.BASE_LR": rate, "SOLVER.WARMUP_ITERS": 0}))
        saved[folder] = torch.load(tmp_path / folder / "model_final.pth")["model"]
    weights = [key for key in saved["fast"] if key.endswith("conv.weight")]
    assert weights
    assert all(not torch.equal(saved["fast"][key], saved["still"][key]) for key in weights)


def test_a_script_that_has_trained_all_epochs(host: Host, arguments: Options) -> None:
    run.main(arguments(**tiny(host)))
    with pytest.raises(DRSLError, match=r"has all of its SOLVER.MAX_EPOCH 1 epochs behind it"):
        run.main(arguments("--resume", **tiny(host)))


def test_a_script_evaluates_weights(arguments: Options, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run.main(arguments())
    _, trained = first_and_last(tmp_path / "run")
    with np.load(tmp_path / "run/features-Market1501.npz") as features:
        before = dict(features)
    capfd.readouterr()
    run.main(arguments("--eval-only", folder="eval", **{"MODEL.WEIGHTS": tmp_path / "run/model_final.pth"}))
    table = re.search(r"\| Market1501 +\| ([\d.]+) .*", capfd.readouterr().out)
    assert table is not None
    assert float(table[1]) == pytest.approx(100 * trained["rank1"], abs=0.01)
    with np.load(tmp_path / "eval/features-Market1501.npz") as features:
        np.testing.assert_allclose(features["gallery_features"], before["gallery_features"], rtol=1e-4, atol=1e-5)


# Scripts with a trainer of their own


@pytest.mark.parametrize(
    ("trainer", "said"),
    [(HOOKS, "my own hook"), (LOADER, "my own loader"), (OWN_MODEL, "my own model")],
    ids=["hooks", "loader", "model"],
)
def test_a_part_of_a_teams_own(
    trainer: str, said: str, script: Path, arguments: Options, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own_trainer(script, trainer)
    run.main(arguments())
    assert said in capfd.readouterr().out
    assert "loss_drsl" in first_and_last(tmp_path / "run")[0]


def test_hooks_without_those_of_the_trainer(script: Path, arguments: Options, tmp_path: Path) -> None:
    own_trainer(script, OWN_HOOKS)
    run.main(arguments())
    run.main(arguments("--resume", **{"SOLVER.MAX_EPOCH": 2}))
    checkpoint = torch.load(tmp_path / "run/model_final.pth", weights_only=False)
    assert checkpoint["epoch"] == 1
    assert (tmp_path / "run/features-Market1501.npz").exists()


def test_data_that_a_team_reads_in_its_own_way(script: Path, arguments: Options, tmp_path: Path) -> None:
    own_trainer(script, OWN_DATA)
    run.main(arguments(**{"DATASETS.NAMES": '("Mine",)'}))
    assert "loss_drsl" in first_and_last(tmp_path / "run")[0]


def test_an_evaluator_of_a_teams_own(
    script: Path, arguments: Options, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own_trainer(script, OWN_EVALUATOR)
    run.main(arguments())
    assert "my own evaluator" in capfd.readouterr().out
    assert "mAP" in first_and_last(tmp_path / "run")[1]


def test_a_loop_of_a_teams_own(script: Path, arguments: Options, capfd: pytest.CaptureFixture[str]) -> None:
    script.write_text(LOOP)
    run.main(arguments())
    written = capfd.readouterr().out
    assert "losses: loss_cls loss_drsl\n" in written
    assert "moved: True\n" in written


# Which toolbox it runs


@pytest.fixture
def notes(script: Path, tmp_path: Path) -> Path:
    """Let the script write down what it sees of FastReID, and do nothing else."""
    script.write_text(
        "import json, sys\n"
        "from fastreid.config import get_cfg\n"
        "from fastreid.engine import DefaultTrainer\n"
        "import fastreid.evaluation, fastreid.modeling\n"
        "seen = [sys.argv, sys.path[0], __name__, get_cfg().MODEL.LOSSES.DRSL.SORT, DefaultTrainer.__name__,\n"
        "        fastreid.modeling.build_model.__module__, fastreid.evaluation.ReidEvaluator.__name__]\n"
        f"open({str(tmp_path / 'seen.json')!r}, 'w').write(json.dumps(seen))\n"
    )
    return tmp_path / "seen.json"


def check_seen(notes: Path, script: Path, *argv: str) -> None:
    assert json.loads(notes.read_text()) == [
        [str(script), *argv],
        str(script.parent),
        "__main__",
        "angle",
        "DRSLTrainer",
        "drsl_plugin.fastreid.meta_arch",
        "FeatureEvaluator",
    ]


def test_the_toolbox_is_the_one_that_the_script_imports(notes: Path, script: Path) -> None:
    run.main([str(script), "--some", "words"])
    check_seen(notes, script, "--some", "words")


def test_names_are_ours_wherever_a_script_takes_them_from(script: Path, tmp_path: Path) -> None:
    script.write_text(
        "import json\n"
        "from fastreid.engine.defaults import DefaultTrainer, ReidEvaluator, default_setup\n"
        "from fastreid.engine.launch import launch\n"
        "from fastreid.evaluation import ReidEvaluator as evaluator\n"
        "from fastreid.modeling.meta_arch import build_model\n"
        "from fastreid.solver import build_optimizer\n"
        "names = DefaultTrainer, ReidEvaluator, default_setup, launch, evaluator, build_model, build_optimizer\n"
        f"open({str(tmp_path / 'seen.json')!r}, 'w').write(json.dumps([each.__module__ for each in names]))\n"
    )
    run.main([str(script)])
    modules = json.loads((tmp_path / "seen.json").read_text())
    assert [module.partition(".")[0] for module in modules] == ["drsl_plugin"] * 7


def test_a_script_by_a_relative_path(notes: Path, script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(script.parents[1])
    run.main(["tools/train_net.py"])
    check_seen(notes, script)


@pytest.mark.parametrize("imports", ["neither", "both"])
def test_the_toolbox_can_be_named(imports: str, notes: Path, script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if imports == "neither":  # a module beside it imports FastReID
        text = script.read_text().replace(" __name__", " '__main__'")
        (script.parent / "team_module.py").write_text(text)
        script.write_text("import team_module\n")
        monkeypatch.delitem(sys.modules, "team_module", raising=False)
    else:
        script.write_text(f"import torchreid\n{script.read_text()}")
    with pytest.raises(DRSLError, match=r"say which it runs with --toolbox torchreid or fastreid"):
        run.main([str(script)])
    assert not notes.exists()
    run.main(["--toolbox", "fastreid", str(script)])
    check_seen(notes, script)
    sys.modules.pop("team_module", None)


# What is wrong with its settings


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({NAMES: '("CrossEntropyLoss", "DRSLos")'}, [f"{NAMES} DRSLos: unknown to Baseline"]),
        ({"MODEL.LOSSES.DRSL.TEMPERATURE": -1.0}, ["MODEL.LOSSES.DRSL.TEMPERATURE"]),
        (
            {"DATALOADER.SAMPLER_TRAIN": "TrainingSampler", "SOLVER.OPT": "Lamb"},
            ["SOLVER.OPT Lamb", "DATALOADER.SAMPLER_TRAIN TrainingSampler"],
        ),
        ({"SOLVER.IMS_PER_BATCH": 7}, ["SOLVER.IMS_PER_BATCH 7: no multiple of DATALOADER.NUM_INSTANCE 2"]),
    ],
)
def test_bad_settings_stop_the_script(
    changes: dict[str, Any], lines: list[str], arguments: Options, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as raised:
        run.main(arguments(**changes))
    problems = [str(error) for error in raised.value.errors]
    assert len(problems) == len(lines)
    assert all(problem.startswith(line) for problem, line in zip(problems, lines, strict=True))
    assert not (tmp_path / "run").exists()


def test_an_evaluation_is_not_asked_how_it_would_train(arguments: Options, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"MODEL.WEIGHTS nowhere.pth: no such file") as raised:
        run.main(arguments("--eval-only", **{"MODEL.WEIGHTS": "nowhere.pth", "SOLVER.IMS_PER_BATCH": 7}))
    assert len(raised.value.errors) == 1


def test_an_option_without_a_value(arguments: Options) -> None:
    with pytest.raises(DRSLError, match=r"^drsl run: ") as raised:
        run.main([*arguments(), "SOLVER.OPT"])
    assert "\n" not in str(raised.value)


def test_a_configuration_file_that_is_not_there(arguments: Options) -> None:
    words = arguments()
    words[2] = "nowhere.yml"
    with pytest.raises(DRSLError) as raised:
        run.main(words)
    assert str(raised.value) == "drsl run: no such file: 'nowhere.yml'"


@pytest.mark.parametrize("where", ["the key", "the base"])
def test_a_configuration_file_with_faults(where: str, arguments: Options, tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text({"the key": "MODEL:\n  NOTHING: 1\n", "the base": "_BASE_: gone.yml\n"}[where])
    line = {"the key": "Non-existent config key: MODEL.NOTHING", "the base": "no such file: .*gone.yml"}[where]
    with pytest.raises(DRSLError, match=f"^drsl run: {line}"):
        run.main(arguments())


def test_errors_of_the_scripts_own_are_left_as_they_are(script: Path, arguments: Options) -> None:
    script.write_text(script.read_text().replace("    trainer = ", "    raise ValueError('mine')\n    trainer = "))
    with pytest.raises(ValueError, match=r"^mine$"):
        run.main(arguments())


def test_a_data_set_that_is_not_on_disk(arguments: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastreid.data.build, "_root", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError) as raised:
        run.main(arguments())
    (error,) = raised.value.errors  # once, though both keys name it
    assert str(error).startswith(f"DATASETS.NAMES Market1501: not on disk, no folder {tmp_path / 'nowhere'}")


@pytest.mark.parametrize("key", ["NAMES", "TESTS"])
def test_a_data_set_that_nobody_knows(key: str, arguments: Options, tmp_path: Path) -> None:
    with pytest.raises(DRSLError, match=rf"^DATASETS\.{key} Market: no data set of this name; did you mean Market1501"):
        run.main(arguments(**{f"DATASETS.{key}": '("Market",)'}))
    assert not RunFolder(tmp_path / "run").rows()


# In no more processes than this one, and in two


def test_no_gpu_is_one_process_of_a_script(notes: Path, script: Path, tmp_path: Path) -> None:
    text = script.read_text().replace("\nseen = ", "\ndef main():\n    seen = ").replace("\n        fast", " fast")
    text = text.replace("\nopen(", "\n    open(")
    script.write_text(f"{text}from fastreid.engine import launch\nlaunch(main, 0)\n")
    run.main([str(script)])
    check_seen(notes, script)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="FastReID's own launch takes over")
def test_two_processes_train_with_drsl(
    script: Path, arguments: Options, fastreid_root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script.write_text(f"{script.read_text()}    print('behind them:', __file__)\n")
    run.main(arguments("--num-gpus", "2", "--dist-url", "auto"))
    assert f"behind them: {script}\n" in capfd.readouterr().out
    folder = tmp_path / "run"
    metrics = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert {"loss_cls", "loss_drsl", "drsl_ap"} <= set(metrics[0])
    first, last = first_and_last(folder)
    assert {"loss_drsl", "ap"} <= set(first)
    assert 0 <= last["mAP"] <= 1
    assert json.loads((folder / "environment.json").read_text())["processes"] == 2
    data = fastreid.data.datasets.Market1501(root=str(fastreid_root))
    with np.load(folder / "features-Market1501.npz") as features:
        assert features["query_paths"].tolist() == [path for path, _, _ in data.query]
        assert features["gallery_paths"].tolist() == [path for path, _, _ in data.gallery]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="FastReID's own launch takes over")
def test_a_wrong_name_in_two_processes_is_one_line(
    host: Host, arguments: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = host.command("run", *arguments("--num-gpus", "2", **{NAMES: '("CrossEntropyLoss", "DRSLos")'}))
    assert done.code == 2
    of_processes = capfd.readouterr()
    lines = [*done.lines, *(line for line in of_processes.err.splitlines() if not OF_TORCH(line))]
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"drsl: error: {NAMES} DRSLos: unknown to Baseline, which would train without it")
    assert "Traceback" not in done.output + of_processes.out
    assert not (tmp_path / "run").exists()
