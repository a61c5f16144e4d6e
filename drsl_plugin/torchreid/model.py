"""The model of a run, with the weights that it starts from."""

from __future__ import annotations

from torch import nn

from drsl_plugin.errors import SettingError
from drsl_plugin.runs.checkpoint_files import load
from drsl_plugin.toolbox.guarding import guarded_reading
from drsl_plugin.toolbox.pretrained import explained_download
from drsl_plugin.toolbox.types import ConfigNode
from drsl_plugin.torchreid import processes
from drsl_plugin.torchreid.host import torchreid


def build_model(cfg: ConfigNode, num_classes: int) -> nn.Module:
    """Build the model that a configuration names.

    Args:
        cfg: the configuration.
        num_classes: the number of training identities.

    Raises:
        DRSLError: weights that cannot be fetched or are of another model, or layers that it lacks.
    """
    print(f"Building model: {cfg.model.name}")
    download = explained_download("model.pretrained", cfg.model.name, enabled=cfg.model.pretrained)
    with processes.let_main_go_first(), guarded_reading(), download:
        model: nn.Module = torchreid.models.build_model(
            name=cfg.model.name,
            num_classes=num_classes,
            loss="softmax" if cfg.loss.name == "softmax" else "triplet",
            pretrained=cfg.model.pretrained,
            use_gpu=cfg.use_gpu,
        )
    parameters, operations = torchreid.utils.compute_model_complexity(model, (1, 3, cfg.data.height, cfg.data.width))
    print(f"Model complexity: params={parameters:,} flops={operations:,}")
    if cfg.model.load_weights:
        _load_weights(model, cfg.model.load_weights)
    if not cfg.test.evaluate:
        _check_layers(cfg, model)
    return model


def _load_weights(model: nn.Module, path: str) -> None:
    """Load weights as Torchreid does, leaving out layers of another shape; fitting less than half is an error here."""
    weights = load(path, "model.load_weights")
    weights = weights.get("state_dict", weights)
    own = {key: value.shape for key, value in model.state_dict().items() if value.is_floating_point()}
    found = {key.removeprefix("module."): getattr(value, "shape", None) for key, value in weights.items()}
    fitting = sum(found.get(key) == shape for key, shape in own.items())
    if 2 * fitting < len(own):  # a classifier for other identities is no other model
        needs = f"weights of another model, {fitting} of the {len(own)} tensors of {type(model).__name__} are in it "
        raise SettingError("model.load_weights", path, f"{needs}with their shape")
    with guarded_reading():
        torchreid.utils.load_pretrained_weights(model, path)


def _check_layers(cfg: ConfigNode, model: nn.Module) -> None:
    """Check that the layers are there which the run begins with, or which have a learning rate of their own."""
    train, known = cfg.train, [name for name, _ in model.named_children()]
    named = {
        "train.open_layers": train.open_layers if train.fixbase_epoch > 0 else [],
        "train.new_layers": train.new_layers if train.staged_lr else [],
    }
    for key, layers in named.items():
        for layer in layers:
            if layer not in known:
                needs = f"{cfg.model.name} has no such layer; it has {', '.join(known)}"
                raise SettingError(key, layer, needs)
