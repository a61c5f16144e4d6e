"""``MODEL.BACKBONE.PRETRAIN_PATH``: one line for a file that no weights can be taken from, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import Payload
from hosts import FastReID

KEY = "MODEL.BACKBONE.PRETRAIN_PATH"
RESNEXT = {
    "MODEL.BACKBONE.NAME": "build_resnext_backbone",
    "MODEL.BACKBONE.DEPTH": "50x",
    "MODEL.BACKBONE.FEAT_DIM": 2048,
}


def weights(**changes: Any) -> dict[str, Any]:
    from fastreid.modeling.backbones.osnet import OSBlock, OSNet

    model = OSNet([OSBlock] * 3, [2, 2, 2], [16, 64, 96, 128], "BN", IN=False)
    return {**model.state_dict(), **changes}


def text(path: Path) -> None:
    path.write_text("no weights", encoding="utf-8")


def saved(content: Callable[[], object]) -> Callable[[Path], None]:
    return lambda path: torch.save(content(), path)


@pytest.mark.parametrize(
    ("write", "model", "expected"),
    [
        (text, {}, "no weights of build_osnet_backbone x0_25 can be taken from it (it is not what torch.save writes)"),
        (saved(list), {}, "no weights of build_osnet_backbone x0_25 can be taken from it (Expected state_dict to be"),
        (
            saved(lambda: weights(**{"conv1.conv.weight": torch.zeros(3)})),
            {},
            "no weights of build_osnet_backbone x0_25 can be taken from it (Error(s) in loading state_dict for OSNet:",
        ),
        (
            saved(lambda: {"model": weights()}),
            {},
            "weights of another model, 0 of the 479 tensors of build_osnet_backbone x0_25 are in it",
        ),
        (saved(weights), RESNEXT, "no 'model' in it, where the weights of build_resnext_backbone 50x are looked for"),
    ],
    ids=["text", "list", "another shape", "elsewhere", "no such key"],
)
def test_what_no_weights_can_be_taken_from(
    write: Callable[[Path], None], model: dict[str, Any], expected: str, host: FastReID, output: Path, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    write(path)
    error = host.refusal(output, **model, **{KEY: path, "MODEL.BACKBONE.PRETRAIN": True})
    assert error.startswith(f"{KEY} {path}: {expected}")
    assert not output.parent.exists()


@pytest.mark.parametrize("trust", [False, True])
def test_a_hostile_file(trust: bool, host: FastReID, output: Path, tmp_path: Path) -> None:
    path, marker = tmp_path / "weights.pth", tmp_path / "executed"
    torch.save(weights(payload=Payload(marker)), path)
    changes = {KEY: path, "MODEL.BACKBONE.PRETRAIN": True}
    ended = host.command(host.name, *["--trust-checkpoints"] * trust, *host.words(output, **changes))
    assert marker.exists() == trust
    if trust:
        assert ended.code == 0
    else:
        assert ended.error.startswith(f"{KEY} {path}: holds ")
        assert ended.error.endswith("; --trust-checkpoints reads it all the same")
