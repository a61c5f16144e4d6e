"""Published data sets: from a local server and archives made here, read by the toolboxes' own classes."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import sys
import tarfile
import threading
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from drsl_plugin.cli import app
from drsl_plugin.data import catalogue, fetch, whole
from drsl_plugin.data.catalogue import PUBLISHED
from drsl_plugin.data.published_set import PublishedSet, Source
from drsl_plugin.doctor.sections import look_for_data
from drsl_plugin.toolbox import toolboxes

MARKET = "Market-1501-v15.09.15"
COUNTS = {("bounding_box_train",): 4, ("query",): 2, ("bounding_box_test",): 6}


def drsl(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["download", *map(str, arguments)])


def error(result: Result) -> str:
    """Return the one line that bad input gets."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("drsl: error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.output
    return lines[0]


def tree(root: Path) -> dict[str, bytes | str]:
    """Return all that is below a folder: files with their bytes, links with their targets."""
    found: dict[str, bytes | str] = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder, name)
            content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
            found[path.relative_to(root).as_posix()] = content
    return found


# archives


def jpeg() -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (8, 16), (10, 20, 30)).save(stream, "JPEG")
    return stream.getvalue()


def market_files() -> dict[str, bytes]:
    """Two identities to train on, two to test on, one distractor and one piece of junk."""
    image = jpeg()
    names = [f"bounding_box_train/{pid:04d}_c{camera}s1_000001_01.jpg" for pid in (2, 7) for camera in (1, 2)]
    names += [f"query/{pid:04d}_c1s1_000001_00.jpg" for pid in (1, 3)]
    names += [f"bounding_box_test/{pid:04d}_c{camera}s1_000002_01.jpg" for pid in (1, 3) for camera in (1, 2)]
    names += ["bounding_box_test/0000_c1s1_000003_01.jpg", "bounding_box_test/-1_c1s1_000004_01.jpg"]
    return dict.fromkeys(names, image) | {"readme.txt": b"a readme\n", "query/Thumbs.db": b"x"}


def zip_of(path: Path, files: dict[str, bytes], prefix: str = f"{MARKET}/") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(prefix + name, content)
    return path


def tar_of(path: Path, files: dict[str, bytes], prefix: str, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(prefix + name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture
def market(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny Market-1501, zipped, and the numbers of images that make it whole."""
    monkeypatch.setitem(PUBLISHED, "market1501", replace(PUBLISHED["market1501"], images=COUNTS))
    return zip_of(tmp_path / "market.zip", market_files())


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


# a local server


class Files(BaseHTTPRequestHandler):
    """Serves bytes by their names, in ranges too; the first answer of those in ``cut`` ends after so many bytes."""

    files: dict[str, bytes]
    cut: dict[str, int]
    ranges: list[str | None]

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        if name not in self.files:
            self.send_error(404)
            return
        content, wanted = self.files[name], self.headers.get("Range")
        self.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Type", "application/zip")
        self.end_headers()
        self.wfile.write(content[start : self.cut.pop(name, None)])

    def log_message(self, *args: object) -> None:
        pass


Server = namedtuple("Server", "url files cut ranges")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    handler = type("Handler", (Files,), {"files": {}, "cut": {}, "ranges": []})
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=partial(httpd.serve_forever, 0.01), daemon=True).start()
        url = f"http://127.0.0.1:{httpd.server_port}"
        yield Server(url, handler.files, handler.cut, handler.ranges)
        httpd.shutdown()


@pytest.fixture
def offered(server: Server, market: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The tiny Market-1501 where its owners offer it: on the local server."""
    content = market.read_bytes()
    server.files["market.zip"] = content
    offer(monkeypatch, Source(f"{server.url}/market.zip", f"{MARKET}.zip", md5(content), 1000))
    return server


def offer(monkeypatch: pytest.MonkeyPatch, source: Source) -> None:
    monkeypatch.setitem(PUBLISHED, "market1501", replace(PUBLISHED["market1501"], source=source))


# Market-1501


def check_market(root: Path) -> None:
    """The files are those of the archive, once, and either toolbox reads them."""
    files = tree(root)
    assert {name: content for name, content in files.items() if content != "folder"} == {
        MARKET: f"market1501/{MARKET}",
        **{f"market1501/{MARKET}/{name}": content for name, content in market_files().items()},
    }


def test_a_download_is_read_by_both_toolboxes_and_found_by_doctor(offered: Server, tmp_path: Path) -> None:
    root = tmp_path / "reid data"
    result = drsl("market1501", "--root", root)
    assert result.exit_code == 0, result.output
    check_market(root)

    from drsl_plugin.fastreid.host import fastreid
    from drsl_plugin.torchreid.host import torchreid

    theirs = torchreid.data.datasets.image.market1501.Market1501(root=str(root))
    assert (len(theirs.train), len(theirs.query), len(theirs.gallery)) == (4, 2, 5)
    other = fastreid.data.datasets.market1501.Market1501(root=str(root))
    assert (len(other.train), len(other.query), len(other.gallery)) == (4, 2, 5)
    for toolbox in toolboxes():
        assert look_for_data(toolbox, str(root))[0].state == "there"


def test_what_to_type_next_is_two_commands(offered: Server, tmp_path: Path) -> None:
    lines = drsl("Market-1501", "--root", tmp_path / "data").stdout.splitlines()
    assert lines[0] == f"Market-1501: {tmp_path / 'data' / 'market1501' / MARKET}"
    assert re.fullmatch(rf"Torchreid: drsl torchreid --config-file \S+ --root {tmp_path}/data", lines[1])
    assert re.match(rf"FastReID: FASTREID_DATASETS={tmp_path}/data drsl fastreid --config-file \S+", lines[2])


def test_a_cut_download_is_kept_and_gone_on_with(
    offered: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "RETRIES", 0)
    files = market_files() | {
        "gt_bbox/noise.jpg": np.random.default_rng(0).bytes(2_000_000)
    }  # several of gdown's pieces
    content = zip_of(tmp_path / "large.zip", files).read_bytes()
    offered.files["market.zip"] = content
    offer(monkeypatch, Source(f"{offered.url}/market.zip", "m.zip", md5(content), 1000))
    offered.cut["market.zip"] = 1_500_000
    line = error(drsl("market1501", "--root", tmp_path / "data"))
    assert "cannot download" in line
    assert "goes on from there" in line
    [part] = (tmp_path / "data" / "downloads").iterdir()
    arrived = part.stat().st_size
    assert 0 < arrived <= 1_500_000
    assert set(tree(tmp_path / "data")) == {"downloads", f"downloads/{part.name}"}

    assert drsl("market1501", "--root", tmp_path / "data").exit_code == 0
    assert offered.ranges[-1] == f"bytes={arrived}-"
    found = tree(tmp_path / "data" / "market1501" / MARKET)
    assert {name: content for name, content in found.items() if content != "folder"} == files


def test_another_file_than_the_published_one_is_refused_and_kept(
    offered: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, Source(f"{offered.url}/market.zip", "m.zip", md5(b"another"), 1000))
    line = error(drsl("market1501", "--root", tmp_path / "data"))
    assert "is not the published file" in line
    assert set(tree(tmp_path / "data")) == {"downloads", "downloads/m.zip"}
    kept = tmp_path / "data" / "downloads" / "m.zip"  # as the line says
    assert drsl("market1501", "--root", tmp_path / "data", "--archive", kept).exit_code == 0
    assert kept.read_bytes() == offered.files["market.zip"]


def test_a_link_that_is_gone_is_one_line_and_leaves_nothing(
    offered: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, Source(f"{offered.url}/gone.zip", "m.zip", md5(b""), 1000))
    line = error(drsl("market1501", "--root", tmp_path / "data"))
    assert "404" in line
    assert line.endswith("or download it in a browser and give it by --archive FILE")
    assert not (tmp_path / "data").exists()


def test_without_gdown_the_line_installs_it(offered: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gdown", None)
    assert error(drsl("market1501", "--root", tmp_path / "data")).endswith("pip install gdown")
    assert not (tmp_path / "data").exists()


def test_importing_what_downloads_imports_no_gdown(offered: Server) -> None:
    import subprocess

    code = "import sys, drsl_plugin.data.download; print({'gdown', 'h5py', 'torchreid', 'fastreid'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


# the disk

Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_is_told_before_the_download(
    offered: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10_000, 9_001, 999))
    line = error(drsl("market1501", "--root", tmp_path / "data"))
    assert "no room" in line
    assert not offered.ranges
    assert not (tmp_path / "data").exists()


def test_what_the_server_declares_is_checked_against_the_disk(
    offered: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 3_000_000  # several pieces
    offered.files["large.zip"] = bytes(size)
    offer(monkeypatch, Source(f"{offered.url}/large.zip", "m.zip", md5(b""), 1000))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10_000_000, 8_000_000, 2_000_000))
    assert "no room" in error(drsl("market1501", "--root", tmp_path / "data"))
    [part] = (tmp_path / "data" / "downloads").iterdir()
    assert part.stat().st_size < 2_000_000


def test_what_the_archive_declares_is_checked_against_the_disk(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 4096 * len(market_files())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, needed - 1))
    assert "no room" in error(drsl("market1501", "--root", tmp_path / "data", "--archive", market))
    assert not (tmp_path / "data").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, needed))
    assert drsl("market1501", "--root", tmp_path / "data", "--archive", market).exit_code == 0


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = shutil.copyfileobj, []

    def full(*args: object) -> None:
        calls.append(args)
        if len(calls) == 5:
            raise OSError(28, "No space left on device")
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(shutil, "copyfileobj", full)
    assert "No space left" in error(drsl("market1501", "--root", tmp_path / "data", "--archive", market))
    assert not (tmp_path / "data").exists()
    assert market.exists()


def test_an_interruption_leaves_nothing(market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(folder: Path, data_set: PublishedSet) -> str:
        assert len(list(folder.rglob("*.jpg"))) == 12  # unpacked, and not in its place
        raise KeyboardInterrupt

    monkeypatch.setitem(PUBLISHED, "market1501", replace(PUBLISHED["market1501"], check=stop))
    result = drsl("market1501", "--root", tmp_path / "data", "--archive", market)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (130, "drsl: interrupted")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("lost", ["query/0003_c1s1_000001_00.jpg", "query/", "bounding_box_test/"])
def test_a_market_that_is_not_whole(market: Path, tmp_path: Path, lost: str) -> None:
    zip_of(market, {name: content for name, content in market_files().items() if not name.startswith(lost)})
    line = error(drsl("market1501", "--root", tmp_path / "data", "--archive", market))
    assert f"{market} is not Market-1501, or not whole: " in line
    assert lost.partition("/")[0] in line
    assert not (tmp_path / "data").exists()


# the root


def test_a_root_that_is_a_file_or_below_one(market: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for root in (tmp_path / "file", tmp_path / "file" / "data"):
        assert f"{tmp_path}/file is not a folder" in error(drsl("market1501", "--root", root, "--archive", market))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_root_that_cannot_be_written_to(market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode & os.W_OK and Path(path) == tmp_path / "data"))
    assert "cannot be written to" in error(drsl("market1501", "--root", tmp_path / "data", "--archive", market))
    assert not tree(tmp_path / "data")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has a folder where nobody can make one")
def test_a_root_where_no_folder_can_be_made(market: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, 10**9))  # there it is 0
    assert "/proc/data" in error(drsl("market1501", "--root", "/proc/data", "--archive", market))


@pytest.mark.parametrize("there", [f"market1501/{MARKET}/mine", "market1501/bounding_box_train/mine", f"{MARKET}/mine"])
def test_data_that_are_there_are_left_alone(market: Path, tmp_path: Path, there: str) -> None:
    mine = tmp_path / "data" / there
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    before = tree(tmp_path / "data")
    line = error(drsl("market1501", "--root", tmp_path / "data", "--archive", market))
    assert str(mine.parent) in line
    assert tree(tmp_path / "data") == before


def test_the_demo_set_is_there_already(demo_root: Path, market: Path) -> None:
    assert "is there already" in error(drsl("market1501", "--root", demo_root, "--archive", market))


def test_a_second_time_is_refused_and_a_dangling_link_of_ours_is_not(market: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / MARKET).symlink_to(Path("market1501") / MARKET)
    assert drsl("market1501", "--root", tmp_path / "data", "--archive", market).exit_code == 0
    assert "is there already" in error(drsl("market1501", "--root", tmp_path / "data", "--archive", market))
    check_market(tmp_path / "data")


# names


@pytest.mark.parametrize(
    ("given", "name"),
    [("Market-1501", "market1501"), ("market", "market1501"), ("MSMT17_V2", "msmt17"), ("cuhk-03", "cuhk03")]
    + [("CUHK03-NP", "cuhk03"), ("Market-1501-v15.09.15", "market1501")],
)
def test_names(given: str, name: str) -> None:
    assert catalogue.published(given).name == name


def test_an_unknown_name_gets_the_nearest() -> None:
    line = error(drsl("markt1501"))
    assert "'markt1501'" in line
    assert line.endswith("did you mean market1501?")


@pytest.mark.parametrize("name", ["dukemtmcreid", "DukeMTMC-reID", "duke"])
def test_duke_was_withdrawn(name: str, market: Path, tmp_path: Path) -> None:
    for more in ([], ["--archive", market]):
        line = error(drsl(name, "--root", tmp_path / "data", *more))
        assert "withdrawn" in line
        assert "http" not in line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("name", "page"), [("msmt17", "www.pkuvmc.com"), ("cuhk03", "www.ee.cuhk.edu.hk")])
def test_what_has_to_be_asked_for_gets_its_instructions(name: str, page: str, tmp_path: Path) -> None:
    result = drsl(name, "--root", tmp_path / "data")
    assert result.exit_code == 1
    assert page in result.stdout
    assert f"drsl download {name} --root {tmp_path}/data --archive FILE" in result.stdout
    assert not (tmp_path / "data").exists()


# MSMT17 and CUHK03


def msmt_files(version: str) -> dict[str, bytes]:
    train, test = ("train", "test") if version == "MSMT17_V1" else ("mask_train_v2", "mask_test_v2")
    names = {"train": ["0000/0000_000_01_a.jpg", "0001/0001_000_02_a.jpg"], "val": ["0001/0001_001_03_a.jpg"]}
    names |= {"query": ["0000/0000_000_01_b.jpg"], "gallery": ["0000/0000_001_02_b.jpg", "0001/0001_000_15_b.jpg"]}
    files = {}
    for part, images in names.items():
        files[f"list_{part}.txt"] = "".join(f"{name} {int(name[:4])}\n" for name in images).encode()
        files |= {f"{train if part in ('train', 'val') else test}/{name}": jpeg() for name in images}
    return files


@pytest.fixture
def msmt(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = dict(zip(PUBLISHED["msmt17"].images, (3, 1, 2), strict=True))
    monkeypatch.setitem(PUBLISHED, "msmt17", replace(PUBLISHED["msmt17"], images=counts))


@pytest.mark.parametrize("version", ["MSMT17_V1", "MSMT17_V2"])
@pytest.mark.parametrize("prefix", ["{}/", "./deep/er/{}/", ""])
@pytest.mark.usefixtures("msmt")
def test_msmt17_is_read_by_both_toolboxes(version: str, prefix: str, tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "m.tar.gz", msmt_files(version), prefix.format(version))
    root = tmp_path / "data"
    result = drsl("msmt17", "--root", root, "--archive", archive)
    assert result.exit_code == 0, result.output
    assert os.readlink(root / version) == f"msmt17/{version}"

    from drsl_plugin.fastreid.host import fastreid
    from drsl_plugin.torchreid.host import torchreid

    for module in (torchreid.data.datasets.image.msmt17, fastreid.data.datasets.msmt17):
        data = module.MSMT17(root=str(root))
        assert (len(data.train), len(data.query), len(data.gallery)) == (2, 1, 2)
        assert all(Path(row[0]).is_file() for row in [*data.train, *data.query, *data.gallery])
    for toolbox in toolboxes():
        assert look_for_data(toolbox, str(root))[1].state == "there"


@pytest.mark.parametrize("lost", ["test/0001/0001_000_15_b.jpg", "list_val.txt", "train/0001/0001_001_03_a.jpg"])
@pytest.mark.usefixtures("msmt")
def test_an_msmt17_that_is_not_whole(lost: str, tmp_path: Path) -> None:
    files = msmt_files("MSMT17_V1")
    del files[lost]
    archive = tar_of(tmp_path / "m.tar", files, "MSMT17_V1/", "w")
    assert Path(lost).name in error(drsl("msmt17", "--root", tmp_path / "data", "--archive", archive))
    assert not (tmp_path / "data").exists()


@pytest.mark.usefixtures("msmt")
def test_a_shorter_list_is_told(tmp_path: Path) -> None:
    files = msmt_files("MSMT17_V1")
    files["list_gallery.txt"] = files["list_gallery.txt"].splitlines(keepends=True)[0]
    archive = tar_of(tmp_path / "m.tar", files, "MSMT17_V1/", "w")
    line = error(drsl("msmt17", "--root", tmp_path / "data", "--archive", archive))
    assert "list_gallery.txt name 1 images, not 2" in line


@pytest.mark.usefixtures("msmt")
def test_the_other_version_beside_it_is_refused(tmp_path: Path) -> None:
    for version, code in (("MSMT17_V1", 0), ("MSMT17_V2", 2)):
        archive = tar_of(tmp_path / f"{version}.tar.gz", msmt_files(version), f"{version}/")
        assert drsl("msmt17", "--root", tmp_path / "data", "--archive", archive).exit_code == code


@pytest.fixture
def cuhk(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny CUHK03 in its release's form, and the new protocol on the local server."""
    h5py, savemat = pytest.importorskip("h5py"), pytest.importorskip("scipy.io").savemat
    (tmp_path / "given").mkdir()
    mat = tmp_path / "cuhk-03.mat"
    with h5py.File(mat, "w", userblock_size=512) as file:  # as MATLAB 7.3 writes it, with a header of its own
        cells = file.create_group("cells")

        def cell(content: object) -> object:
            return cells.create_dataset(str(len(cells)), data=content).ref

        def matrix(rows: list[list[object]]) -> object:
            """Refer to a matrix of cells; MATLAB's are transposed in HDF5."""
            made = cells.create_dataset(str(len(cells)), (len(rows[0]), len(rows)), h5py.ref_dtype)
            for i, row in enumerate(rows):
                for j, ref in enumerate(row):
                    made[j, i] = ref
            return made.ref

        image = cell(np.zeros((3, 8, 16), dtype=np.uint8))
        for kind in ("detected", "labeled"):
            pairs = file.create_dataset(kind, (1, 5), h5py.ref_dtype)
            for pair in range(5):
                pairs[0, pair] = matrix([[image] * 10, [image] * 10])
        tests = file.create_dataset("testsets", (1, 20), h5py.ref_dtype)
        for split in range(20):
            tests[0, split] = cell(np.array([[1.0], [1.0]]))
    with mat.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file")
    beside = []
    names = [f"{pair}_{pid:03d}_{view}_{5 * view - 4:02d}.png" for pair in (1, 2) for pid in (1, 2) for view in (1, 2)]
    for source in PUBLISHED["cuhk03"].beside:
        path = tmp_path / source.name
        filelist = np.empty((len(names), 1), dtype=object)
        filelist[:, 0] = names
        indices = {"train_idx": [1, 2, 3, 4], "query_idx": [5, 7], "gallery_idx": [6, 8]}
        savemat(path, {"filelist": filelist, "labels": [1, 1, 2, 2, 3, 3, 4, 4], **indices})
        server.files[source.name] = path.read_bytes()
        digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        beside.append(replace(source, url=f"{server.url}/{source.name}", digest=digest))
        path.rename(path.with_suffix(".aside"))
    monkeypatch.setitem(PUBLISHED, "cuhk03", replace(PUBLISHED["cuhk03"], beside=tuple(beside)))
    files = {"cuhk-03.mat": mat.read_bytes(), "README.md": b"a readme"}
    return zip_of(tmp_path / "given" / "cuhk03_release.zip", files, "cuhk03_release/")


def check_cuhk(root: Path) -> None:
    from drsl_plugin.fastreid.host import fastreid
    from drsl_plugin.torchreid.host import torchreid

    for module in (torchreid.data.datasets.image.cuhk03, fastreid.data.datasets.cuhk03):
        for labelled in (False, True):
            data = module.CUHK03(root=str(root), cuhk03_labeled=labelled)
            assert (len(data.train), len(data.query), len(data.gallery)) == (4, 2, 2)
            images = [row[0] for row in [*data.train, *data.query, *data.gallery]]
            assert all(Path(path).is_file() for path in images)
            assert all(("images_labeled" in path) == labelled for path in images)


def test_cuhk03_is_read_by_both_toolboxes(cuhk: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    result = drsl("cuhk03", "--root", root, "--archive", cuhk)
    assert result.exit_code == 0, result.output
    assert {path.name for path in root.iterdir()} == {"cuhk03"}  # what was downloaded is in its place
    assert "detected" in result.stdout
    assert "labelled" in result.stdout
    check_cuhk(root)
    for toolbox in toolboxes():
        assert look_for_data(toolbox, str(root))[2].state == "there"


def test_the_protocol_beside_the_archive_needs_no_network(cuhk: Path, server: Server, tmp_path: Path) -> None:
    for name in list(server.files):
        (cuhk.parent / name).write_bytes(server.files.pop(name))
    assert drsl("cuhk03", "--root", tmp_path / "data", "--archive", cuhk).exit_code == 0
    assert len(list(cuhk.parent.iterdir())) == 3  # what was given stays
    check_cuhk(tmp_path / "data")


def test_no_protocol_is_one_line_and_leaves_nothing(cuhk: Path, server: Server, tmp_path: Path) -> None:
    server.files.clear()
    line = error(drsl("cuhk03", "--root", tmp_path / "data", "--archive", cuhk))
    assert "beside the archive" in line
    assert not (tmp_path / "data").exists()


def test_another_protocol_is_refused(cuhk: Path, tmp_path: Path) -> None:
    other = cuhk.parent / PUBLISHED["cuhk03"].beside[0].name
    other.write_bytes(b"mine")
    assert str(other) in error(drsl("cuhk03", "--root", tmp_path / "data", "--archive", cuhk))
    assert other.read_bytes() == b"mine"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", [b"no HDF5", whole.HDF5_SIGNATURE + bytes(5000)])
@pytest.mark.usefixtures("cuhk")
def test_a_cuhk03_whose_file_is_another(content: bytes, tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "other.zip", {"cuhk03_release/cuhk-03.mat": content}, "")
    assert "its cuhk-03.mat" in error(drsl("cuhk03", "--root", tmp_path / "data", "--archive", archive))
    assert not (tmp_path / "data").exists()
