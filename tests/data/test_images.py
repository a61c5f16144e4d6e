"""Image files: read twice, told apart from files that are none, and turned into the same RGB whatever their mode."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from drsl_plugin.data.images import ImageError, find_bad_images, read_image
from drsl_plugin.data.pictures import to_rgb

COLOURS = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> Image.Image:
    """The picture as a file of this kind gives it."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return Image.open(file)


def rgb(image: Image.Image) -> np.ndarray[Any, Any]:
    picture = to_rgb(image)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def with_alpha(colours: np.ndarray[Any, Any]) -> Image.Image:
    return Image.fromarray(np.concatenate([colours, colours[..., :1]], axis=-1))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK"])
def test_colours_stay_what_they_are(mode: str) -> None:
    image = Image.fromarray(COLOURS) if mode != "RGBA" else with_alpha(COLOURS)
    assert (rgb(saved(image.convert(mode), "TIFF")) == COLOURS).all()


def test_a_palette_is_looked_up() -> None:
    flat = COLOURS // 64 * 64
    palette = Image.fromarray(flat).convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    assert (rgb(saved(palette, "PNG")) == flat).all()
    assert (rgb(saved(palette, "PNG", transparency=0)) == flat).all()


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_is_three_times_the_same(mode: str) -> None:
    grey = np.where(COLOURS[..., 0] > 127, 255, 0).astype(np.uint8) if mode == "1" else COLOURS[..., 0]
    picture = rgb(saved(Image.fromarray(grey).convert(mode), "PNG"))
    assert (picture == grey[..., None]).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_of_sixteen_bits_the_upper_eight_are_taken(kind: str) -> None:
    deep = (COLOURS[..., 0].astype(np.uint16) << 8) + 77
    assert (rgb(saved(Image.fromarray(deep), kind)) == COLOURS[..., :1]).all()


def test_integers_of_32_bits() -> None:
    small = Image.fromarray(COLOURS[..., 0].astype(np.int32))
    assert (rgb(saved(small, "TIFF")) == COLOURS[..., :1]).all()
    with pytest.raises(ValueError, match="mode I, numbers of no known range; save it with 8 bits"):
        to_rgb(Image.fromarray(np.full((2, 2), 70_000, dtype=np.int32)))


def test_numbers_with_a_point_are_refused() -> None:
    with pytest.raises(ValueError, match="mode F, numbers of no known range"):
        to_rgb(Image.fromarray(np.ones((2, 2), dtype=np.float32)))


def test_exif_orientation_turns_the_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: upright after a quarter to the right
    assert (rgb(saved(Image.fromarray(COLOURS), "PNG", exif=exif)) == np.rot90(COLOURS, -1)).all()


def test_damaged_exif_data_do_no_harm() -> None:
    assert (rgb(saved(Image.fromarray(COLOURS), "PNG", exif=b"Exif\0\0MM\0*nonsense")) == COLOURS).all()


def test_files(tmp_path: Path) -> None:
    good, cut, empty, text = (tmp_path / name for name in ("good.png", "cut.jpg", "empty.jpg", "text.jpg"))
    Image.fromarray(COLOURS).save(good)
    Image.fromarray(COLOURS).resize((64, 128)).save(cut, "JPEG")
    cut.write_bytes(cut.read_bytes()[:500])
    empty.touch()
    text.write_text("not an image", encoding="utf-8")
    assert (np.asarray(read_image(str(good))) == COLOURS).all()
    missing = tmp_path / "missing.jpg"
    found = find_bad_images(map(str, (cut, good, empty, text, missing)))
    assert [error.file for error in found] == list(map(str, (cut, empty, text, missing)))
    assert [error.why for error in found][1:] == [
        "it is empty",
        "of no kind that Pillow knows",
        "No such file or directory",
    ]
    assert "truncated" in found[0].why.lower()
    assert str(found[1]) == f"{empty}: cannot be read as an image (it is empty)"


def test_a_file_is_read_twice(tmp_path: Path) -> None:
    path, opened = tmp_path / "good.png", []
    Image.fromarray(COLOURS).save(path)

    def stumble(file: str, mode: str) -> Any:
        opened.append(file)
        if len(opened) == 1:
            raise OSError("stale file handle")
        return path.open("rb")

    assert read_image(str(path), stumble).size == (6, 8)
    assert len(opened) == 2


class Broken(Dataset[Any]):
    """Raises in the worker of a loader."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        raise ImageError("folder: with (odd) name/0001_c1.jpg", "of no kind (at all)")


def test_the_error_comes_through_a_worker_and_a_queue() -> None:
    with pytest.raises(ImageError) as raised:
        next(iter(DataLoader(Broken(), num_workers=1)))
    for error in (raised.value, pickle.loads(pickle.dumps(raised.value))):
        assert (error.file, error.why) == ("folder: with (odd) name/0001_c1.jpg", "of no kind (at all)")


def test_torch_raises_the_errors_of_a_worker_anew_from_a_text() -> None:
    """When this fails, torch passes an error of a worker on as it is, and ``ImageError`` need not take texts apart."""
    from torch._utils import ExceptionWrapper

    try:
        raise ImageError("a.jpg", "why")
    except ImageError:
        wrapped = ExceptionWrapper(where="in a worker")
    assert wrapped.exc_type is ImageError
    assert isinstance(wrapped.exc_msg, str)
