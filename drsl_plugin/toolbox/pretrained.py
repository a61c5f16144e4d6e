"""What to say when pretrained weights cannot be fetched, or cannot be taken from the file that is named."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gdown
import torch
from torch import nn
from torch.utils import model_zoo

from drsl_plugin.errors import SettingError
from drsl_plugin.runs.reading import UnsafeFileError
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
        except UnsafeFileError as error:
            raise SettingError(setting, True, f"{error.setting} {error.needs}") from None
        except Exception as error:  # urllib, gdown, torch and the file system each raise their own
            if not places:
                raise
            reason = _shorten(error)
            what, (url, path) = f"the ImageNet weights of {model} cannot be", places[-1]
            needs = (
                f"{what} loaded ({reason}); delete {path}, which is something else"
                if url is None
                else f"{what} fetched ({reason}); put the file (from {url}) at {path}"
            )
            raise SettingError(setting, True, f"{needs}, or set {setting} False") from error


@contextlib.contextmanager
def explained_file(setting: str, path: str, model: str) -> Iterator[None]:
    """Turn what goes wrong with a file of weights, while a model is built of it, into one line.

    What a toolbox leaves out of such a file without a word is an error where it is more than half of the model.

    Args:
        setting: the key that names the file.
        path: the file; an empty one names none.
        model: the model that the weights are for.

    Raises:
        SettingError: a file that cannot be read, has the weights elsewhere, or has another model's.
    """
    if not path:
        yield
        return
    is_in_use, read, take = False, torch.load, nn.Module.load_state_dict

    def load(file: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal is_in_use
        is_in_use = is_in_use or str(file) == path
        return read(file, *args, **kwargs)

    def load_state_dict(self: nn.Module, state: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal is_in_use
        result = take(self, state, *args, **kwargs)
        if is_in_use:
            own = [name for name, value in self.state_dict().items() if value.is_floating_point()]
            fitting = sum(name in state for name in own)
            if 2 * fitting < len(own):
                needs = f"weights of another model, {fitting} of the {len(own)} tensors of {model} are in it"
                raise SettingError(setting, path, needs)
        is_in_use = False
        return result

    with replaced_all((torch, "load", load), (nn.Module, "load_state_dict", load_state_dict)):
        try:
            yield
        except UnsafeFileError as error:
            raise SettingError(setting, path, error.needs) from None
        except Exception as error:
            if not is_in_use or isinstance(error, SettingError):
                raise
            raise SettingError(setting, path, _reason(error, model)) from error


def _reason(error: Exception, model: str) -> str:
    if isinstance(error, OSError):
        return error.strerror or _shorten(error)
    if isinstance(error, KeyError):
        return f"no {error} in it, where the weights of {model} are looked for"
    return f"no weights of {model} can be taken from it ({_shorten(error)})"


def _shorten(error: Exception) -> str:
    return textwrap.shorten(str(error), 160, placeholder=" ...") or type(error).__name__


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
