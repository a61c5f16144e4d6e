"""What to say when pretrained weights cannot be fetched."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gdown
import torch
from torch.utils import model_zoo

from drsl_plugin.errors import DRSLError


@contextlib.contextmanager
def explained_download(setting: str, model: str, *, enabled: bool) -> Iterator[None]:
    """Turn a failed download of ImageNet weights into one line that says where to put the file.

    Args:
        setting: the setting that asks for them, ``model.pretrained`` or ``MODEL.BACKBONE.PRETRAIN``.
        model: the model that they are for.
        enabled: whether it does.

    Raises:
        DRSLError: the weights could be neither found nor fetched.
    """
    if not enabled:
        yield
        return
    with _noted_places() as places:
        try:
            yield
        except Exception as error:  # urllib, gdown, torch and the file system each raise their own
            what = f"{setting} True: the ImageNet weights of {model} cannot be"
            reason = textwrap.shorten(str(error), 160, placeholder=" ...") or type(error).__name__
            if not places:
                raise
            url, path = places[-1]
            if url is None:
                raise DRSLError(
                    f"{what} loaded ({reason}); delete {path}, which is something else, or set {setting} False"
                ) from error
            raise DRSLError(
                f"{what} fetched ({reason}); put the file (from {url}) at {path}, or set {setting} False"
            ) from error


@contextlib.contextmanager
def _noted_places() -> Iterator[list[tuple[str | None, Path]]]:
    """Note what a toolbox fetches and to where, and what it loads: neither has a table of this for all its models."""
    places: list[tuple[str | None, Path]] = []
    zoo: Any = model_zoo  # typed as not exporting what it is for
    originals = gdown.download, zoo.load_url, torch.load

    def download(url: str, output: str, **kwargs: Any) -> Any:
        places.append((url, Path(output)))
        return originals[0](url, output, **kwargs)

    def load_url(url: str, **kwargs: Any) -> Any:
        places.append((url, Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])))
        return originals[1](url, **kwargs)

    def load(file: Any, *args: Any, **kwargs: Any) -> Any:
        if not places and isinstance(file, (str, Path)):
            places.append((None, Path(file)))
        return originals[2](file, *args, **kwargs)

    gdown.download, zoo.load_url, torch.load = download, load_url, load  # type: ignore[assignment, unused-ignore]
    try:
        yield places
    finally:
        gdown.download, zoo.load_url, torch.load = originals
