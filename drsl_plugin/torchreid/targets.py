"""The targets of a run: found out before a training whether they can be evaluated after it, and made so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch.utils.data import DataLoader

from drsl_plugin.errors import SettingError
from drsl_plugin.evaluation import explain_no_match
from drsl_plugin.torchreid.types import DataManager, Sample


def prepare_targets(datamanager: DataManager, names: Iterable[str], *, trains: bool = True) -> None:
    """Check the targets, and let their loaders give batches that fit together.

    Args:
        datamanager: what is trained and evaluated on.
        names: of the targets.
        trains: whether anything is trained.

    Raises:
        SettingError: no query of a target has a match, or tracklets to train on do not fit into a batch.
    """
    for name in names:
        queries, gallery = datamanager.fetch_test_loaders(name)
        why = explain_no_match(_labels(queries), _labels(gallery))
        if why:
            raise SettingError("--targets", name, why)
    if trains:
        _check_tracklets(datamanager.train_loader)
    for loaders in datamanager.test_loader.values():
        for part, loader in loaders.items():
            loaders[part] = _batch_equal_tracklets(loader)


def _labels(samples: Iterable[Sample]) -> list[tuple[Any, Any]]:
    return [(pid, camid) for _, pid, camid, *_ in samples]


def _lengths(loader: DataLoader[Any]) -> list[int]:
    """Return how many frames a loader's tracklets give, each of which may be another number; else nothing.

    Cause: ``VideoDataset`` gives all frames of a tracklet with ``sample_method='all'``, and its loaders stack whatever
    their batch size is; Torchreid 0.2.5 (PyPI) and 1.4.0 (GitHub). To see it gone:
    ``test_stock_loader_stacks_unequal_tracklets``.
    """
    tracklets: Any = loader.dataset
    if getattr(tracklets, "sample_method", "") != "all":
        return []
    return [len(frames) for frames, *_ in tracklets.data]


def _check_tracklets(loader: DataLoader[Any]) -> None:
    lengths = _lengths(loader)
    if lengths and loader.batch_size != 1 and min(lengths) != max(lengths):
        needs = (
            f"gives all {min(lengths)} to {max(lengths)} frames of a training tracklet, and those of a batch "
            "(train.batch_size) must be equally many; evenly and random take video.seq_len of each"
        )
        raise SettingError("video.sample_method", "all", needs)


def _batch_equal_tracklets(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Return a loader whose batches are of tracklets of one length, in the same order."""
    lengths = _lengths(loader)
    if len(set(lengths)) < 2:
        return loader
    batches: list[list[int]] = []
    for index, length in enumerate(lengths):
        last: Sequence[int] = batches[-1] if batches else []
        if last and lengths[last[-1]] == length and len(last) < (loader.batch_size or 1):
            batches[-1].append(index)
        else:
            batches.append([index])
    kept = {name: getattr(loader, name) for name in ("num_workers", "pin_memory", "worker_init_fn")}
    return DataLoader(loader.dataset, batch_sampler=batches, **kept)
