"""Finds the presets: the configuration files of ``configs/``, in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from drsl_plugin.errors import DRSLError, SettingError, nearest

SUFFIXES = (".yaml", ".yml")
TABLES = "tables"
"""The folder of ``configs/`` that has no presets, but the shipped tables."""


def preset_names(toolbox: str | None = None) -> list[str]:
    """Name the presets: the path of each below ``configs/``, without its suffix.

    Files and folders whose name starts with ``Base`` or ``_`` are what presets build on, and left out.

    Args:
        toolbox: whose; all presets by default.

    Returns:
        The names in alphabetical order.

    Raises:
        SettingError: no such toolbox.

    Example:
        >>> preset_names("torchreid")[0]
        'torchreid/osnet_ain_x1_0_drsl_256x128_cuhk03'
    """
    known = _list_toolboxes()
    if toolbox is not None and toolbox not in known:
        raise SettingError("toolbox", "", f"{toolbox!r} is none of {', '.join(known)}")
    return sorted(name for name in _find_presets() if toolbox is None or _name_toolbox(name) == toolbox)


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
    files = _find_presets()
    matches = _find_matches(name, files)
    if not matches:
        raise DRSLError(f"no preset called {name!r}{nearest(_strip(name), files)}")
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
    return next((name for name, file in _find_presets().items() if file.resolve() == resolved), None)


def resolve_config(path_or_name: str, toolbox: str) -> Path:
    """Find what ``--config-file`` names: an existing file, or else a preset of the toolbox.

    Args:
        path_or_name: a path, or a preset's name as :func:`preset_path` takes it.
        toolbox: the one that is to read the file.

    Returns:
        The path of the file.

    Raises:
        SettingError: there is neither, or the preset is another toolbox's; a caller whose setting is another one
            has it ``named`` so.

    Example:
        >>> resolve_config("resnet50_triplet_256x128_msmt17", "torchreid").parent.name
        'torchreid'
    """
    path = Path(path_or_name)
    if path.is_file():
        return path
    files = _find_presets()
    matches = _find_matches(path_or_name, files)
    own = [name for name in matches if _name_toolbox(name) == toolbox]
    if own:
        return files[own[0]]
    if matches:
        command = f"drsl {_name_toolbox(matches[0])}"
        raise SettingError("--config-file", "", f"{matches[0]} is a preset for `{command}`, not for {toolbox}")
    hint = nearest(_strip(path_or_name), preset_names(toolbox))
    raise SettingError("--config-file", "", f"no file and no preset called {path_or_name!r}{hint}")


def table_path(path_or_name: str) -> Path:
    """Find a table file: an existing file, or one of the shipped tables by its name.

    Args:
        path_or_name: a path, or the name of a file in ``configs/tables/``, without its suffix or with it.

    Returns:
        The path of the file.

    Raises:
        SettingError: there is neither.

    Example:
        >>> table_path("ablation").name
        'ablation.yaml'
    """
    path = Path(path_or_name)
    if path.is_file():
        return path
    shipped = {each.stem: each for each in sorted((_configs_folder() / TABLES).glob("*.yaml"))}
    stem = _strip(path_or_name).removeprefix(f"{TABLES}/")
    if stem not in shipped:
        raise SettingError("TABLE", "", f"no file {path_or_name!r}, and the shipped tables are {', '.join(shipped)}")
    return shipped[stem]


def _configs_folder() -> Path:
    """Return ``configs/``: inside the package once installed, beside it in a checkout or an editable install."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def _list_toolboxes() -> list[str]:
    """List the toolboxes that have presets: the folders of ``configs/``, but for that of the tables."""
    folders = sorted(path.name for path in _configs_folder().glob("[!_.]*") if path.is_dir())
    return [name for name in folders if name != TABLES]


def _find_presets() -> dict[str, Path]:
    """Map each preset's name to its file."""
    root = _configs_folder()
    files: dict[str, Path] = {}
    for toolbox in _list_toolboxes():
        for path in (root / toolbox).rglob("*"):
            inner = path.relative_to(root)
            if path.suffix in SUFFIXES and not any(part.startswith(("Base", "_")) for part in inner.parts):
                files[inner.with_suffix("").as_posix()] = path
    return files


def _find_matches(name: str, known: dict[str, Path]) -> list[str]:
    """List the presets that ``name`` may mean: itself, or with its toolbox left out."""
    stem = _strip(name)
    return sorted(full for full in known if stem in (full, full.partition("/")[2]))


def _strip(name: str) -> str:
    """Strip what users carry over from a path: ``configs/`` and the suffix."""
    stem = name.replace("\\", "/").removeprefix("configs/")
    for suffix in SUFFIXES:
        stem = stem.removesuffix(suffix)
    return stem


def _name_toolbox(name: str) -> str:
    """Return the toolbox of a preset: the first part of its name."""
    return name.partition("/")[0]
