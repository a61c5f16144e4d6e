"""What the README prints is true: its code runs, its tables are those of the package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from drsl_plugin.fastreid import keys as fastreid_keys
from drsl_plugin.fastreid.config import get_cfg
from drsl_plugin.presets import preset_names, table_path
from drsl_plugin.reproduce.runs import table_runs
from drsl_plugin.reproduce.table_files import read_table
from drsl_plugin.toolbox.keys import DRSLKeys
from drsl_plugin.torchreid import get_default_config
from drsl_plugin.torchreid import keys as torchreid_keys

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_loss_alone_runs_without_a_toolbox() -> None:
    code = re.search(r"<!-- the loss alone -->\n```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    blocked = "import sys; sys.modules.update(torchreid=None, fastreid=None, yacs=None, cv2=None)\n"
    done = subprocess.run([sys.executable, "-c", blocked + code.group(1)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tensor(")


def table_of(keys: DRSLKeys) -> list[str]:
    return [f"| `{keys.node}.{key}` | `{each.in_files}` | {each.meaning} |" for key, each in keys.settings.items()]


def test_the_table_of_settings_has_the_keys_and_defaults() -> None:
    rows = dict(re.findall(r"^\| `loss\.drsl\.(\w+)` \| `([^`]+)` \|", README, re.MULTILINE))
    assert rows == {key: str(value) for key, value in get_default_config().loss.drsl.items()}
    assert [line for line in README.splitlines() if line.startswith("| `loss.drsl.")] == table_of(
        torchreid_keys.DRSL_KEYS
    )


def test_the_table_of_fastreids_settings_has_the_keys_and_defaults() -> None:
    rows = dict(re.findall(r"^\| `MODEL\.LOSSES\.DRSL\.(\w+)` \| `([^`]+)` \|", README, re.MULTILINE))
    cfg = get_cfg()
    assert rows == {key: str(value) for key, value in cfg.MODEL.LOSSES.DRSL.items()}
    assert [line for line in README.splitlines() if line.startswith("| `MODEL.LOSSES.DRSL.")] == table_of(
        fastreid_keys.DRSL_KEYS
    )
    assert f"| `SEED` | `{cfg.SEED}` |" in README


def test_the_table_file_can_be_read(tmp_path: Path) -> None:
    text = re.search(r"<!-- a table -->\n```yaml\n(.*?)```", README, re.DOTALL)
    assert text is not None
    (tmp_path / "mine.yaml").write_text(text.group(1), encoding="utf-8")
    table = read_table(tmp_path / "mine.yaml")
    runs = table_runs(table, tmp_path)
    assert [row.name for row in table.rows][1] == "DRSL, temperature 0.02"
    assert len(runs) == 3 * 7


def test_the_shipped_tables_have_as_many_runs_as_it_says(tmp_path: Path) -> None:
    counts = dict(re.findall(r"^\| `(\w+)` \| .* \| (\d+) \|$", README, re.MULTILINE))
    assert counts == {name: str(len(table_runs(read_table(table_path(name)), tmp_path))) for name in counts}
    assert set(counts) == {path.stem for path in (ROOT / "configs/tables").glob("*.yaml")}


def test_presets_that_the_readme_names_exist() -> None:
    named = set(re.findall(r"torchreid/[\w]+_\d+x\d+_\w+|fastreid/(?:Market1501|MSMT17|CUHK03)/[\w-]+", README))
    assert {name.partition("/")[0] for name in named} == {"torchreid", "fastreid"}
    assert named <= set(preset_names())


@pytest.mark.parametrize("name", re.findall(r"\]\(((?!http|#)[^)]+)\)", README))
def test_links_lead_somewhere(name: str) -> None:
    assert (ROOT / name).exists()


def test_make_has_the_readmes_targets() -> None:
    targets = re.findall(r"^make (\w+)", README, re.MULTILINE)
    assert targets == ["demo", "test"]
    assert all(f"\n{target}:" in (ROOT / "Makefile").read_text() for target in targets)
