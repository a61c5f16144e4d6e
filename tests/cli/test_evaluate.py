"""``drsl evaluate``: run folders and files of features, its JSON and its table, and what it says of bad input."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from drsl_plugin.cli import app
from drsl_plugin.evaluation import evaluate_features
from drsl_plugin.runs.folder import RunFolder

Arrays = dict[str, Any]
KEYS = ["mAP", "mINP", "rank1", "rank5", "rank10"]


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def arrays(seed: int = 0) -> Arrays:
    """Features whose lengths matter, so that the two metrics differ."""
    rng = np.random.default_rng(seed)
    made: Arrays = {}
    for part, images in (("query", 10), ("gallery", 80)):
        pids = rng.integers(0 if part == "gallery" else 1, 6, images)
        features = np.eye(6)[pids] + rng.normal(size=(images, 6)) * 0.6
        made[f"{part}_features"] = (features * rng.uniform(0.5, 2, (images, 1))).astype(np.float32)
        made[f"{part}_pids"] = pids
        made[f"{part}_camids"] = rng.integers(0, 3, images)
        made[f"{part}_paths"] = np.array([f"{part}/{image}.jpg" for image in range(images)])
    return made


def expected(made: Arrays, **settings: Any) -> dict[str, float]:
    names = [f"{part}_{kind}" for kind in ("features", "pids", "camids") for part in ("query", "gallery")]
    ranking = evaluate_features(*(made[name] for name in names), **settings)
    return dict(zip(KEYS, [ranking.mAP, ranking.mINP, *ranking.cmc[[0, 4, 9]].tolist()], strict=True))


def json_of(*arguments: object) -> Any:
    """Return the JSON object, which is all that stands on stdout; nothing stands on stderr."""
    result = evaluate(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.savez(tmp_path / "made.npz", **arrays())
    return tmp_path / "made.npz"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = RunFolder(tmp_path / "run")
    folder.save_features("market1501", arrays(0))
    return folder.path


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_file_of_features(file: Path, metric: str) -> None:
    found = json_of("--features", file, "--metric", metric)
    assert list(found) == KEYS
    assert found == expected(arrays(), metric=metric)


def test_the_metrics_differ_and_cosine_is_the_default(file: Path) -> None:
    assert json_of("--features", file) == expected(arrays()) != expected(arrays(), metric="euclidean")


def test_paths_are_not_needed(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "f.npz", **{name: each for name, each in arrays().items() if "paths" not in name})
    assert json_of("--features", tmp_path / "f.npz") == expected(arrays())


def test_single_gallery_shot(file: Path) -> None:
    found = json_of("--features", file, "--cuhk03")
    assert found == expected(arrays(), single_shot=True) != json_of("--features", file)


CONFIGS: list[tuple[Any, dict[str, Any]]] = [
    ({}, {}),
    (None, {}),
    ({"test": {"dist_metric": "euclidean", "normalize_feature": False}}, {"metric": "euclidean"}),
    ({"test": {"dist_metric": "euclidean", "normalize_feature": True}}, {"metric": "cosine"}),
    ({"test": {"dist_metric": "cosine"}, "cuhk03": {"use_metric_cuhk03": True}}, {"single_shot": True}),
    ({"TEST": {"METRIC": "euclidean"}}, {"metric": "euclidean"}),
    ({"TEST": {"METRIC": "cosine"}}, {}),
]


@pytest.mark.parametrize(("config", "settings"), CONFIGS)
def test_a_run_is_evaluated_as_it_did(run: Path, config: Any, settings: dict[str, Any]) -> None:
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert json_of(run) == expected(arrays(), **settings)


def test_options_go_before_what_the_run_did(run: Path) -> None:
    config = {"test": {"dist_metric": "euclidean"}, "cuhk03": {"use_metric_cuhk03": True}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert json_of(run, "--metric", "cosine", "--no-cuhk03") == expected(arrays())


def test_several_targets(run: Path) -> None:
    RunFolder(run).save_features("msmt17", arrays(1))
    assert json_of(run) == {"market1501": expected(arrays(0)), "msmt17": expected(arrays(1))}
    assert json_of(run, "--target", "msmt17") == expected(arrays(1))


def test_table_has_a_row_a_target(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lonely = arrays(1)
    lonely["query_pids"][0] = 77
    RunFolder(run).save_features("msmt17", lonely)
    result = evaluate(run)
    assert (result.exit_code, result.stderr) == (0, "")
    rows = [re.findall(r"[^\s│┃]+", line) for line in result.stdout.splitlines() if "cosine" in line]
    assert [row[:5] for row in rows] == [
        ["market1501", "cosine", "10", "of", "10"],
        ["msmt17", "cosine", "9", "of", "10"],
    ]
    for row, made in zip(rows, (arrays(0), lonely), strict=True):
        assert row[5:] == [f"{100 * value:.1f}" for value in expected(made).values()]
    assert "without a correct match" in result.stdout


def test_torchreid_run_gives_its_numbers_again(
    demo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from drsl_plugin.torchreid.main import main

    words = "use_gpu False model.name osnet_x0_25 model.pretrained False data.height 64 data.width 32 data.workers 0 "
    words += f"data.root {demo_root} data.save_dir {tmp_path} train.max_epoch 1 sampler.num_instances 2 "
    words += "sampler.train_sampler RandomIdentitySampler train.batch_size 8 loss.name drsl"
    main(words.split())
    capsys.readouterr()
    row = RunFolder(tmp_path).rows()[-1]
    assert json_of(tmp_path) != json_of(tmp_path, "--metric", "cosine")  # the run's own is Euclidean
    assert json_of(tmp_path) == pytest.approx({name: row[name] for name in KEYS}, abs=1e-6)


# bad input


def change(name: str, value: Callable[[Any], Any]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        made = arrays()
        np.savez(path, **{**made, name: value(made[name])})

    return write


def without(name: str) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **{key: each for key, each in arrays().items() if key != name})


def spoilt(features: Any) -> Any:
    features[3, 1] = np.nan
    features[5, 0] = np.inf
    return features


def cut_off(path: Path) -> None:
    np.savez(path, **arrays())
    path.write_bytes(path.read_bytes()[:-200])


def damaged(path: Path) -> None:
    np.savez(path, **arrays())
    content = bytearray(path.read_bytes())
    content[200] ^= 255
    path.write_bytes(content)


def an_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


BAD_FILES: list[tuple[Callable[[Path], Any], str]] = [
    (lambda path: None, "no such file"),
    (lambda path: path.write_text("features"), "cannot be read as an .npz file: not a zip of arrays"),
    (lambda path: path.write_bytes(b""), "cannot be read as an .npz file: not a zip of arrays"),
    (Path.mkdir, "cannot be read as an .npz file: not a zip of arrays"),
    (an_array, "cannot be read as an .npz file: not a zip of arrays"),
    (cut_off, "cannot be read as an .npz file"),
    (damaged, "cannot be read as an .npz file: Bad CRC-32"),
    (without("gallery_camids"), "no array gallery_camids; there are gallery_features, "),
    (change("query_pids", lambda x: x[:-1]), "query_features has 10 rows, query_pids has shape (9,)"),
    (change("gallery_camids", lambda x: x[:, None]), "gallery_features has 80 rows, gallery_camids has shape (80, 1)"),
    (change("gallery_paths", lambda x: x[1:]), "gallery_features has 80 rows, gallery_paths has shape (79,)"),
    (change("query_features", lambda x: x[:, :4]), "query_features of 4 dimensions, gallery_features of 6"),
    (change("query_features", lambda x: x[0]), "query_features: a row of numbers an image, not float32 of shape (6,)"),
    (change("query_features", lambda x: x[:0]), "query_features: a row of numbers an image, not"),
    (change("gallery_features", lambda x: x.astype(str)), "gallery_features: a row of numbers an image, not <U"),
    (change("query_pids", lambda x: x.astype(float)), "query_pids: integers, not float64"),
    (change("query_pids", lambda x: x.astype(object)), "holds Python objects in query_pids; to read that is to run"),
    (change("query_features", spoilt), "query_features: NaN or infinity in 2 of 10 rows"),
    (change("gallery_features", spoilt), "gallery_features: NaN or infinity in 2 of 80 rows"),
    (change("query_pids", lambda x: x + 100), "no query has a correct match in the gallery from another camera"),
    (change("gallery_pids", lambda x: x * 0 - 1), "no query has a correct match in the gallery from another camera"),
]


def check_one_line(result: Result, message: str) -> None:
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("drsl: error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


@pytest.mark.parametrize(("write", "message"), BAD_FILES)
def test_bad_files_are_one_line(tmp_path: Path, write: Callable[[Path], Any], message: str) -> None:
    path = tmp_path / "bad.npz"
    write(path)
    check_one_line(evaluate("--features", path, "--json"), f"{path}: {message}")


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("whole_run", [False, True])
def test_a_hostile_file(trust: bool, whole_run: bool, tmp_path: Path) -> None:
    marker, path = tmp_path / "executed", tmp_path / "features-market1501.npz"
    made = arrays()
    paths = np.array([*(f"{i}.jpg" for i in range(9)), Payload(marker)], dtype=object)
    np.savez(path, **{**made, "query_paths": paths, "query_pids": made["query_pids"].astype(object)})
    where = (tmp_path,) if whole_run else ("--features", path)
    result = evaluate(*where, "--json", *["--trust-checkpoints"] * trust)
    assert marker.exists() == trust
    if not trust:
        check_one_line(result, f"{path}: holds Python objects in query_pids and query_paths; to read that is to run it")
        assert "; --trust-checkpoints reads it" in result.stderr


def test_what_is_trusted_is_evaluated(tmp_path: Path) -> None:
    made = arrays()
    np.savez(tmp_path / "plain.npz", **made)
    np.savez(tmp_path / "objects.npz", **{key: each.astype(object) for key, each in made.items()})
    found = [evaluate("--features", path, "--json", "--trust-checkpoints").stdout for path in tmp_path.glob("*.npz")]
    assert found[0] == found[1] != ""


def test_a_pickle_in_a_features_place_is_not_read_even_where_it_is_trusted(tmp_path: Path) -> None:
    path, marker = tmp_path / "features.npz", tmp_path / "executed"
    path.write_bytes(pickle.dumps(Payload(marker)))
    check_one_line(evaluate("--features", path, "--trust-checkpoints"), "not a zip of arrays")
    assert not marker.exists()


def test_bad_run_folders_are_one_line(run: Path, file: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_one_line(evaluate(tmp_path / "empty"), "no features-TARGET.npz in it")
    check_one_line(evaluate(tmp_path / "none"), "no such run folder")
    check_one_line(evaluate(file), f"drsl evaluate --features {file}")
    check_one_line(evaluate(run, "--target", "market"), "--target: market1501 in ")
    (run / "config.yaml").write_text("test: [")
    check_one_line(evaluate(run), "config.yaml: cannot be read")


def test_bad_arguments_are_one_line(run: Path, file: Path) -> None:
    check_one_line(evaluate(), "takes a run folder or --features FILE, one of the two")
    check_one_line(evaluate(run, "--features", file), "takes a run folder or --features FILE, one of the two")
    check_one_line(evaluate("--features", file, "--metric", "cosinus"), "--metric: cosine or euclidean, not cosinus")
    check_one_line(evaluate("--features", file, "--target", "x"), "--target: names a data set of a run folder")
