"""Archives that are damaged or mean harm: one line, and nothing outside or inside the folder."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from drsl_plugin.data.unpack import open_archive
from drsl_plugin.errors import DRSLError

ALL = PurePosixPath(".")
FILES = {"set/a/1.jpg": os.urandom(3000), "set/a/2.jpg": b"", "set/list.txt": b"text\n" * 1000}
KINDS = ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]


def make(path: Path, files: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    """Write an archive of the kind that the name ends in."""
    pairs = list(files.items()) if isinstance(files, dict) else files
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in pairs:
                entry = zipfile.ZipInfo("x")
                entry.filename = name  # as it is, which the constructor would not take
                archive.writestr(entry, content)
        return path
    _, _, compression = path.name.partition("tar")
    with tarfile.open(path, f"w:{compression.lstrip('.')}") as archive:
        for name, content in pairs:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def unpack(path: Path, folder: Path, below: PurePosixPath = ALL) -> dict[str, bytes]:
    folder.mkdir()
    with open_archive(path) as archive:
        archive.unpack(below, folder)
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refuse(path: Path, folder: Path) -> str:
    """Return the line; unpacking must have ended before anything was written."""
    with pytest.raises(DRSLError) as caught:
        unpack(path, folder)
    assert not list(folder.iterdir())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_packed_comes_out(kind: str, tmp_path: Path) -> None:
    path = make(tmp_path / f"a.{kind}", {**FILES, "__MACOSX/set/a/1.jpg": b"x", "set/a/._1.jpg": b"x"})
    assert unpack(path, tmp_path / "all") == FILES
    assert unpack(path, tmp_path / "part", PurePosixPath("set/a")) == {
        name.removeprefix("set/a/"): content for name, content in FILES.items() if name.startswith("set/a/")
    }
    with open_archive(path) as archive:
        assert archive.size(ALL) == 4096 + 4096 + 2 * 4096  # in blocks: 3,000, 0 and 5,000 bytes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    ["../out", "set/../../out", "/tmp/drsl-out", "..\\out", "C:\\out", "set/..", "\\out"],
)
def test_names_that_lead_out(kind: str, name: str, tmp_path: Path) -> None:
    path = make(tmp_path / f"a.{kind}", {**FILES, name: b"evil"})
    before = set(tmp_path.rglob("*"))
    assert repr(name) in refuse(path, tmp_path / "here")
    assert set(tmp_path.rglob("*")) == before | {tmp_path / "here"}
    assert not Path("/tmp/drsl-out").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_stand_twice(kind: str, tmp_path: Path) -> None:
    twice = make(tmp_path / f"a.{kind}", [*FILES.items(), ("./set/list.txt", b"other")])
    assert "twice" in refuse(twice, tmp_path / "here")
    both = make(tmp_path / f"b.{kind}", [*FILES.items(), ("set/list.txt/deeper", b"other")])
    assert "a file and a folder" in refuse(both, tmp_path / "there")


@pytest.mark.parametrize(
    ("kind", "target"),
    [(tarfile.SYMTYPE, "/etc"), (tarfile.SYMTYPE, "a/1.jpg"), (tarfile.LNKTYPE, "/etc/passwd")]
    + [(kind, "") for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)],
)
def test_links_and_devices_in_a_tar(kind: bytes, target: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("set/link")
        entry.type, entry.linkname = kind, target
        archive.addfile(entry)
        entry = tarfile.TarInfo("set/link/passwd")
        archive.addfile(entry, io.BytesIO())
    assert "is a link or a device" in refuse(path, tmp_path / "here")


def test_links_in_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("set/link")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc")
    assert "is a link or a device" in refuse(path, tmp_path / "here")


def test_a_locked_zip(tmp_path: Path) -> None:
    content = bytearray(make(tmp_path / "a.zip", FILES).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags in both headers
        content[content.index(signature) + offset] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    assert "password" in refuse(tmp_path / "a.zip", tmp_path / "here")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_cut_off_anywhere(kind: str, tmp_path: Path) -> None:
    whole = make(tmp_path / f"a.{kind}", FILES).read_bytes()
    for i, length in enumerate([*range(0, len(whole) - 1, max(1, len(whole) // 40)), len(whole) - 1]):
        path = tmp_path / f"cut{i}.{kind}"
        path.write_bytes(whole[:length])
        refuse(path, tmp_path / f"here{i}")


def test_a_plain_tar_cut_off_in_a_file(tmp_path: Path) -> None:
    whole = make(tmp_path / "a.tar", FILES).read_bytes()
    end = whole.rindex(b"text\n")
    for i, length in enumerate((600, 1000, end, end - 3000)):
        path = tmp_path / f"cut{i}.tar"
        path.write_bytes(whole[:length])
        refuse(path, tmp_path / f"here{i}")


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    for kind in ("zip", "tar.gz"):
        path = make(tmp_path / f"a.{kind}", FILES)
        content = bytearray(path.read_bytes())
        content[2000] ^= 0xFF  # within the first file's noise
        path.write_bytes(content)
        with pytest.raises(DRSLError, match="damaged"):
            unpack(path, tmp_path / f"here-{kind}")


def test_a_zip_that_declares_less_than_it_holds(tmp_path: Path) -> None:
    content = bytearray(make(tmp_path / "a.zip", {"set/bomb": bytes(1_000_000)}).read_bytes())
    at = content.index(b"PK\x01\x02") + 24  # the size unpacked, in the table of contents
    content[at : at + 4] = (10).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DRSLError, match="damaged"):
        unpack(tmp_path / "a.zip", tmp_path / "here")
    assert all(file.stat().st_size <= 10 for file in (tmp_path / "here").rglob("*") if file.is_file())


@pytest.mark.parametrize("content", [b"", b"PK", b"a text", bytes(10_000)[:100]])
def test_something_else(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    refuse(tmp_path / "a.zip", tmp_path / "here")


@pytest.mark.parametrize("prepare", [Path.mkdir, lambda path: None])
def test_no_file(prepare: Callable[[Path], None], tmp_path: Path) -> None:
    prepare(tmp_path / "a.zip")
    refuse(tmp_path / "a.zip", tmp_path / "here")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = make(tmp_path / "a.zip", FILES)
    (tmp_path / "here" / "set").mkdir(parents=True)
    (tmp_path / "here" / "set" / "list.txt").write_text("mine")
    with open_archive(path) as archive, pytest.raises(FileExistsError):
        archive.unpack(ALL, tmp_path / "here")
    assert (tmp_path / "here" / "set" / "list.txt").read_text() == "mine"
