"""What a model returns: tensors with a row for each sample, nested in tuples, lists and dicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


def iterate_tensors(tree: object) -> Iterator[Tensor]:
    """Yield the tensors of nested tuples, lists and dicts, always in the same order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (tuple, list, dict)):
        for each in tree.values() if isinstance(tree, dict) else tree:
            yield from iterate_tensors(each)


def count_samples(outputs: object) -> int:
    """Count the samples of a sub-batch.

    Raises:
        ValueError: not every output has a row for each.
    """
    shapes = [tuple(output.shape) for output in iterate_tensors(outputs)]
    if not shapes or any(shape[:1] != shapes[0][:1] or not shape for shape in shapes):
        raise ValueError(
            f"a step in sub-batches needs outputs with a row for each sample, got shapes {', '.join(map(str, shapes))}"
        )
    return shapes[0][0]


def join_outputs(parts: Sequence[Any]) -> Any:
    """Concatenate the outputs of the sub-batches; floating point becomes leaves of a graph."""
    first = parts[0]
    if isinstance(first, Tensor):
        whole = torch.cat(list(parts))
        return whole.requires_grad_(whole.is_floating_point())
    if isinstance(first, dict):
        return {key: join_outputs([part[key] for part in parts]) for key in first}
    if isinstance(first, (tuple, list)):
        members = [join_outputs(each) for each in zip(*parts, strict=True)]
        return type(first)(*members) if hasattr(first, "_fields") else type(first)(members)
    return first
