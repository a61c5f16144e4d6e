"""What a toolbox tells of itself is true of the toolbox, and is told without importing it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drsl_plugin.losses.settings import DRSLSettings, TrainingSettings
from drsl_plugin.runs.config import EvaluationSettings
from drsl_plugin.toolbox import TOOLBOXES, RunRequest, Toolbox, toolbox, toolboxes
from drsl_plugin.toolbox.merging import leaves
from drsl_plugin.toolbox.registry import find_writer
from drsl_plugin.toolbox.rendering import render_with_progress

SETTINGS = {*DRSLSettings.settings(), *TrainingSettings.settings()}


@pytest.fixture(params=TOOLBOXES)
def box(request: pytest.FixtureRequest) -> Toolbox:
    return toolbox(request.param)


def default_config(box: Toolbox) -> dict[str, Any]:
    if box.name == "torchreid":
        from drsl_plugin.torchreid import get_default_config

        return dict(leaves(get_default_config()))
    from drsl_plugin.fastreid.config import get_cfg

    return dict(leaves(get_cfg()))


def request_in(folder: Path, **settings: Any) -> RunRequest:
    plain = {"config": folder / "mine.yaml", "data": "market1501", "seed": 3, "folder": folder / "run"}
    return RunRequest(**{**plain, "root": folder, "cuda": False, "overrides": {}, **settings})


def test_asking_imports_no_toolbox() -> None:
    program = """
import sys
from drsl_plugin.toolbox import toolboxes
for each in toolboxes():
    each.wrote({}), each.spell_data_set("msmt17"), each.evaluation_settings({})
print({"torchreid", "fastreid", "yacs", "cv2"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_its_keys_are_in_its_configuration(box: Toolbox) -> None:
    known = default_config(box)
    named = {**vars(box.keys), **box.keys.drsl}
    keys = {key for key in named.values() if isinstance(key, str) and key} - {box.keys.losses}
    assert keys <= {*known, *box.keys.drsl.values()}
    assert all(box.has_key(key) for key in known)
    assert all(key.startswith(box.keys.losses) for key in (box.keys.loss, *box.keys.drsl.values()))
    assert set(box.keys.drsl) <= SETTINGS


def test_every_setting_of_the_loss_has_a_key(box: Toolbox) -> None:
    assert set(DRSLSettings.settings()) <= set(box.keys.drsl)


def test_no_two_toolboxes_claim_a_key_or_a_configuration(box: Toolbox) -> None:
    others = [each for each in toolboxes() if each is not box]
    for key in (each for each in vars(box.keys).values() if isinstance(each, str) and each):
        assert not any(each.has_key(key) for each in others)
        node = {key.partition(".")[0]: {}}
        assert find_writer(node) is box
    assert find_writer({}) is None


def test_the_name_is_of_the_folder_of_its_presets(box: Toolbox) -> None:
    from drsl_plugin.presets import preset_names

    assert preset_names(box.name)


def test_a_request_becomes_arguments(box: Toolbox, tmp_path: Path) -> None:
    words = box.build_arguments(request_in(tmp_path, overrides={box.keys.epochs: 7, box.keys.seed: 5}))
    assert words[:2] == ["--config-file", str(tmp_path / "mine.yaml")]
    assert words[words.index(box.keys.epochs) + 1] == "7"
    assert words[words.index(box.keys.seed) + 1] == "5"  # an override goes over the rest
    assert words[words.index(box.keys.output) + 1] == str(tmp_path / "run")
    assert box.spell_data_set("market1501") in words[words.index(box.keys.sources) + 1]
    resumed = box.build_arguments(request_in(tmp_path, checkpoint=tmp_path / "checkpoint"))
    assert len(resumed) > len(box.build_arguments(request_in(tmp_path)))


def test_without_checkpoints_there_is_none(box: Toolbox, tmp_path: Path) -> None:
    assert box.find_checkpoint(tmp_path) is None


def test_torchreids_last_checkpoint_is_the_last_epochs(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for name in ("9", "10", "best", "2"):
        (tmp_path / "model" / f"model.pth.tar-{name}").touch()
    assert toolbox("torchreid").find_checkpoint(tmp_path) == tmp_path / "model" / "model.pth.tar-10"


def test_what_is_wrong_with_a_request_is_found_before_the_run(box: Toolbox, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("{}", encoding="utf-8")
    wrong = {box.keys.drsl["temperature"]: -1, box.keys.loss: "drsl" if box.name == "torchreid" else '("DRSLoss",)'}
    found = list(box.problems(request_in(tmp_path, overrides=wrong)))
    assert found
    assert not (tmp_path / "run").exists()


def test_a_rendered_set_says_how_each_toolbox_finds_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = render_with_progress(tmp_path / "data", {"identities": 2, "cameras": 2, "images": 1})
    assert (
        capsys.readouterr().out == f"Data set: {root} (Torchreid: --root {root}; FastReID: FASTREID_DATASETS={root})\n"
    )


def test_how_a_run_evaluated_is_cosine_where_it_does_not_say(box: Toolbox) -> None:
    assert box.evaluation_settings({}) == EvaluationSettings("cosine", False)
