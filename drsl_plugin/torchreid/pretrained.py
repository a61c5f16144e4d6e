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
def explained_download(cfg: Any) -> Iterator[None]:
    """Turn a failed download of ImageNet weights into one line that says where to put the file.

    Raises:
        DRSLError: ``model.pretrained`` is True and its weights could be neither found nor fetched.
    """
    if not cfg.model.pretrained:
        yield
        return
    with _noted_downloads() as downloads:
        try:
            yield
        except Exception as error:  # urllib, gdown, torch and the file system each raise their own
            what = f"model.pretrained True: the ImageNet weights of {cfg.model.name} cannot be"
            reason = textwrap.shorten(str(error), 160, placeholder=" ...") or type(error).__name__
            if not downloads:
                raise DRSLError(
                    f"{what} loaded ({reason}); delete the file that Torchreid keeps of them, or set model.pretrained "
                    "False"
                ) from error
            url, path = downloads[-1]
            raise DRSLError(
                f"{what} fetched ({reason}); put the file (from {url}) at {path}, or set model.pretrained False"
            ) from error


@contextlib.contextmanager
def _noted_downloads() -> Iterator[list[tuple[str, Path]]]:
    """Note what Torchreid fetches, and to where; it has no table of this that all its models share."""
    downloads: list[tuple[str, Path]] = []
    zoo: Any = model_zoo  # typed as not exporting what it is for
    originals = gdown.download, zoo.load_url

    def download(url: str, output: str, **kwargs: Any) -> Any:
        downloads.append((url, Path(output)))
        return originals[0](url, output, **kwargs)

    def load_url(url: str, **kwargs: Any) -> Any:
        downloads.append((url, Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])))
        return originals[1](url, **kwargs)

    gdown.download, zoo.load_url = download, load_url
    try:
        yield downloads
    finally:
        gdown.download, zoo.load_url = originals
