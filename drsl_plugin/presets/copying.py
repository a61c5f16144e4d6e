"""Presets that stand on their own, merged with all that they build on: as text, as a file and as values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from drsl_plugin.errors import DRSLError
from drsl_plugin.presets.finding import SUFFIXES, preset_name, preset_path
from drsl_plugin.presets.merging import merge_texts

_BASE = "_BASE_"  # FastReID's key for the file that a preset builds on


def preset_text(name: str) -> str:
    """Return a preset as one file that stands on its own.

    A preset without a base is returned as it is. One that builds on others (FastReID's ``_BASE_``) is merged with
    them by FastReID's rule: mappings merge, anything else is the leaf's. Values keep their spelling, but for the
    blanks in a list, and the comments beside them; the comment lines of all the files stand at the head, the leaf's
    first.

    Args:
        name: the preset's name as :func:`preset_path` takes it.

    Returns:
        The text of a YAML file.

    Raises:
        DRSLError: no such preset.

    Example:
        >>> text = preset_text("Market1501/bagtricks_R50_drsl")
        >>> text.splitlines()[0]
        '# fastreid/Market1501/bagtricks_R50_drsl, with all that it builds on in this one file.'
        >>> yaml.safe_load(text)["SOLVER"]["IMS_PER_BATCH"]
        64
    """
    path = preset_path(name)
    files = _read_with_bases(path)
    if len(files) == 1:
        return files[path]
    head = [f"# {preset_name(path)}, with all that it builds on in this one file."]
    for file, text in files.items():
        head += ["#", f"# {file.name}:", *(line.strip() for line in text.splitlines() if line.lstrip().startswith("#"))]
    return "\n".join([*head, "", merge_texts(reversed(files.values()), without=_BASE)])


def copy_preset(name: str, destination: Path) -> Path:
    """Copy a preset, as the start of one's own configuration; nothing that exists is overwritten.

    The copy is what :func:`preset_text` returns: it needs no other file.

    Args:
        name: the preset's name as :func:`preset_path` takes it.
        destination: the file to write, if it ends in ``.yaml`` or ``.yml``; otherwise the folder to put the
            preset's file into. Folders that are missing are made.

    Returns:
        The path of the copy.

    Raises:
        DRSLError: no such preset, the file exists already, or it cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     copy_preset("resnet50_drsl_256x128_msmt17", Path(folder, "mine.yaml")).name
        'mine.yaml'
    """
    source = preset_path(name)
    target = destination if destination.suffix in SUFFIXES else destination / source.name
    content = preset_text(name).encode("utf-8")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(content)
    except FileExistsError as error:
        raise DRSLError(f"{error.filename} exists already and is not overwritten") from error
    except OSError as error:
        raise DRSLError(f"{target} cannot be written: {error.strerror}") from error
    return target


def merged_settings(path: Path) -> dict[str, Any]:
    """Read a configuration file and those that it builds on, merged by FastReID's rule.

    Args:
        path: the file.

    Returns:
        Its nested settings.

    Example:
        >>> merged_settings(preset_path("Market1501/bagtricks_R50_drsl"))["SOLVER"]["IMS_PER_BATCH"]
        64
    """
    merged: dict[str, Any] = {}
    for text in reversed(_read_with_bases(path).values()):
        merged = _merge_trees(merged, yaml.safe_load(text) or {})
    merged.pop(_BASE, None)
    return merged


def _read_with_bases(path: Path) -> dict[Path, str]:
    """Read a file and what it builds on: itself, its base, the base's base."""
    files: dict[Path, str] = {}
    base: str | None = path.name
    while base is not None:
        path = path.parent / base
        files[path] = path.read_bytes().decode("utf-8")  # read_text would change the line ends
        content = yaml.safe_load(files[path])
        base = content.get(_BASE) if isinstance(content, dict) else None
    return files


def _merge_trees(base: dict[str, Any], leaf: dict[str, Any]) -> dict[str, Any]:
    """Merge nested settings by FastReID's rule."""
    merged = {**base, **leaf}
    for key in base.keys() & leaf.keys():
        if isinstance(base[key], dict) and isinstance(leaf[key], dict):
            merged[key] = _merge_trees(base[key], leaf[key])
    return merged
