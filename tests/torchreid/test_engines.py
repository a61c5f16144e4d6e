"""One training step of the engines, against the definition of its total loss."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchreid
from torch import Tensor, nn

from drsl_plugin import DRSLoss, drsl_loss
from drsl_plugin.errors import DRSLError
from drsl_plugin.torchreid import ImageDRSLEngine, VideoDRSLEngine, build_drsl_engine, get_default_config
from drsl_plugin.torchreid.building import engine_class, engine_kwargs
from drsl_plugin.torchreid.merging import merge_options

CLASSES = 3
PIDS = torch.tensor([0, 0, 1, 1, 2, 2])
PARTS = ["ranking", "sorting", "ap", "above_all"]


class TinyModel(nn.Module):
    """Logits and features of a 3 x 4 x 2 image; ``several`` gives a tuple of each, as HACNN does."""

    def __init__(self, several: bool = False) -> None:
        super().__init__()
        self.several = several
        self.embed = nn.Linear(24, 5)
        self.classifier = nn.Linear(5, CLASSES)

    def forward(self, images: Tensor) -> Any:
        features = self.embed(images.flatten(1))
        if not self.training:
            return features
        logits = self.classifier(features)
        if self.several:
            return (logits, 2 * logits), (features, features.pow(2) - features)
        return logits, features


def make_engine(model: nn.Module, engine_class: type = ImageDRSLEngine, **settings: Any) -> Any:
    torch.manual_seed(1)
    datamanager = SimpleNamespace(train_loader=[], test_loader={}, num_train_pids=CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return engine_class(datamanager, model.train(), optimizer, **{"use_gpu": False, **settings})


@pytest.fixture
def images() -> Tensor:
    return torch.randn(len(PIDS), 3, 4, 2, generator=torch.Generator().manual_seed(0))


def cross_entropy(logits: Tensor, smooth: bool) -> Tensor:
    return nn.functional.cross_entropy(logits, PIDS, label_smoothing=0.1 if smooth else 0.0)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    ("weight", "weight_x", "smooth"), [(1.0, 1.0, True), (0.5, 2.0, False), (1.0, 0.0, True), (0.0, 1.0, False)]
)
def test_step_follows_the_gradient_of_the_weighted_sum(
    images: Tensor, several: bool, weight: float, weight_x: float, smooth: bool
) -> None:
    model = TinyModel(several)
    expected = copy.deepcopy(model)
    engine = make_engine(
        model, weight=weight, weight_x=weight_x, label_smooth=smooth, criterion=DRSLoss(temperature=0.2)
    )
    summary = engine.forward_backward({"img": images, "pid": PIDS})

    logits, features = expected(images)
    logits, features = (logits, features) if several else ((logits,), (features,))
    drsl = sum(drsl_loss(each, PIDS, temperature=0.2) for each in features) / len(features)
    softmax = sum(cross_entropy(each, smooth) for each in logits) / len(logits)
    (weight * drsl + weight_x * softmax).backward()
    for (name, moved), start in zip(model.named_parameters(), expected.parameters(), strict=True):
        gradient = torch.zeros_like(start) if start.grad is None else start.grad
        torch.testing.assert_close(moved, start - 0.1 * gradient, msg=name)
    if weight:
        assert summary["loss_drsl"] == pytest.approx(drsl.item(), rel=1e-5)
    if weight_x:
        assert summary["loss_x"] == pytest.approx(softmax.item(), rel=1e-5)
    assert list(summary) == ["loss_drsl", *PARTS] * bool(weight) + ["loss_x", "acc"] * bool(weight_x)


def test_logged_parts_are_those_of_the_loss(images: Tensor) -> None:
    model = TinyModel()
    _, parts = drsl_loss(model(images)[1], PIDS, return_parts=True)
    summary = make_engine(model).forward_backward({"img": images, "pid": PIDS})
    assert [summary[name] for name in PARTS] == pytest.approx([part.item() for part in parts], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("distance", "euclidean"),
        ("temperature", 0.3),
        ("relaxation", "linear"),
        ("sort", "order"),
        ("sort_weight", 0.2),
        ("gradient", "slope"),
        ("terms", "graded"),
        ("center", True),
    ],
)
def test_every_setting_reaches_the_loss_from_the_configuration(images: Tensor, name: str, value: Any) -> None:
    cfg = get_default_config()
    cfg.use_gpu, cfg.loss.name, cfg.sampler.train_sampler = False, "drsl", "RandomIdentitySampler"
    cfg.loss.drsl[name] = value
    model = TinyModel()
    cfg.loss.drsl.weight_x = 0.0

    def of(**settings: Any) -> tuple[float, Tensor]:
        loss = DRSLoss(**settings)(model(images)[1], PIDS)
        return loss.item(), torch.autograd.grad(loss, next(model.parameters()))[0]

    (expected, gradient), (default, default_gradient) = of(**{name: value}), of()
    datamanager = SimpleNamespace(train_loader=[], test_loader={}, num_train_pids=CLASSES)
    engine = build_drsl_engine(cfg, datamanager, model, torch.optim.SGD(model.parameters(), lr=0.1), None)
    summary = engine.forward_backward({"img": images, "pid": PIDS})
    assert summary["loss_drsl"] == pytest.approx(expected, rel=1e-5)
    assert name == "gradient" or summary["loss_drsl"] != pytest.approx(default, rel=1e-5)
    stepped = next(model.parameters()).grad
    torch.testing.assert_close(stepped, gradient, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(gradient, default_gradient, rtol=1e-3)


@pytest.mark.parametrize("smooth", [True, False])
def test_weights_smoothing_and_pooling_reach_the_engine_from_the_configuration(smooth: bool) -> None:
    cfg = get_default_config()
    cfg.use_gpu, cfg.loss.name, cfg.data.type, cfg.video.pooling_method = False, "drsl", "video", "max"
    cfg.loss.drsl.weight, cfg.loss.drsl.weight_x, cfg.loss.softmax.label_smooth = 0.25, 0.75, smooth
    datamanager = SimpleNamespace(train_loader=[], test_loader={}, num_train_pids=CLASSES)
    engine = build_drsl_engine(cfg, datamanager, TinyModel(), torch.optim.SGD([torch.zeros(1)], lr=0.1), None)
    assert isinstance(engine, VideoDRSLEngine)
    assert (engine.weight, engine.weight_x, engine.pooling_method) == (0.25, 0.75, "max")
    assert engine.criterion_x.eps == (0.1 if smooth else 0)


def test_data_parallel_takes_the_same_step(images: Tensor) -> None:
    plain = TinyModel()
    wrapped = nn.DataParallel(copy.deepcopy(plain))
    for model in (plain, wrapped):
        make_engine(model).forward_backward({"img": images, "pid": PIDS})
    for one, other in zip(plain.parameters(), wrapped.module.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("name", "input_size"), [("hacnn", (160, 64)), ("pcb_p4", (64, 32))])
def test_torchreids_models_with_several_outputs_train(name: str, input_size: tuple[int, int]) -> None:
    model = torchreid.models.build_model(name, CLASSES, loss="triplet", pretrained=False, use_gpu=False)
    engine = make_engine(model)
    before = copy.deepcopy(model.state_dict())
    summary = engine.forward_backward({"img": torch.randn(6, 3, *input_size), "pid": PIDS})
    assert 0 < summary["loss_drsl"] <= 2
    assert any(not torch.equal(before[key], value) for key, value in model.state_dict().items() if "classifier" in key)


def test_frames_are_instances_of_their_tracklets_identity(images: Tensor) -> None:
    model = TinyModel()
    expected = drsl_loss(model(images)[1], PIDS).item()
    engine = make_engine(model, VideoDRSLEngine)
    clips = {"img": images.view(3, 2, 3, 4, 2), "pid": torch.tensor([0, 1, 2])}  # three tracklets of two frames
    assert engine.forward_backward(clips)["loss_drsl"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("method", "pooled"), [("avg", torch.mean), ("max", torch.amax)])
def test_video_features_are_pooled_over_frames(images: Tensor, method: str, pooled: Any) -> None:
    model = TinyModel().eval()
    engine = make_engine(model, VideoDRSLEngine, pooling_method=method)
    model.eval()
    features = engine.extract_features(images.view(3, 2, 3, 4, 2))
    torch.testing.assert_close(features, pooled(model(images).view(3, 2, -1), dim=1))


def test_nan_stops_before_the_step_and_names_the_parts(images: Tensor) -> None:
    model = TinyModel()
    engine = make_engine(model)
    engine.epoch, engine.batch_idx = 4, 6
    before = copy.deepcopy(model.state_dict())
    images[0, 0, 0, 0] = float("nan")
    with pytest.raises(DRSLError, match=r"epoch 5, step 7: .*loss_drsl nan, ranking nan, sorting nan.*loss_x nan"):
        engine.forward_backward({"img": images, "pid": PIDS})
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": -1.0}, "weight must be .* got -1.0"),
        ({"weight": 0.0, "weight_x": 0.0}, "weight must be above 0 where weight_x is 0, or nothing is trained"),
        ({"weight_x": float("nan")}, "weight_x must be"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_engine(TinyModel(), **settings)


def test_unknown_pooling_method_is_refused() -> None:
    with pytest.raises(ValueError, match="pooling_method must be 'avg' or 'max', got 'median'"):
        make_engine(TinyModel(), VideoDRSLEngine, pooling_method="median")


def test_model_without_features_is_refused(images: Tensor) -> None:
    engine = make_engine(nn.Sequential(nn.Flatten(), nn.Linear(24, CLASSES)))
    with pytest.raises(DRSLError, match="loss='drsl'"):
        engine.forward_backward({"img": images, "pid": PIDS})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler.train_sampler": "RandomSampler"}, "sampler.train_sampler RandomSampler"),
        ({"train.fixbase_epoch": 1, "loss.drsl.weight_x": 0.0}, "train.fixbase_epoch 1: with loss.drsl.weight_x 0"),
        ({"train.batch_size": 30}, "train.batch_size 30"),
    ],
)
def test_an_engine_that_could_not_train_is_not_built(changes: dict[str, Any], message: str) -> None:
    cfg = get_default_config()
    cfg.use_gpu, cfg.loss.name, cfg.sampler.train_sampler = False, "drsl", "RandomIdentitySampler"
    merge_options(cfg, [str(word) for pair in changes.items() for word in pair])
    with pytest.raises(DRSLError, match=message):
        build_drsl_engine(cfg, None, TinyModel(), torch.optim.SGD([torch.zeros(1)], lr=0.1), None)


@pytest.mark.parametrize("kind", ["image", "video"])
def test_torchreids_own_engines_get_their_settings(kind: str) -> None:
    cfg = get_default_config()
    cfg.use_gpu, cfg.loss.name, cfg.data.type = False, "triplet", kind
    cfg.loss.triplet.margin, cfg.loss.triplet.weight_t, cfg.loss.triplet.weight_x = 0.7, 0.4, 0.6
    cfg.loss.softmax.label_smooth, cfg.video.pooling_method = False, "max"
    engine = make_engine(TinyModel(), engine_class(cfg), **engine_kwargs(cfg))
    assert type(engine).__name__ == f"{kind.capitalize()}TripletEngine"
    assert (engine.criterion_t.margin, engine.weight_t, engine.weight_x) == (0.7, 0.4, 0.6)
    assert engine.criterion_x.eps == 0
    assert getattr(engine, "pooling_method", "max") == "max"
