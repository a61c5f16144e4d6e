"""Finds the presets: the configuration files of ``configs/``, in a checkout and in an installed wheel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from drsl_plugin.errors import DRSLError, nearest

# The command that runs a toolbox's presets; its keys are the folders of configs/.
COMMANDS = {"fastreid": "drsl fastreid", "torchreid": "drsl torchreid"}

_SUFFIXES = (".yaml", ".yml")
_BASE = "_BASE_"  # FastReID's key for the file that a preset builds on


def preset_names(toolbox: str | None = None) -> list[str]:
    """Name the presets: the path of each below ``configs/``, without its suffix.

    Files and folders whose name starts with ``Base`` or ``_`` are what presets build on, and left out.

    Args:
        toolbox: ``"torchreid"`` or ``"fastreid"``; all presets by default.

    Returns:
        The names in alphabetical order.

    Raises:
        DRSLError: no such toolbox.

    Example:
        >>> preset_names("torchreid")[0]
        'torchreid/osnet_ain_x1_0_drsl_256x128_cuhk03'
    """
    if toolbox is not None and toolbox not in COMMANDS:
        raise DRSLError(f"toolbox: {toolbox!r} is none of {', '.join(COMMANDS)}")
    return sorted(name for name in _preset_files() if toolbox is None or _toolbox(name) == toolbox)


def preset_path(name: str) -> Path:
    """Find the file of a preset.

    Args:
        name: the preset's name; its toolbox, a leading ``configs/`` and the file's suffix may be there or not.

    Returns:
        The path of the file.

    Raises:
        DRSLError: no preset has the name, or one of each toolbox has it.

    Example:
        >>> preset_path("osnet_x1_0_drsl_256x128_market1501").name
        'osnet_x1_0_drsl_256x128_market1501.yaml'
    """
    files = _preset_files()
    matches = _matches(name, files)
    if not matches:
        raise DRSLError(f"no preset called {name!r}{nearest(_stem(name), files)}")
    if len(matches) > 1:
        raise DRSLError(f"preset {name!r} is ambiguous: {' or '.join(matches)}")
    return files[matches[0]]


def preset_name(path: Path) -> str | None:
    """Name the preset that a file is, or return None for any other file.

    Args:
        path: a configuration file.

    Example:
        >>> preset_name(preset_path("resnet50_drsl_256x128_msmt17"))
        'torchreid/resnet50_drsl_256x128_msmt17'
    """
    resolved = path.resolve()
    return next((name for name, file in _preset_files().items() if file.resolve() == resolved), None)


def resolve_config(path_or_name: str, toolbox: str) -> Path:
    """Find what ``--config-file`` names: an existing file, or else a preset of the toolbox.

    Args:
        path_or_name: a path, or a preset's name as :func:`preset_path` takes it.
        toolbox: ``"torchreid"`` or ``"fastreid"``: the one that is to read the file.

    Returns:
        The path of the file.

    Raises:
        DRSLError: there is neither, or the preset is the other toolbox's.

    Example:
        >>> resolve_config("resnet50_triplet_256x128_msmt17", "torchreid").parent.name
        'torchreid'
    """
    path = Path(path_or_name)
    if path.is_file():
        return path
    files = _preset_files()
    matches = _matches(path_or_name, files)
    own = [name for name in matches if _toolbox(name) == toolbox]
    if own:
        return files[own[0]]
    if matches:
        other = COMMANDS[_toolbox(matches[0])]
        raise DRSLError(f"--config-file: {matches[0]} is a preset for `{other}`, not for {toolbox}")
    hint = nearest(_stem(path_or_name), preset_names(toolbox))
    raise DRSLError(f"--config-file: no file and no preset called {path_or_name!r}{hint}")


def preset_text(name: str) -> str:
    """Return a preset as one file that stands on its own.

    A preset without a base is returned as it is. One that builds on others (FastReID's ``_BASE_``) is merged with
    them by FastReID's rule: mappings merge, anything else is the leaf's. Values keep their spelling and the comments
    beside them; the comment lines of all the files stand at the head, the leaf's first.

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
    files = _with_bases(path)
    if len(files) == 1:
        return files[path]
    settings: dict[str, _Setting] = {}
    for text in reversed(files.values()):  # the base at the bottom first
        settings = _merge(settings, _settings(text, yaml.compose(text)))
    del settings[_BASE]
    head = [f"# {preset_name(path)}, with all that it builds on in this one file."]
    for file, text in files.items():
        head += ["#", f"# {file.name}:", *(line.strip() for line in text.splitlines() if line.lstrip().startswith("#"))]
    return "\n".join([*head, *_lines(settings), ""])


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
    target = destination if destination.suffix in _SUFFIXES else destination / source.name
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
    for text in reversed(_with_bases(path).values()):
        merged = _merge_trees(merged, yaml.safe_load(text) or {})
    merged.pop(_BASE, None)
    return merged


def table_path(path_or_name: str) -> Path:
    """Find a table file: an existing file, or one of the shipped tables by its name.

    Args:
        path_or_name: a path, or the name of a file in ``configs/tables/``, without its suffix or with it.

    Returns:
        The path of the file.

    Raises:
        DRSLError: there is neither.

    Example:
        >>> table_path("ablation").name
        'ablation.yaml'
    """
    path = Path(path_or_name)
    if path.is_file():
        return path
    shipped = {each.stem: each for each in sorted((_configs_folder() / "tables").glob("*.yaml"))}
    stem = _stem(path_or_name).removeprefix("tables/")
    if stem not in shipped:
        raise DRSLError(f"TABLE: no file {path_or_name!r}, and the shipped tables are {', '.join(shipped)}")
    return shipped[stem]


def _configs_folder() -> Path:
    """Return ``configs/``: inside the package once installed, beside it in a checkout or an editable install."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def _preset_files() -> dict[str, Path]:
    """Map each preset's name to its file."""
    root = _configs_folder()
    files: dict[str, Path] = {}
    for toolbox in COMMANDS:
        for path in (root / toolbox).rglob("*"):
            inner = path.relative_to(root)
            if path.suffix in _SUFFIXES and not any(part.startswith(("Base", "_")) for part in inner.parts):
                files[inner.with_suffix("").as_posix()] = path
    return files


def _matches(name: str, known: dict[str, Path]) -> list[str]:
    """List the presets that ``name`` may mean: itself, or with its toolbox left out."""
    stem = _stem(name)
    return sorted(full for full in known if stem in (full, full.partition("/")[2]))


def _stem(name: str) -> str:
    """Strip what users carry over from a path: ``configs/`` and the suffix."""
    stem = name.replace("\\", "/").removeprefix("configs/")
    for suffix in _SUFFIXES:
        stem = stem.removesuffix(suffix)
    return stem


def _toolbox(name: str) -> str:
    """Return the toolbox of a preset: the first part of its name."""
    return name.partition("/")[0]


def _with_bases(path: Path) -> dict[Path, str]:
    """Read a file and what it builds on: itself, its base, the base's base."""
    files: dict[Path, str] = {}
    base: str | None = path.name
    while base is not None:
        path = path.parent / base
        files[path] = path.read_bytes().decode("utf-8")  # read_text would change the line ends
        content = yaml.safe_load(files[path])
        base = content.get(_BASE) if isinstance(content, dict) else None
    return files


@dataclass(frozen=True)
class _Setting:
    """A value as its file spells it, or the settings below a key; and the comment beside it."""

    value: str | dict[str, _Setting]
    comment: str


def _settings(text: str, mapping: Any) -> dict[str, _Setting]:
    """Take a mapping node of ``text`` apart, in which each value is to end on the line of its key."""
    settings = {}
    for key, value in mapping.value:
        nested = isinstance(value, yaml.MappingNode)
        spelled = _settings(text, value) if nested else text[value.start_mark.index : value.end_mark.index]
        end = key.end_mark.index + len(":") if nested and not value.flow_style else value.end_mark.index
        rest = text[end:].partition("\n")[0].strip()
        settings[key.value] = _Setting(spelled, rest if rest.startswith("#") else "")
    return settings


def _merge(base: dict[str, _Setting], leaf: dict[str, _Setting]) -> dict[str, _Setting]:
    """Merge by FastReID's rule; a comment goes with its value."""
    merged = dict(base)
    for key, setting in leaf.items():
        below = base.get(key)
        if below and isinstance(below.value, dict) and isinstance(setting.value, dict):
            merged[key] = _Setting(_merge(below.value, setting.value), setting.comment or below.comment)
        else:
            merged[key] = setting
    return merged


def _merge_trees(base: dict[str, Any], leaf: dict[str, Any]) -> dict[str, Any]:
    """Merge nested settings by the same rule."""
    merged = {**base, **leaf}
    for key in base.keys() & leaf.keys():
        if isinstance(base[key], dict) and isinstance(leaf[key], dict):
            merged[key] = _merge_trees(base[key], leaf[key])
    return merged


def _lines(settings: dict[str, _Setting], indent: str = "") -> list[str]:
    """Write settings as YAML, with an empty line above each of the outermost."""
    lines = []
    for key, setting in settings.items():
        value, inner = ("", setting.value) if isinstance(setting.value, dict) else (f" {setting.value}", {})
        comment = f"  {setting.comment}" if setting.comment else ""
        lines += [] if indent else [""]
        lines += [f"{indent}{key}:{value}{comment}", *_lines(inner, indent + "  ")]
    return lines
