"""What to say when pretrained weights cannot be fetched."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from drsl_plugin.errors import DRSLError
from drsl_plugin.torchreid.host import registry, torchreid


@contextlib.contextmanager
def explained_download(cfg: Any) -> Iterator[None]:
    """Turn a failed download of ImageNet weights into one line that says where to put the file.

    Raises:
        DRSLError: ``model.pretrained`` is True and its weights could be neither found nor fetched.
    """
    if not cfg.model.pretrained:
        yield
        return
    try:
        yield
    except Exception as error:  # urllib, gdown, torch and the file system each raise their own
        path, url = _weights_of(cfg.model.name)
        source = f" (from {url})" if url else ""
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DRSLError(
            f"model.pretrained True: the ImageNet weights of {cfg.model.name} cannot be fetched ({reason}); put the "
            f"file{source} at {path}, or set model.pretrained False"
        ) from error


def _weights_of(name: str) -> tuple[Path, str | None]:
    """Where Torchreid looks for a model's weights, and where it would fetch them."""
    module = sys.modules[registry(torchreid.models, "__model_factory")[name].__module__]
    drive = getattr(module, "pretrained_urls", {})
    if name in drive:
        home = os.getenv("TORCH_HOME", os.path.join(os.getenv("XDG_CACHE_HOME", "~/.cache"), "torch"))
        return Path(home).expanduser() / "checkpoints" / f"{name}_imagenet.pth", drive[name]
    folder = Path(torch.hub.get_dir(), "checkpoints")
    urls = getattr(module, "model_urls", {})
    for key in (name, name.removesuffix("_fc512"), "resnet50"):  # PCB, ResNet-mid and -IBN start from ResNet-50's
        if key in urls:
            return folder / urls[key].rsplit("/", 1)[-1], urls[key]
    return folder, None
