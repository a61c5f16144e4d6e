"""DRSL among the losses of FastReID's architectures: its value, its features, its settings, its parts in the logs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from drsl_plugin import DRSLParts, drsl_loss
from drsl_plugin.errors import ConfigError, DRSLError
from drsl_plugin.fastreid import DRSLMGN, DRSLBaseline, add_drsl_config, loss_names, register_loss_name
from drsl_plugin.fastreid.config import build_criterion, get_cfg
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.logged_parts import PARTS
from drsl_plugin.fastreid.main import parser
from drsl_plugin.fastreid.meta_arch import build_model
from drsl_plugin.losses.settings import DRSLSettings, TrainingSettings

Baseline = fastreid.modeling.meta_arch.Baseline
EventStorage = fastreid.utils.events.EventStorage
REGISTRY = fastreid.modeling.meta_arch.META_ARCH_REGISTRY

NAME = "MODEL.LOSSES.NAME"
CE, TRIPLET, DRSL = "CrossEntropyLoss", "TripletLoss", "DRSLoss"
LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 2, 3])
# A value of each setting that is not the default, and what else makes it felt.
SETTINGS: list[dict[str, Any]] = [
    {"SCALE": 2.5},
    {"DISTANCE": "euclidean"},
    {"TEMPERATURE": 0.2},
    {"RELAXATION": "linear"},
    {"SORT": "none"},
    {"SORT": "order", "DISTANCE": "euclidean"},
    {"SORT_WEIGHT": 0.25},
    {"GRADIENT": "slope"},
    {"TERMS": "graded"},
    {"CENTER": True},
]
MGN_TERMS = {
    "b1": ("b1",),
    "b2": ("b2",),
    "b3": ("b3",),
    "b22": ("b21", "b22"),
    "b33": ("b31", "b32", "b33"),
}


# The heads' own embeddings, behind the neck, tell the branches apart: their layers are copies at first.
MGN = {
    "MODEL.META_ARCHITECTURE": "MGN",
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.BACKBONE.DEPTH": "50x",
    "MODEL.BACKBONE.FEAT_DIM": 2048,
    "MODEL.HEADS.EMBEDDING_DIM": 16,
    "MODEL.HEADS.NECK_FEAT": "after",
}


def config(**changes: Any) -> Any:
    """Return the smallest OSNet's configuration; ``config(**{"SOLVER.BASE_LR": 0.1})``, with changes."""
    cfg = get_cfg()
    settings = {
        "MODEL.DEVICE": "cpu",
        "MODEL.BACKBONE.NAME": "build_osnet_backbone",
        "MODEL.BACKBONE.DEPTH": "x0_25",
        "MODEL.BACKBONE.FEAT_DIM": 128,
        "MODEL.BACKBONE.PRETRAIN": False,
        "MODEL.HEADS.NUM_CLASSES": 4,
        "MODEL.HEADS.WITH_BNNECK": True,
        NAME: (CE, DRSL),
        **changes,
    }
    cfg.merge_from_list([word for pair in settings.items() for word in pair])
    return cfg


def model_of(**changes: Any) -> Any:
    torch.manual_seed(0)
    return build_model(config(**changes)).train()


def images(count: int = len(LABELS), size: tuple[int, int] = (64, 32)) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(1)) * 255


def step(model: Any, pictures: Tensor | None = None, labels: Tensor = LABELS) -> tuple[dict[str, Tensor], Any]:
    """Return a training step's losses, and the storage that they were logged to."""
    with EventStorage(0) as storage:
        losses = model({"images": images() if pictures is None else pictures.clone(), "targets": labels})
    return losses, storage


def logged(storage: Any) -> dict[str, float]:
    return {name: storage.latest()[name][0] for name in PARTS if name in storage.latest()}


@pytest.fixture
def seen() -> Iterator[Callable[[nn.Module], list[Any]]]:
    """``outputs = seen(module)``: what the module gives from now on."""
    handles = []

    def watch(module: nn.Module) -> list[Any]:
        outputs: list[Any] = []
        handles.append(module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output)))
        return outputs

    yield watch
    for handle in handles:
        handle.remove()


@pytest.fixture(scope="module")
def baseline() -> Any:
    return model_of()


@pytest.fixture(scope="module")
def mgn() -> Any:
    return model_of(
        **{
            **MGN,
            NAME: (CE, TRIPLET, DRSL),
            "MODEL.LOSSES.DRSL.SCALE": 3.0,
            "MODEL.LOSSES.DRSL.TEMPERATURE": 0.3,
            "MODEL.LOSSES.DRSL.SORT_WEIGHT": 0.5,
        }
    )


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What the package logs."""
    logger, texts = logging.getLogger("fastreid.drsl"), []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(f"{record.levelname} {record.getMessage()}")

    handler, level = Keep(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield texts
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def own() -> Iterator[Callable[[type], str]]:
    """Register an architecture of a team's for the time of a test."""
    names = []

    def register(architecture: type) -> str:
        REGISTRY.register(architecture)
        names.append(architecture.__name__)
        return architecture.__name__

    yield register
    for name in names:
        del REGISTRY._obj_map[name]


# The architectures


def test_architectures_are_registered() -> None:
    assert REGISTRY.get("DRSLBaseline") is DRSLBaseline
    assert REGISTRY.get("DRSLMGN") is DRSLMGN


def check_same_state(ours: Any, stock: Any) -> None:
    assert [*dict(ours.named_parameters())] == [*dict(stock.named_parameters())]
    assert [*dict(ours.named_buffers())] == [*dict(stock.named_buffers())]
    stock.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(stock.state_dict(), strict=True)


def test_weights_load_both_ways(baseline: Any) -> None:
    stock = model_of(**{NAME: (CE,)})
    assert type(stock) is Baseline
    check_same_state(baseline, stock)
    with torch.no_grad():
        torch.testing.assert_close(baseline.eval()(images()), stock.eval()(images()), rtol=0, atol=0)
    baseline.train()


def test_weights_of_mgn_load_both_ways(mgn: Any) -> None:
    stock = build_model(config(**{**MGN, NAME: (CE,)}))
    assert type(stock) is fastreid.modeling.meta_arch.MGN
    check_same_state(mgn, stock)


# The loss of Baseline


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(map(str, settings.values())))
def test_every_setting_reaches_the_loss(settings: dict[str, Any], seen: Any) -> None:
    model = model_of(**{f"MODEL.LOSSES.DRSL.{key}": value for key, value in settings.items()})
    outputs = seen(model.heads)
    losses, _ = step(model)
    features = outputs[0]["features"]
    arguments = {key.lower(): value for key, value in settings.items()}
    expected = arguments.pop("scale", 1.0) * drsl_loss(features, LABELS, **arguments)
    torch.testing.assert_close(losses["loss_drsl"], expected, rtol=0, atol=0)
    features = features.detach().requires_grad_()

    def felt(**others: Any) -> torch.Tensor:
        """The loss and its gradient: a setting may change either."""
        loss = drsl_loss(features, LABELS, **others)
        return torch.cat([loss.detach().reshape(1), torch.autograd.grad(loss, features)[0].flatten()])

    (gradient,) = torch.autograd.grad(losses["loss_drsl"], outputs[0]["features"])
    torch.testing.assert_close(gradient.flatten() / settings.get("SCALE", 1.0), felt(**arguments)[1:])
    for key in arguments.keys() & {each.lower() for each in settings}:
        without = {name: value for name, value in arguments.items() if name != key}
        assert (felt(**arguments) - felt(**without)).abs().max() > 1e-3, f"{key} is not felt"
    assert "SCALE" not in settings or abs(losses["loss_drsl"] - drsl_loss(features, LABELS)) > 1e-3


def test_the_way_of_computing_reaches_the_loss() -> None:
    model = model_of(**{"MODEL.LOSSES.DRSL.BACKEND": "chunked", "MODEL.LOSSES.DRSL.CHUNK_BUDGET": 4096})
    assert (model.drsl.backend, model.drsl.chunk_budget) == ("chunked", 4096)
    untouched = model_of()
    assert (untouched.drsl.backend, untouched.drsl.chunk_budget) == ("auto", None)


def test_a_node_without_the_newer_keys_has_their_defaults() -> None:
    cfg = config(**{"MODEL.LOSSES.DRSL.TEMPERATURE": 0.02})
    newer = ("BACKEND", "CHUNK_BUDGET")
    for key in newer:
        del cfg.MODEL.LOSSES.DRSL[key]
    criterion = build_model(cfg).drsl
    assert (criterion.temperature, criterion.backend, criterion.chunk_budget) == (0.02, "auto", None)
    add_drsl_config(cfg)
    assert [cfg.MODEL.LOSSES.DRSL[key] for key in newer] == ["auto", 0]
    assert cfg.MODEL.LOSSES.DRSL.TEMPERATURE == 0.02


def test_help_tells_every_key_of_the_node(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    meanings = {**DRSLSettings.settings(), **TrainingSettings.settings()}
    for key, default in get_cfg().MODEL.LOSSES.DRSL.items():
        meaning = meanings["weight" if key == "SCALE" else key.lower()].meaning
        assert f"{key} {meaning} [{default}]" in text


def test_no_setting_is_left_untried() -> None:
    tried = {key for settings in SETTINGS for key in settings}
    elsewhere = {"MEMORY_SIZE", "MEMORY_WARMUP", "TEMPERATURE_SCHEDULE", "TEMPERATURE_END"}  # over several steps
    elsewhere |= {"BACKEND", "CHUNK_BUDGET"}  # of which the loss is the same
    elsewhere |= {"SUB_BATCH", "MEMORY_FILL", "MEMORY_SHARE"}  # the trainer's
    assert tried | elsewhere == set(get_cfg().MODEL.LOSSES.DRSL)


@pytest.mark.parametrize("neck", ["before", "after"])
def test_the_features_are_those_of_the_neck(neck: str, seen: Any) -> None:
    model = model_of(**{"MODEL.HEADS.NECK_FEAT": neck})
    features = {"before": seen(model.heads.pool_layer), "after": seen(model.heads.bottleneck)}
    losses, _ = step(model)
    values = {place: drsl_loss(outputs[0][..., 0, 0], LABELS) for place, outputs in features.items()}
    assert abs(values["before"] - values["after"]) > 1e-4
    torch.testing.assert_close(losses["loss_drsl"], values[neck], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        ((DRSL,), {"loss_drsl"}),
        ((CE, DRSL), {"loss_cls", "loss_drsl"}),
        ((CE, TRIPLET, DRSL), {"loss_cls", "loss_triplet", "loss_drsl"}),
        ((DRSL, "CircleLoss", "Cosface"), {"loss_circle", "loss_cosface", "loss_drsl"}),
        ((CE, TRIPLET), {"loss_cls", "loss_triplet"}),
    ],
)
@pytest.mark.parametrize("architecture", ["Baseline", "DRSLBaseline"])
def test_losses_are_those_named(architecture: str, names: tuple[str, ...], keys: set[str]) -> None:
    losses, storage = step(model_of(**{NAME: names, "MODEL.META_ARCHITECTURE": architecture}))
    assert set(losses) == keys
    assert set(logged(storage)) == (set(PARTS) if DRSL in names else set())
    assert all(loss.isfinite() for loss in losses.values())


def test_other_losses_are_fastreids_own() -> None:
    ours, _ = step(model_of(**{NAME: (CE, TRIPLET, DRSL)}))
    stock, _ = step(model_of(**{NAME: (CE, TRIPLET)}))
    assert {name: ours[name].item() for name in stock} == {name: loss.item() for name, loss in stock.items()}


def test_gradient_of_drsl_alone_reaches_the_backbone(baseline: Any) -> None:
    losses, _ = step(baseline)
    parameters = {name: each for name, each in baseline.named_parameters() if each.requires_grad}
    gradients = torch.autograd.grad(losses["loss_drsl"], list(parameters.values()), allow_unused=True)
    without = {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is None}
    # NECK_FEAT before: neither the bottleneck's batch norm nor the classifier has a part in it.
    assert without == {"heads.weight", "heads.bottleneck.0.weight"}
    first = gradients[list(parameters).index("backbone.conv1.conv.weight")]
    assert first.isfinite().all()
    assert first.abs().max() > 0


def test_the_parts_are_logged(baseline: Any, seen: Any) -> None:
    outputs = seen(baseline.heads)
    _, storage = step(baseline)
    _, parts = drsl_loss(outputs[0]["features"], LABELS, return_parts=True)
    assert PARTS == ("drsl_ranking", "drsl_sorting", "drsl_ap", "drsl_above_all")
    assert logged(storage) == {f"drsl_{name}": getattr(parts, name).item() for name in DRSLParts._fields}


def test_an_evaluation_computes_no_loss(baseline: Any) -> None:
    with torch.no_grad():
        features = baseline.eval()(images())  # needs no storage for the parts
    baseline.train()
    assert features.shape == (len(LABELS), 128)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_loss_of_half_precision_is_computed_in_float32(dtype: torch.dtype, baseline: Any, seen: Any) -> None:
    outputs = seen(baseline.heads)
    if dtype == torch.float16 and not hasattr(torch.amp, "GradScaler"):
        pytest.skip("no float16 autocast on the CPU")
    with torch.autocast("cpu", dtype=dtype):
        losses, storage = step(baseline)
    features = outputs[0]["features"]
    assert features.dtype == dtype
    assert losses["loss_drsl"].dtype == torch.float32
    expected, parts = drsl_loss(features.float(), LABELS, return_parts=True)
    torch.testing.assert_close(losses["loss_drsl"], expected, rtol=0, atol=0)
    assert logged(storage)["drsl_ranking"] == parts.ranking.item()
    losses["loss_drsl"].backward()
    assert baseline.backbone.conv1.conv.weight.grad.isfinite().all()
    baseline.zero_grad()


# The loss of MGN


def test_each_branch_of_mgn_has_its_share(mgn: Any, seen: Any) -> None:
    names = [name for term in MGN_TERMS.values() for name in term]
    outputs = {name: seen(getattr(mgn, f"{name}_head")) for name in names}
    labels = torch.tensor([0, 0, 1, 1, 0, 2])
    losses, storage = step(mgn, images(6, (128, 64)), labels)
    features = {name: outputs[name][0]["features"] for name in names}
    settings: dict[str, Any] = {"temperature": 0.3, "sort_weight": 0.5}
    terms = {
        f"loss_drsl_{name}": drsl_loss(
            torch.cat([features[part] for part in term], dim=1), labels, **settings, return_parts=True
        )
        for name, term in MGN_TERMS.items()
    }
    assert {name for name in losses if "drsl" in name} == set(terms)
    assert sum(name.startswith("loss_cls") for name in losses) == 8
    assert sum(name.startswith("loss_triplet") for name in losses) == 5
    for name, (value, _) in terms.items():
        torch.testing.assert_close(losses[name], 3.0 * 0.2 * value, msg=name)
    assert len({round(value.item(), 5) for value, _ in terms.values()}) == 5, "two terms cannot be told apart"
    for field in DRSLParts._fields:
        mean = torch.stack([getattr(parts, field) for _, parts in terms.values()]).mean().item()
        assert logged(storage)[f"drsl_{field}"] == pytest.approx(mean, abs=1e-6)

    drsl = sum(value for name, value in losses.items() if "drsl" in name)
    first = torch.autograd.grad(drsl, mgn.backbone[0].weight)[0]
    assert first.isfinite().all()
    assert first.abs().max() > 0


# Building


def test_a_name_builds_ours_in_place_of_fastreids(lines: list[str]) -> None:
    cfg = config(**{"MODEL.META_ARCHITECTURE": "Baseline"})
    cfg.freeze()
    before = cfg.dump()
    assert type(build_model(cfg)) is DRSLBaseline
    assert lines == ["INFO DRSLoss among the losses: Baseline is built as DRSLBaseline, which has the same weights"]
    assert cfg.dump() == before
    assert cfg.is_frozen()


@pytest.mark.parametrize(("architecture", "names"), [("Baseline", (CE, TRIPLET)), ("DRSLBaseline", (CE, DRSL))])
def test_what_needs_no_stand_in_is_built_as_it_is(architecture: str, names: tuple[str, ...], lines: list[str]) -> None:
    model = model_of(**{"MODEL.META_ARCHITECTURE": architecture, NAME: names})
    assert type(model).__name__ == architecture
    assert lines == []


def test_stock_builds_the_registered_architecture() -> None:
    cfg = config(**{"MODEL.META_ARCHITECTURE": "DRSLBaseline"})
    assert "loss_drsl" in step(fastreid.modeling.build_model(cfg).train())[0]


def test_a_configuration_without_the_node() -> None:
    cfg = fastreid.config.get_cfg()
    cfg.merge_from_other_cfg(fastreid.config.CfgNode({"MODEL": {"LOSSES": {"NAME": (CE, DRSL)}, "DEVICE": "cpu"}}))
    cfg.MODEL.BACKBONE.PRETRAIN = False
    line = "MODEL.LOSSES.DRSL: not in the configuration; drsl_plugin.fastreid.add_drsl_config(cfg) adds it"
    with pytest.raises(DRSLError) as raised:
        build_model(cfg)
    assert str(raised.value) == line
    cfg.MODEL.LOSSES.NAME = (CE,)
    assert build_criterion(cfg) is None


def test_adding_the_node_twice_adds_it_once() -> None:
    cfg = fastreid.config.get_cfg()
    add_drsl_config(cfg)
    once = cfg.dump()
    add_drsl_config(cfg)
    assert cfg.dump() == once
    assert "DRSL" not in fastreid.config.get_cfg().MODEL.LOSSES


# Names that nobody knows


@pytest.mark.parametrize(
    ("architecture", "names", "line"),
    [
        ("Baseline", (CE, "DRSL"), r"DRSL: unknown to Baseline, which would train without it; did you mean DRSLoss\?"),
        ("Baseline", ("crossentropyloss",), r"crossentropyloss: unknown .*; did you mean CrossEntropyLoss\?"),
        ("DRSLBaseline", (CE, "drsloss"), r"drsloss: unknown to DRSLBaseline, .*; did you mean DRSLoss\?"),
        ("Baseline", (CE, "Nothing"), r"Nothing: unknown .* without it \(known: CrossEntropyLoss, .*, DRSLoss\)"),
        ("MGN", (CE, "CircleLoss"), r"CircleLoss: unknown to MGN, which would train without it"),
        ("DRSLMGN", (CE, "Cosface"), r"Cosface: unknown to DRSLMGN, which would train without it"),
        ("Distiller", (CE, DRSL), r"DRSLoss: .* Distiller would train without it; Baseline and MGN train with it"),
        ("MoCo", (CE, DRSL), r"DRSLoss: .* MoCo would train without it; Baseline and MGN train with it"),
        ("Baseline", (), r"\(\): nothing would be trained"),
    ],
)
def test_names_that_would_be_trained_without(architecture: str, names: tuple[str, ...], line: str) -> None:
    with pytest.raises(ConfigError, match=f"^{NAME} {line}") as raised:
        build_model(config(**{"MODEL.META_ARCHITECTURE": architecture, NAME: names}))
    assert len(raised.value.errors) == 1


def test_each_unknown_name_has_a_line() -> None:
    with pytest.raises(ConfigError) as raised:
        build_model(config(**{NAME: (CE, "One", "Two", DRSL)}))
    assert [str(error).split(":")[0] for error in raised.value.errors] == [f"{NAME} One", f"{NAME} Two"]


@pytest.mark.parametrize(
    ("architecture", "line"),
    [
        ("baseline", "MODEL.META_ARCHITECTURE baseline: unknown; did you mean Baseline"),
        ("Something", "MODEL.META_ARCHITECTURE Something: unknown; one of .*Baseline.*DRSLMGN"),
    ],
)
def test_an_unknown_architecture(architecture: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        build_model(config(**{"MODEL.META_ARCHITECTURE": architecture}))


def test_a_registered_name_is_known_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_names, "_registered", set())
    cfg = config(**{NAME: (CE, DRSL, "TeamLoss")})
    with pytest.raises(ConfigError, match="TeamLoss: unknown to Baseline"):
        build_model(cfg)
    register_loss_name("TeamLoss")
    assert type(build_model(cfg)) is DRSLBaseline
    cfg.MODEL.META_ARCHITECTURE = "MGN"
    assert list(loss_names.loss_name_problems(cfg)) == []


def test_a_teams_own_architecture_is_left_alone(own: Any, lines: list[str]) -> None:
    class Own(Baseline):  # type: ignore[misc]
        def losses(self, outputs: dict[str, Tensor], gt_labels: Tensor) -> dict[str, Tensor]:
            return {"loss_own": functional.normalize(outputs["features"]).sum()}

    cfg = config(**{"MODEL.META_ARCHITECTURE": own(Own), NAME: ("TeamLoss",)})
    assert type(build_model(cfg)) is Own
    assert lines == []
    cfg.MODEL.LOSSES.NAME = ("TeamLoss", DRSL)
    assert set(step(build_model(cfg).train())[0]) == {"loss_own"}
    assert lines == ["WARNING Own is trained with DRSLoss only if its own losses() computes it"]


def test_a_teams_subclass_of_ours_has_the_loss(own: Any, lines: list[str]) -> None:
    class OwnDRSL(DRSLBaseline):
        def losses(self, outputs: dict[str, Tensor], gt_labels: Tensor) -> dict[str, Tensor]:
            losses = super().losses(outputs, gt_labels)
            return {**losses, "loss_own": functional.normalize(outputs["features"]).sum()}

    losses, _ = step(model_of(**{"MODEL.META_ARCHITECTURE": own(OwnDRSL), NAME: (CE, DRSL, "TeamLoss")}))
    assert set(losses) == {"loss_cls", "loss_drsl", "loss_own"}
    assert lines == []


def test_pretrained_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    import gdown

    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise ConnectionError("no network here")

    monkeypatch.setattr(gdown, "download", fail)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(DRSLError, match=r"^MODEL\.BACKBONE\.PRETRAIN.*osnet.*x0_25.*no network here"):
        model_of(**{"MODEL.BACKBONE.PRETRAIN": True})
