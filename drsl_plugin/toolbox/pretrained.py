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

from drsl_plugin.errors import SettingError
from drsl_plugin.toolbox.patching import replaced_all


@contextlib.contextmanager
def explained_download(setting: str, model: str, *, enabled: bool) -> Iterator[None]:
    """Turn a failed download of ImageNet weights into one line that says where to put the file.

    Args:
        setting: the key that asks for them, as the toolbox spells it.
        model: the model that they are for.
        enabled: whether it does.

    Raises:
        SettingError: the weights could be neither found nor fetched.
    """
    if not enabled:
        yield
        return
    with _note_places() as places:
        try:
            yield
        except Exception as error:  # urllib, gdown, torch and the file system each raise their own
            if not places:
                raise
            reason = textwrap.shorten(str(error), 160, placeholder=" ...") or type(error).__name__
            what, (url, path) = f"the ImageNet weights of {model} cannot be", places[-1]
            needs = (
                f"{what} loaded ({reason}); delete {path}, which is something else"
                if url is None
                else f"{what} fetched ({reason}); put the file (from {url}) at {path}"
            )
            raise SettingError(setting, True, f"{needs}, or set {setting} False") from error


@contextlib.contextmanager
def _note_places() -> Iterator[list[tuple[str | None, Path]]]:
    """Note what a toolbox fetches and to where, and what it loads: neither has a table of this for all its models."""
    places: list[tuple[str | None, Path]] = []
    fetch, fetch_from_zoo, read = gdown.download, vars(model_zoo)["load_url"], torch.load

    def download(url: str, output: str, **kwargs: Any) -> Any:
        places.append((url, Path(output)))
        return fetch(url, output, **kwargs)

    def load_url(url: str, **kwargs: Any) -> Any:
        places.append((url, Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])))
        return fetch_from_zoo(url, **kwargs)

    def load(file: Any, *args: Any, **kwargs: Any) -> Any:
        if not places and isinstance(file, (str, Path)):
            places.append((None, Path(file)))
        return read(file, *args, **kwargs)

    with replaced_all((gdown, "download", download), (model_zoo, "load_url", load_url), (torch, "load", load)):
        yield places
