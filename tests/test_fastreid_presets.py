from __future__ import annotations

import ast
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from drsl_plugin.losses import DRSLoss
from drsl_plugin.presets import copy_preset, preset_names, preset_path, preset_text

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIGS = REPOSITORY / "configs" / "fastreid"
PROJECT = REPOSITORY / "projects" / "DRSL" / "configs"
SHARE = 0.3
"""Of the training images, in a memory."""
MODELS = ("bagtricks_R50", "AGW_R50", "sbs_R50", "mgn_R50-ibn", "osnet_x1_0")
DATASETS = ("Market1501", "MSMT17", "CUHK03")

# FastReID's configs/, as its configurations resolve: copied by hand, key for key.

TRIPLET = ("CrossEntropyLoss", "TripletLoss")
BOT = {
    "MODEL.META_ARCHITECTURE": "Baseline",
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.BACKBONE.NORM": "BN",
    "MODEL.BACKBONE.DEPTH": "50x",
    "MODEL.BACKBONE.LAST_STRIDE": 1,
    "MODEL.BACKBONE.FEAT_DIM": 2048,
    "MODEL.BACKBONE.WITH_IBN": False,
    "MODEL.BACKBONE.PRETRAIN": True,
    "MODEL.HEADS.NAME": "EmbeddingHead",
    "MODEL.HEADS.NORM": "BN",
    "MODEL.HEADS.WITH_BNNECK": True,
    "MODEL.HEADS.POOL_LAYER": "GlobalAvgPool",
    "MODEL.HEADS.NECK_FEAT": "before",
    "MODEL.HEADS.CLS_LAYER": "Linear",
    "MODEL.LOSSES.NAME": TRIPLET,
    "MODEL.LOSSES.CE.EPSILON": 0.1,
    "MODEL.LOSSES.CE.SCALE": 1.0,
    "MODEL.LOSSES.TRI.MARGIN": 0.3,
    "MODEL.LOSSES.TRI.HARD_MINING": True,
    "MODEL.LOSSES.TRI.NORM_FEAT": False,
    "MODEL.LOSSES.TRI.SCALE": 1.0,
    "INPUT.SIZE_TRAIN": [256, 128],
    "INPUT.SIZE_TEST": [256, 128],
    "INPUT.REA.ENABLED": True,
    "INPUT.REA.PROB": 0.5,
    "INPUT.FLIP.ENABLED": True,
    "INPUT.PADDING.ENABLED": True,
    "DATALOADER.SAMPLER_TRAIN": "NaiveIdentitySampler",
    "DATALOADER.NUM_INSTANCE": 4,
    "DATALOADER.NUM_WORKERS": 8,
    "SOLVER.AMP.ENABLED": True,
    "SOLVER.OPT": "Adam",
    "SOLVER.MAX_EPOCH": 120,
    "SOLVER.BASE_LR": 0.00035,
    "SOLVER.WEIGHT_DECAY": 0.0005,
    "SOLVER.WEIGHT_DECAY_NORM": 0.0005,
    "SOLVER.IMS_PER_BATCH": 64,
    "SOLVER.SCHED": "MultiStepLR",
    "SOLVER.STEPS": [40, 90],
    "SOLVER.GAMMA": 0.1,
    "SOLVER.WARMUP_FACTOR": 0.1,
    "SOLVER.WARMUP_ITERS": 2000,
    "SOLVER.CHECKPOINT_PERIOD": 30,
    "TEST.EVAL_PERIOD": 30,
    "TEST.IMS_PER_BATCH": 128,
    "CUDNN_BENCHMARK": True,
}
SBS = BOT | {
    "MODEL.FREEZE_LAYERS": ["backbone"],
    "MODEL.BACKBONE.WITH_NL": True,
    "MODEL.HEADS.NECK_FEAT": "after",
    "MODEL.HEADS.POOL_LAYER": "GeneralizedMeanPoolingP",
    "MODEL.HEADS.CLS_LAYER": "CircleSoftmax",
    "MODEL.HEADS.SCALE": 64,
    "MODEL.HEADS.MARGIN": 0.35,
    "MODEL.LOSSES.TRI.MARGIN": 0.0,
    "INPUT.SIZE_TRAIN": [384, 128],
    "INPUT.SIZE_TEST": [384, 128],
    "INPUT.AUTOAUG.ENABLED": True,
    "INPUT.AUTOAUG.PROB": 0.1,
    "DATALOADER.NUM_INSTANCE": 16,
    "SOLVER.MAX_EPOCH": 60,
    "SOLVER.SCHED": "CosineAnnealingLR",
    "SOLVER.DELAY_EPOCHS": 30,
    "SOLVER.ETA_MIN_LR": 7e-7,
    "SOLVER.FREEZE_ITERS": 1000,
    "SOLVER.CHECKPOINT_PERIOD": 20,
    "TEST.EVAL_PERIOD": 10,
}
RECIPES = {
    "bagtricks_R50": BOT,
    "AGW_R50": BOT
    | {
        "MODEL.BACKBONE.WITH_NL": True,
        "MODEL.HEADS.POOL_LAYER": "GeneralizedMeanPooling",
        "MODEL.LOSSES.TRI.MARGIN": 0.0,
        "MODEL.LOSSES.TRI.HARD_MINING": False,
    },
    "sbs_R50": SBS,
    "mgn_R50-ibn": SBS
    | {
        "MODEL.META_ARCHITECTURE": "MGN",
        "MODEL.FREEZE_LAYERS": ["backbone", "b1", "b2", "b3"],
        "MODEL.BACKBONE.WITH_NL": False,
        "MODEL.BACKBONE.WITH_IBN": True,
        "MODEL.HEADS.EMBEDDING_DIM": 256,
    },
    # FastReID has no configuration for it: BoT with another backbone.
    "osnet_x1_0": BOT
    | {
        "MODEL.BACKBONE.NAME": "build_osnet_backbone",
        "MODEL.BACKBONE.DEPTH": "x1_0",
        "MODEL.BACKBONE.FEAT_DIM": 512,
    },
}
FOLDERS = {model: model.replace("AGW", "agw") for model in MODELS}

# Rank-1, mAP, mINP of FastReID's MODEL_ZOO.md.
PUBLISHED = {
    ("bagtricks_R50", "Market1501"): "Rank-1 94.4 %, mAP 86.1 %, mINP 59.4 %",
    ("AGW_R50", "Market1501"): "Rank-1 95.3 %, mAP 88.2 %, mINP 66.3 %",
    ("sbs_R50", "Market1501"): "Rank-1 95.4 %, mAP 88.2 %, mINP 64.8 %",
    ("mgn_R50-ibn", "Market1501"): "Rank-1 95.8 %, mAP 89.8 %, mINP 67.7 %",
    ("bagtricks_R50", "MSMT17"): "Rank-1 74.1 %, mAP 50.2 %, mINP 10.4 %",
    ("AGW_R50", "MSMT17"): "Rank-1 78.3 %, mAP 55.6 %, mINP 12.9 %",
    ("sbs_R50", "MSMT17"): "Rank-1 81.8 %, mAP 58.4 %, mINP 13.9 %",
    ("mgn_R50-ibn", "MSMT17"): "Rank-1 85.1 %, mAP 65.4 %, mINP 18.4 %",
}

PAIRS = list(itertools.product(MODELS, DATASETS))
ALL = [f"fastreid/{dataset}/{model}{loss}" for model, dataset in PAIRS for loss in ("", "_drsl")]
Read = Callable[[Path], Any]


def twins(model: str, dataset: str) -> tuple[Path, Path]:
    name = f"fastreid/{dataset}/{model}"
    return preset_path(name), preset_path(f"{name}_drsl")


def load(path: Path) -> dict[str, Any]:
    """What a file says itself, ``_BASE_`` and all."""
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return config


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"MODEL.HEADS.SCALE": 64}``, a tuple's string being a tuple, as in yacs."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            values |= flat(value, f"{prefix}{key}.")
        else:
            is_tuple = isinstance(value, str) and value.startswith("(")
            values[prefix + key] = ast.literal_eval(value) if is_tuple else value
    return values


def resolved(path: Path) -> dict[str, Any]:
    """What a file and its bases say, flat."""
    own = flat(load(path))
    base = own.pop("_BASE_", None)
    return own if base is None else resolved(path.parent / base) | own


@pytest.fixture(scope="session")
def fastreid() -> Any:
    try:
        from drsl_plugin.fastreid.host import fastreid
    except ImportError as error:
        if "pip install" not in str(error):  # not FastReID is missing, but something of ours
            raise
        pytest.skip(str(error))
    return fastreid


@pytest.fixture
def read(fastreid: Any) -> Read:
    """Reads a file into FastReID's defaults with the DRSL node, by FastReID's own reader."""
    from drsl_plugin.fastreid.config import add_drsl_config

    def read(path: Path) -> Any:
        cfg = fastreid.config.get_cfg()
        add_drsl_config(cfg)
        cfg.merge_from_file(str(path))
        return cfg

    return read


@pytest.fixture(scope="session")
def clone() -> Path:
    """FastReID from GitHub, where FASTREID_CLONE says."""
    folder = os.environ.get("FASTREID_CLONE")
    if not folder:
        pytest.skip("FASTREID_CLONE names no clone of FastReID")
    return Path(folder)


# The presets themselves


def test_every_model_has_both_losses_on_every_dataset() -> None:
    assert preset_names("fastreid") == sorted(ALL)


def test_there_are_no_other_files() -> None:
    bases = {f"Base-{base}.yml" for base in ("bagtricks", "AGW", "SBS", "MGN", "OSNet")}
    presets = {f"{name.removeprefix('fastreid/')}.yml" for name in ALL}
    assert {path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*") if path.is_file()} == bases | presets


@pytest.mark.parametrize(("model", "dataset"), PAIRS)
def test_a_recipe_is_fastreids(model: str, dataset: str) -> None:
    data = {"DATASETS.NAMES": (dataset,), "DATASETS.TESTS": (dataset,)}
    output = {"OUTPUT_DIR": f"logs/{dataset.lower()}/{FOLDERS[model]}"}
    assert resolved(twins(model, dataset)[0]) == RECIPES[model] | data | output


@pytest.mark.parametrize(("model", "dataset"), PAIRS)
def test_twins_differ_in_the_loss_and_where_they_save(model: str, dataset: str) -> None:
    triplet, drsl = (resolved(path) for path in twins(model, dataset))
    assert drsl.pop("OUTPUT_DIR") == f"{triplet.pop('OUTPUT_DIR')}_drsl"
    assert triplet.pop("MODEL.LOSSES.NAME") == TRIPLET
    assert drsl.pop("MODEL.LOSSES.NAME") == ("CrossEntropyLoss", "DRSLoss")
    assert {key: value for key, value in drsl.items() if not key.startswith("MODEL.LOSSES.DRSL.")} == triplet


@pytest.mark.parametrize(("model", "dataset"), PAIRS)
def test_a_drsl_preset_builds_on_its_twin_and_sets_the_loss_alone(model: str, dataset: str) -> None:
    own = load(twins(model, dataset)[1])
    assert own.pop("_BASE_") == f"{model}.yml"
    assert own["MODEL"].keys() == {"LOSSES"}
    assert own["MODEL"]["LOSSES"].keys() == {"NAME", "DRSL"}
    assert own.keys() == {"MODEL", "OUTPUT_DIR"}


@pytest.mark.parametrize("name", ALL)
def test_a_batch_is_made_of_whole_identities(name: str) -> None:
    config = resolved(preset_path(name))
    assert config["DATALOADER.SAMPLER_TRAIN"] == "NaiveIdentitySampler"
    assert config["DATALOADER.NUM_INSTANCE"] > 1
    identities, rest = divmod(config["SOLVER.IMS_PER_BATCH"], config["DATALOADER.NUM_INSTANCE"])
    assert rest == 0
    assert identities > 1


@pytest.mark.parametrize(("model", "dataset"), PAIRS)
def test_published_numbers_stand_with_their_source(model: str, dataset: str) -> None:
    triplet, drsl = (path.read_text(encoding="utf-8") for path in twins(model, dataset))
    number = PUBLISHED.get((model, dataset))
    assert ("No number is published" in triplet) == (number is None)
    if number is not None:
        assert f"{number}\n# (FastReID's MODEL_ZOO.md; one V100, PyTorch 1.6)." in triplet
    assert "No number is published for it" in drsl
    assert "Rank-1" not in drsl


@pytest.mark.parametrize(("model", "dataset"), PAIRS)
def test_the_loss_takes_its_settings(model: str, dataset: str) -> None:
    settings = load(twins(model, dataset)[1])["MODEL"]["LOSSES"]["DRSL"]
    scale = settings.pop("SCALE")
    criterion = DRSLoss(**{key.lower(): value for key, value in settings.items()})
    assert (criterion.gradient, criterion.lacks_memory) == ("error", True)
    # The pull of a positive, and that of its angle.
    pull = 3.0 if criterion.distance == "euclidean" else 10.0
    assert scale / (2 * criterion.temperature) == pytest.approx(pull)
    assert scale * criterion.sort_weight == pytest.approx(1.0, abs=0.01)


# In FastReID


@pytest.mark.parametrize("name", ALL)
def test_a_preset_merges_into_the_default_config(name: str, read: Read) -> None:
    # yacs refuses a key that the defaults lack and a value of another type.
    merged = flat(read(preset_path(name)))
    for key, value in resolved(preset_path(name)).items():
        assert merged[key] == value
        assert type(merged[key]) is type(value)


@pytest.mark.parametrize("name", [name for name in ALL if name.endswith("_drsl")])
def test_a_preset_has_the_defaults_of_drsl_a_memory_and_what_features_before_the_bnneck_want(
    name: str, read: Read
) -> None:
    expected = read(preset_path("Market1501/AGW_R50")).MODEL.LOSSES.DRSL
    cfg = read(preset_path(name))
    if cfg.MODEL.HEADS.NECK_FEAT == "before":
        expected.DISTANCE, expected.TEMPERATURE = "euclidean", 0.03
        expected.SCALE, expected.SORT_WEIGHT = 0.18, 5.6
    else:
        expected.CENTER = True
    expected.MEMORY_SHARE = SHARE
    assert expected == cfg.MODEL.LOSSES.DRSL


def test_stock_fastreid_refuses_a_drsl_preset(fastreid: Any) -> None:
    # Without the node's settings it would take the file and train without DRSL.
    with pytest.raises(KeyError, match=r"MODEL\.LOSSES\.DRSL"):
        fastreid.config.get_cfg().merge_from_file(str(preset_path("Market1501/bagtricks_R50_drsl")))


@pytest.mark.parametrize(("model", "dataset"), PAIRS)
def test_fastreid_knows_what_a_preset_names(model: str, dataset: str, read: Read) -> None:
    from fastreid.data import samplers
    from fastreid.data.datasets import DATASET_REGISTRY
    from fastreid.layers import any_softmax, pooling
    from fastreid.modeling.heads import REID_HEADS_REGISTRY
    from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
    from fastreid.solver import lr_scheduler

    cfg = read(twins(model, dataset)[1])
    assert META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    assert REID_HEADS_REGISTRY.get(cfg.MODEL.HEADS.NAME)
    assert hasattr(pooling, cfg.MODEL.HEADS.POOL_LAYER)
    assert hasattr(any_softmax, cfg.MODEL.HEADS.CLS_LAYER)
    assert hasattr(samplers, cfg.DATALOADER.SAMPLER_TRAIN)
    assert hasattr(lr_scheduler, cfg.SOLVER.SCHED)
    assert cfg.DATASETS.NAMES == cfg.DATASETS.TESTS == (dataset,)
    assert DATASET_REGISTRY.get(dataset)


@pytest.mark.parametrize("model", MODELS)
def test_a_backbone_returns_as_many_features_as_the_head_expects(model: str, read: Read) -> None:
    import torch
    from fastreid.modeling.backbones import build_backbone

    cfg = read(twins(model, "Market1501")[0])
    cfg.MODEL.BACKBONE.PRETRAIN = False
    backbone = build_backbone(cfg).eval()
    with torch.no_grad():
        assert backbone(torch.zeros(1, 3, 64, 32)).shape[:2] == (1, cfg.MODEL.BACKBONE.FEAT_DIM)


# Copies


@pytest.mark.parametrize("name", ALL)
def test_a_copy_says_the_same_on_its_own(name: str, tmp_path: Path) -> None:
    copy = copy_preset(name, tmp_path)
    assert copy.name == preset_path(name).name
    assert "_BASE_" not in copy.read_text(encoding="utf-8")
    assert flat(load(copy)) == resolved(preset_path(name))


@pytest.mark.parametrize("name", ALL)
def test_fastreid_reads_a_copy_as_it_reads_the_preset(name: str, tmp_path: Path, read: Read) -> None:
    copied, preset = read(copy_preset(name, tmp_path)), read(preset_path(name))
    assert copied == preset
    assert copied.dump() == preset.dump()


@pytest.mark.parametrize("name", ALL)
def test_a_copy_keeps_every_comment(name: str) -> None:
    text, path = preset_text(name), preset_path(name)
    assert text.startswith(f"# {name},")
    while path is not None:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("#"):
                assert f"\n{line}\n" in text
        base = load(path).get("_BASE_")
        path = path.parent / base if base else None
    assert "CVPRW 2019" in text


def test_a_comment_goes_with_its_value() -> None:
    lines = [line.strip() for line in preset_text("MSMT17/mgn_R50-ibn_drsl").splitlines()]
    assert 'NAME: ("CrossEntropyLoss", "DRSLoss")' in lines  # not BoT's comment on its own losses
    assert "LAST_STRIDE: 1  # (BoT)" in lines
    assert "WITH_NL: False" in lines
    assert "EMBEDDING_DIM: 256  # of each of the eight features (MGN)" in lines
    assert "DRSL:  # ours throughout: the settings of the DRSL paper are not public" in lines


# The project's files, which build on FastReID's own


def test_the_project_has_every_model() -> None:
    assert {path.name for path in PROJECT.iterdir()} == {f"{model}_drsl.yml" for model in MODELS}


@pytest.mark.parametrize("model", MODELS)
def test_a_project_file_sets_the_loss_and_no_more(model: str) -> None:
    own = load(PROJECT / f"{model}_drsl.yml")
    below = "Base-bagtricks.yml" if model == "osnet_x1_0" else f"Market1501/{model}.yml"
    assert own["_BASE_"] == f"../../../configs/{below}"
    preset = load(twins(model, "Market1501")[1])
    assert own["MODEL"]["LOSSES"] == preset["MODEL"]["LOSSES"]
    if model != "osnet_x1_0":
        assert own["MODEL"].keys() == {"LOSSES"}
        assert own.keys() == {"_BASE_", "MODEL", "OUTPUT_DIR"}


def project_file(model: str, configs: Path) -> dict[str, Any]:
    """Resolve a project's file on the configs/ of FastReID that are given."""
    own = flat(load(PROJECT / f"{model}_drsl.yml"))
    return resolved(configs / own.pop("_BASE_").removeprefix("../../../configs/")) | own


@pytest.mark.parametrize("model", MODELS)
def test_a_project_file_is_the_presets_recipe(model: str) -> None:
    # FastReID's configs/ and these have the same names and settings.
    preset = resolved(twins(model, "Market1501")[1])
    output = {"OUTPUT_DIR": f"projects/DRSL/{preset['OUTPUT_DIR']}"}
    assert project_file(model, CONFIGS) == preset | output


# Against FastReID's own files


@pytest.mark.parametrize(("model", "dataset"), [pair for pair in PAIRS if pair in PUBLISHED])
def test_a_preset_is_the_configuration_of_the_clone(model: str, dataset: str, clone: Path, read: Read) -> None:
    preset, own = read(twins(model, dataset)[0]), read(clone / "configs" / dataset / f"{model}.yml")
    assert preset == own
    assert preset.dump() == own.dump()


@pytest.mark.parametrize("model", MODELS)
def test_a_project_file_works_in_the_clone(model: str, clone: Path, read: Read, tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(clone / "configs")
    folder = tmp_path / "projects" / "DRSL" / "configs"
    folder.mkdir(parents=True)
    file = folder / f"{model}_drsl.yml"
    file.write_bytes((PROJECT / file.name).read_bytes())
    inside, preset = read(file), read(twins(model, "Market1501")[1])
    preset.OUTPUT_DIR = f"projects/DRSL/{preset.OUTPUT_DIR}"
    assert inside == preset


@pytest.mark.parametrize(("model", "dataset"), list(PUBLISHED))
def test_the_published_numbers_are_those_of_the_clone(model: str, dataset: str, clone: Path) -> None:
    rows = (clone / "MODEL_ZOO.md").read_text(encoding="utf-8").splitlines()
    (row,) = (row for row in rows if f"/configs/{dataset}/{model}.yml)" in row)
    rank1, mean_ap, mean_inp = (cell.strip().removesuffix("%") for cell in row.split("|")[3:6])
    assert PUBLISHED[model, dataset] == f"Rank-1 {rank1} %, mAP {mean_ap} %, mINP {mean_inp} %"
