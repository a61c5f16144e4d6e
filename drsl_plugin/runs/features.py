"""Features as a run leaves them, ``features-<target>.npz``, found, read and checked; knows no toolbox."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drsl_plugin.errors import SettingError, nearest
from drsl_plugin.runs.reading import UnsafeFileError, is_trusting, refusal

IMAGE_SETS = ("query", "gallery")
NEEDED_ARRAYS = tuple(f"{part}_{kind}" for part in IMAGE_SETS for kind in ("features", "pids", "camids"))
_UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, SyntaxError)


class FeatureFile(NamedTuple):
    """The arrays of one target."""

    query_features: NDArray[np.floating]
    """``(Q, D)``, finite."""
    gallery_features: NDArray[np.floating]
    """``(G, D)``, finite."""
    query_pids: NDArray[np.int64]
    gallery_pids: NDArray[np.int64]
    query_camids: NDArray[np.int64]
    gallery_camids: NDArray[np.int64]
    query_paths: NDArray[np.str_] | None
    """``(Q,)``, like the gallery's not in every file."""
    gallery_paths: NDArray[np.str_] | None


def find_features(run: Path, target: str | None = None) -> dict[str, Path]:
    """Return a run's files of features by target.

    Args:
        run: the run folder.
        target: the one to take; None for all.

    Raises:
        SettingError: not a folder, no features in it, or none of this target.
    """
    if not run.is_dir():
        hint = f"; a file of features: drsl evaluate --features {run}" if run.is_file() else ""
        raise SettingError(str(run), "", f"no such run folder{hint}")
    files = {path.stem.removeprefix("features-"): path for path in sorted(run.glob("features-*.npz"))}
    if not files:
        raise SettingError(str(run), "", "no features-TARGET.npz in it; a run writes them when it evaluates")
    if target is None:
        return files
    if target not in files:
        raise SettingError("--target", "", f"{', '.join(files)} in {run}, not {target}{nearest(target, files)}")
    return {target: files[target]}


def read_features(path: str | Path) -> FeatureFile:
    """Read ``query_features``, ``query_pids``, ``query_camids``, ``gallery_…`` likewise, and the paths if there.

    Args:
        path: an ``.npz`` file.

    Returns:
        The arrays; half-precision features in single precision.

    Raises:
        SettingError: not such a file, arrays of pickled objects where files are not trusted, an array that is missing,
            of another kind or of another length, or features that are not finite.
    """
    path = Path(path)
    arrays = _load(path)
    for name in NEEDED_ARRAYS:
        if name not in arrays:
            raise SettingError(str(path), "", f"no array {name}; there are {', '.join(sorted(arrays)) or 'none'}")
    for part in IMAGE_SETS:
        _check_part(path, part, arrays)
    widths = [arrays[f"{part}_features"].shape[1] for part in IMAGE_SETS]
    if widths[0] != widths[1]:
        raise SettingError(str(path), "", f"query_features of {widths[0]} dimensions, gallery_features of {widths[1]}")
    return FeatureFile(*(arrays.get(name) for name in FeatureFile._fields))  # type: ignore[arg-type]  # the checked


def _load(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise SettingError(str(path), "", "no such file")
    try:
        if not zipfile.is_zipfile(path):  # numpy unpickles what is neither that nor one array, where it is allowed to
            raise ValueError("not a zip of arrays")
        return _load_zip(path)
    except (PermissionError, SettingError):
        raise
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise SettingError(str(path), "", f"cannot be read as an .npz file: {reason}") from None


def _load_zip(path: Path) -> dict[str, Any]:
    """Read the arrays; those of Python objects, which are pickled, where files are trusted."""
    trusting = is_trusting()
    with np.load(path, allow_pickle=trusting) as file:
        names = [name for name in file.files if name in FeatureFile._fields]
        pickled = _pickled_arrays(path, names)
        if pickled and not trusting:
            raise UnsafeFileError(str(path), "", refusal(f"holds Python objects in {' and '.join(pickled)}"))
        return {name: np.array(file[name].tolist()) if name in pickled else file[name] for name in names}


def _pickled_arrays(path: Path, names: Iterable[str]) -> list[str]:
    """Return the names of the arrays of Python objects, by their headers alone."""
    found = []
    with zipfile.ZipFile(path) as archive:
        for name in names:
            with archive.open(f"{name}.npy") as member:
                is_first = np.lib.format.read_magic(member) == (1, 0)
                read = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
                if read(member)[2].hasobject:
                    found.append(name)
    return found


def _check_part(path: Path, part: str, arrays: dict[str, Any]) -> None:
    """Check the arrays of the queries or of the gallery, and bring them to their types."""
    features = arrays[f"{part}_features"]
    if features.ndim != 2 or features.dtype.kind not in "fiu" or not features.size:
        got = f"{features.dtype} of shape {features.shape}"
        raise SettingError(str(path), "", f"{part}_features: a row of numbers an image, not {got}")
    for kind in ("pids", "camids", "paths"):
        name = f"{part}_{kind}"
        values = arrays.get(name)
        if values is None:
            continue
        if kind != "paths" and values.dtype.kind not in "iu":
            raise SettingError(str(path), "", f"{name}: integers, not {values.dtype}")
        if values.shape != (len(features),):
            got = f"{name} has shape {values.shape}"
            raise SettingError(str(path), "", f"{part}_features has {len(features)} rows, {got}: one value a row")
        arrays[name] = values.astype(np.int64, copy=False) if kind != "paths" else values
    _check_finite(path, f"{part}_features", arrays)
    if features.dtype not in (np.float32, np.float64):
        arrays[f"{part}_features"] = features.astype(np.float32)


def _check_finite(path: Path, name: str, arrays: Mapping[str, Any]) -> None:
    """Check a part of the rows at a time: beside a large gallery there is no room for a mask of all."""
    features = arrays[name]
    bad = 0
    for start in range(0, len(features), 2**14):
        bad += np.count_nonzero(~np.isfinite(features[start : start + 2**14]).all(axis=1))
    if bad:
        raise SettingError(str(path), "", f"{name}: NaN or infinity in {bad} of {len(features)} rows")
