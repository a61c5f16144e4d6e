"""The rendered demo set: its bytes, its layout, what it refuses, and that colour alone does not solve it."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from drsl_plugin.data import render_demo, render_tracklets  # noqa: E402
from drsl_plugin.data.rendered import rendering  # noqa: E402
from drsl_plugin.data.rendered.fabrics import fabric  # noqa: E402
from drsl_plugin.data.rendered.looks import GROUP_SIZE, PATTERNS, Pattern  # noqa: E402
from drsl_plugin.data.rendered.poses import View  # noqa: E402
from drsl_plugin.errors import DRSLError  # noqa: E402

MARKET = "Market-1501-v15.09.15"
NAME = re.compile(r"(-1|\d{4})_c([1-6])s1_\d{6}_\d{2}\.jpg")
SMALL = {"identities": 4, "cameras": 2, "images": 2, "seed": 3}


def contents(root: Path) -> dict[str, bytes]:
    """Return every image of a set by its path in it."""
    folder = root / "market1501" / MARKET
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("*/*.jpg")}


def parse(name: str) -> tuple[str, int, int]:
    """Return an image's folder, person and camera."""
    folder, file = name.split("/")
    found = NAME.fullmatch(file)
    assert found is not None, file
    return folder, int(found[1]), int(found[2])


def render_small(root: Path, **changes: int) -> Path:
    settings = {**SMALL, **changes}
    return render_demo(
        root,
        identities=settings["identities"],
        cameras=settings["cameras"],
        images=settings["images"],
        seed=settings["seed"],
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_small(tmp_path_factory.mktemp("small"))


def test_the_same_bytes_whatever_the_global_random_state(small: Path, tmp_path: Path) -> None:
    np.random.seed(5)
    random.seed(5)
    again = contents(render_small(tmp_path))
    assert again == contents(small)


@pytest.mark.parametrize("fewer", [{"identities": 3}, {"images": 1}])
def test_a_smaller_set_is_a_part_of_the_larger(small: Path, tmp_path: Path, fewer: dict[str, int]) -> None:
    part, whole = contents(render_small(tmp_path, **fewer)), contents(small)
    assert 0 < len(part) < len(whole)
    assert part == {name: whole[name] for name in part}


def test_a_set_with_more_cameras_has_the_same_images_in_the_first(small: Path, tmp_path: Path) -> None:
    larger = contents(render_small(tmp_path, cameras=3, identities=2, images=1))
    shared = contents(small).keys() & larger.keys()
    assert len(shared) >= 16
    assert all(larger[name] == contents(small)[name] for name in shared)


def test_another_seed_gives_other_images_under_the_same_names(small: Path, tmp_path: Path) -> None:
    other, first = contents(render_small(tmp_path, seed=4)), contents(small)
    assert other.keys() == first.keys()
    assert not set(other.values()) & set(first.values())


def test_images_are_64_by_128_and_named_as_in_market1501(small: Path) -> None:
    for name, data in contents(small).items():
        parse(name)
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (128, 64, 3)
    folders = {name.split("/")[0] for name in contents(small)}
    assert folders == {"bounding_box_train", "query", "bounding_box_test"}


def test_torchreid_reads_it(small: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchreid = pytest.importorskip("torchreid")
    data = torchreid.data.datasets.image.market1501.Market1501(root=str(small), verbose=False)
    assert (data.num_train_pids, data.num_train_cams) == (4, 2)
    assert (len(data.train), len(data.query)) == (4 * 2 * 2, 4 * 2)
    # The gallery has two images of each identity in each camera, and two distractors in each; no junk.
    assert len(data.gallery) == 4 * 2 * 2 + 2 * 2
    assert sum(pid == 0 for _, pid, _, _ in data.gallery) == 4


@pytest.mark.parametrize("images", [1, 2])
def test_every_query_has_a_match_in_another_camera(tmp_path: Path, images: int) -> None:
    parsed = [parse(name) for name in contents(render_small(tmp_path, images=images))]
    gallery = {(pid, camera) for folder, pid, camera in parsed if folder == "bounding_box_test"}
    queries = [(pid, camera) for folder, pid, camera in parsed if folder == "query"]
    assert len(queries) == 8
    for pid, camera in queries:
        assert any(other == pid and taken != camera for other, taken in gallery)
    trained = {pid for folder, pid, _ in parsed if folder == "bounding_box_train"}
    assert not trained & {pid for pid, _ in gallery}
    assert {-1, 0} <= {pid for pid, _ in gallery}


def test_the_link_serves_fastreid(small: Path) -> None:
    link = small / MARKET
    assert link.is_symlink()
    assert not Path(os.readlink(link)).is_absolute()
    assert len(list((link / "query").iterdir())) == 8


def test_without_links_a_readme_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("links are not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    (tmp_path / "README.txt").write_text("mine\n")
    for _ in range(2):
        render_small(tmp_path)
    text = (tmp_path / "README.txt").read_text()
    assert text.startswith("mine\n")
    assert text.count(f"FASTREID_DATASETS to {tmp_path / 'market1501'}") == 1


@pytest.mark.parametrize(
    ("option", "got"),
    [
        ("identities", 1), ("identities", 751), ("cameras", 1), ("cameras", 7), ("images", 0), ("images", 100),
        ("seed", -1), ("seed", 2**32), ("seed", True), ("images", 2.0),
    ],
)  # fmt: skip
def test_a_setting_out_of_range_is_refused_in_one_line(tmp_path: Path, option: str, got: int) -> None:
    with pytest.raises(DRSLError, match=rf"^--{option}: got {got}, but it takes a whole number from \d+ to ") as caught:
        render_small(tmp_path / "new", **{option: got})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_half_written_is_left(tmp_path: Path, error: type[BaseException]) -> None:
    def stop(done: int, total: int) -> None:
        if done == total - 1:
            raise error

    with pytest.raises(error):
        render_demo(tmp_path, identities=2, cameras=2, images=1, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_image(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    render_demo(tmp_path, identities=2, cameras=2, images=1, progress=lambda *counts: seen.append(counts))
    total = len(contents(tmp_path))
    assert seen == [(done, total) for done in range(1, total + 1)]


def test_a_finished_set_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render_small(tmp_path)
    monkeypatch.setattr(rendering, "render_entry", None)  # rendering again would fail
    assert render_small(tmp_path) == tmp_path
    assert json.loads((tmp_path / "market1501" / "demo.json").read_text())["seed"] == 3


def listing(root: Path) -> Iterator[tuple[str, bytes | None]]:
    for path in sorted(root.rglob("*")):
        yield str(path), path.read_bytes() if path.is_file() else None


@pytest.mark.parametrize("theirs", ["market1501/precious.txt", f"{MARKET}/precious.txt", "market1501/demo.json"])
def test_other_peoples_data_stay(tmp_path: Path, theirs: str) -> None:
    (tmp_path / theirs).parent.mkdir()
    (tmp_path / theirs).write_text("not ours")
    before = list(listing(tmp_path))
    with pytest.raises(DRSLError, match="give another folder or move it away"):
        render_small(tmp_path)
    assert list(listing(tmp_path)) == before


def test_a_set_with_other_settings_stays(tmp_path: Path) -> None:
    before = contents(render_small(tmp_path))
    with pytest.raises(DRSLError, match=r"other settings.*give another folder or delete it"):
        render_small(tmp_path, seed=5)
    assert contents(tmp_path) == before


def test_a_root_that_cannot_be_written_to_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DRSLError, match=r"^cannot render into "):
        render_small(tmp_path / "file")


def test_tracklets_walk(tmp_path: Path) -> None:
    root = render_tracklets(tmp_path / "video", identities=2, cameras=2, length=5, seed=1)
    folders = {folder.relative_to(root).as_posix() for folder in root.glob("*/*/*")}
    assert folders == {
        *(f"train/{pid}/C{camera}T000{number}" for pid in ("0002", "0004") for camera in (1, 2) for number in (1, 2)),
        *(f"query/{pid}/C{camera}T0001" for pid in ("0001", "0003") for camera in (1, 2)),
        *(f"gallery/{pid}/C{camera}T0002" for pid in ("0001", "0003") for camera in (1, 2)),
    }
    for folder in root.glob("*/*/*"):
        frames = [cv2.imread(str(path)).astype(float) for path in sorted(folder.iterdir())]
        assert len(frames) == 5
        # Neighbouring frames differ, because the person walks, but not as different people do.
        step = np.mean([np.abs(a - b).mean() for a, b in itertools.pairwise(frames)])
        assert 1.0 < step < 20.0


def test_tracklets_are_the_same_again_and_refuse_what_is_there(tmp_path: Path) -> None:
    first, second = (render_tracklets(tmp_path / name, identities=2, length=2) for name in ("a", "b"))
    assert [data for _, data in listing(first)] == [data for _, data in listing(second)]
    with pytest.raises(DRSLError, match="exists; give a new folder"):
        render_tracklets(first)
    with pytest.raises(DRSLError, match=r"^length: got 0"):
        render_tracklets(tmp_path / "c", length=0)


def grey_world(image: np.ndarray) -> np.ndarray:
    """Return an image without its colour cast: each channel's mean is that of all three."""
    means = image.mean(axis=(0, 1))
    return np.clip(image * (means.mean() / means), 0, 255).astype(np.uint8)


def colour_histogram(image: np.ndarray, space: str, strips: int) -> np.ndarray:
    """Return the square roots of the colours' shares in each horizontal strip of the image's middle."""
    ranges = [0, 256] * 3
    if space == "hsv":
        image, ranges = cv2.cvtColor(image, cv2.COLOR_BGR2HSV), [0, 180, 0, 256, 0, 256]
    parts = [
        cv2.calcHist([np.ascontiguousarray(strip)], [0, 1, 2], None, [8, 8, 8], ranges).ravel()
        for strip in np.array_split(image[:, 12:52], strips)
    ]
    return np.sqrt(np.concatenate(parts) / sum(part.sum() for part in parts))


def mean_average_precision(scores: np.ndarray, queries: np.ndarray, gallery: np.ndarray) -> float:
    """Return Market-1501's mAP; ``queries`` and ``gallery`` have a row (person, camera) for each image."""
    values = []
    for row, (pid, camera) in zip(scores, queries, strict=True):
        kept = ~((gallery[:, 0] == pid) & (gallery[:, 1] == camera))
        correct = gallery[kept, 0][np.argsort(-row[kept], kind="stable")] == pid
        ranks = np.flatnonzero(correct) + 1
        values.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
    return float(np.mean(values))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[np.ndarray], np.ndarray]]:
    """Return the images, and rows (person, camera), of the queries and the gallery of a set with fewer images."""
    data = contents(render_demo(tmp_path_factory.mktemp("colour"), images=1))
    found = {}
    for folder in ("query", "bounding_box_test"):
        names = [name for name in sorted(data) if parse(name)[0] == folder and parse(name)[1] != -1]
        images = [cv2.imdecode(np.frombuffer(data[name], np.uint8), cv2.IMREAD_COLOR) for name in names]
        found[folder] = images, np.array([parse(name)[1:] for name in names])
    return found


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("space", ["hsv", "bgr"])
@pytest.mark.parametrize("strips", [1, 6])
def test_colour_helps_but_does_not_solve_it(
    searched: dict[str, tuple[list[np.ndarray], np.ndarray]], space: str, strips: int, balanced: bool
) -> None:
    (query_images, queries), (gallery_images, gallery) = searched["query"], searched["bounding_box_test"]
    query_features, gallery_features = (
        np.array([colour_histogram(grey_world(image) if balanced else image, space, strips) for image in images])
        for images in (query_images, gallery_images)
    )
    scores = query_features @ gallery_features.T
    chance = mean_average_precision(np.random.default_rng(0).random(scores.shape), queries, gallery)
    measured = mean_average_precision(scores, queries, gallery)
    assert 1.2 * chance < measured < 0.4, (chance, measured)


def test_identities_of_a_group_share_every_colour_and_differ_in_their_patterns() -> None:
    for first in (1, 2):  # test identities are odd, training identities even
        group = [rendering.identity(0, first + 2 * member) for member in range(GROUP_SIZE)]
        assert len({look.palette for look in group}) == 1
        assert len({look.top_pattern for look in group}) == GROUP_SIZE
    assert rendering.identity(0, 1 + 2 * GROUP_SIZE).palette != rendering.identity(0, 1).palette


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("height", [440.0, 490.0])
def test_patterns_have_both_colours_in_about_equal_shares(pattern: Pattern, height: float) -> None:
    view = View(yaw=0.0, x=128.0, top=10.0, height=height, tilt=0.1)
    cloth = fabric(pattern, (255, 255, 255), (0, 0, 0), view).texture
    assert cloth is not None
    trunk = cloth[90:250, 70:186] == 255
    assert 0.4 < trunk.mean() < 0.6


def test_without_opencv_an_import_error_says_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; sys.modules['cv2'] = None; from drsl_plugin.data import render_demo; "
        "print('imported'); render_demo(pathlib.Path(sys.argv[1]))"
    )
    ran = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ran.stdout == "imported\n"
    assert "MissingPackageError: " in ran.stderr
    assert 'pip install "drsl-plugin[torchreid]"' in ran.stderr
    assert list(tmp_path.iterdir()) == []
