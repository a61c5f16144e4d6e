"""The imbalance benchmark: its references are what its table says, and the same for every loss."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from drsl_plugin.errors import DRSLError

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import imbalance
import imbalance_data
import imbalance_report
import imbalance_runs

CHARACTERS, DRAWERS = 10, 4  # 40 classes with their rotations, 160 images


@pytest.fixture(scope="module")
def omniglot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders as Omniglot's, of noise; the second shares two characters with the first."""
    root = tmp_path_factory.mktemp("omniglot")
    rng = np.random.default_rng(0)
    names = {
        "images_background_small1": [f"Greek/character{n:02}" for n in range(1, CHARACTERS + 1)],
        "images_background_small2": [f"Greek/character{n:02}" for n in (1, 2)]
        + ["Tagalog/character01", "Tagalog/character02"],
    }
    for folder, characters in names.items():
        for character in characters:
            (root / folder / character).mkdir(parents=True)
            for drawer in range(DRAWERS):
                image = Image.fromarray(rng.integers(0, 2, (105, 105), dtype=np.uint8) * 255)
                image.convert("1").save(root / folder / character / f"0001_{drawer + 1:02}.png")
    return root


@pytest.fixture(scope="module")
def training(omniglot: Path) -> imbalance_data.Images:
    return imbalance_data.training_and_test(omniglot)[0]


def planned(labels: Tensor, ratio: int, positives: int = 1, seed: int = 1) -> list[list[imbalance_data.Group]]:
    settings = {"ratio": ratio, "positives": positives, "steps": 5, "refresh": 2, "seed": seed}
    return [groups for period in imbalance_data.periods(labels, **settings) for groups in period]


def test_a_quarter_turn_makes_another_class_and_shared_characters_are_not_tested(omniglot: Path) -> None:
    training, test = imbalance_data.training_and_test(omniglot)
    assert torch.equal(torch.bincount(training.labels), torch.full((4 * CHARACTERS,), DRAWERS))
    assert test.labels.tolist() == [0] * DRAWERS + [1] * DRAWERS
    upright, quarter = training.pixels[0, 0], training.pixels[CHARACTERS * DRAWERS, 0]
    assert all(quarter[27 - column, row] == upright[row, column] for row in range(28) for column in range(28))
    assert 0 <= training.pixels.min() < training.pixels.max() <= 1


def test_a_held_out_alphabet_is_measured_and_not_trained_on(omniglot: Path) -> None:
    with pytest.raises(DRSLError, match=r"--hold-out must be one of Greek, got 'Latin'"):
        imbalance_data.training_and_test(omniglot, "Latin")
    characters = imbalance_data.read_characters(omniglot / "images_background_small1")
    other = omniglot / "images_background_small1" / "Latin" / "character01"
    other.mkdir(parents=True)
    source = characters["Greek/character01"][0]
    (other / "0001_01.png").write_bytes(source.read_bytes())
    try:
        training, held_out = imbalance_data.training_and_test(omniglot, "Latin")
    finally:
        (other / "0001_01.png").unlink()
        other.rmdir()
        other.parent.rmdir()
    assert len(held_out.labels) == 1
    assert len(training.labels) == 4 * CHARACTERS * DRAWERS


@pytest.mark.parametrize(("positives", "ratio"), [(1, 14), (1, 15), (1, 63), (2, 15), (2, 40)])
def test_each_query_has_exactly_its_ratio_and_no_reference_twice(
    training: imbalance_data.Images, positives: int, ratio: int
) -> None:
    steps = planned(training.labels, ratio, positives)
    assert len(steps) == 5
    for groups in steps:
        assert len(groups) == imbalance_data.GROUPS_IN_STEP
        for group in groups:
            for query in group.batch.tolist():
                references = [image for image in group.batch.tolist() + group.outside.tolist() if image != query]
                same = [image for image in references if training.labels[image] == training.labels[query]]
                assert len(references) == len(set(references))
                assert len(same) == positives
                assert len(references) - len(same) == positives * ratio
                assert not set(same) & set(group.outside.tolist())


def test_batches_depend_on_the_seed_alone_and_outside_images_change_each_period(
    training: imbalance_data.Images,
) -> None:
    few, many, other = (planned(training.labels, ratio, seed=seed) for ratio, seed in ((30, 1), (63, 1), (30, 2)))
    for few_groups, many_groups in zip(few, many, strict=True):
        for one, another in zip(few_groups, many_groups, strict=True):
            assert torch.equal(one.batch, another.batch)
            assert torch.equal(one.outside, another.outside[: len(one.outside)])
    assert not torch.equal(few[0][0].batch, other[0][0].batch)
    assert set(few[0][0].outside.tolist()) != set(few[2][0].outside.tolist())
    assert len({group.batch[0].item() for groups in few for group in groups}) > len(few)


def test_the_largest_ratio_is_where_the_images_end(training: imbalance_data.Images) -> None:
    for positives in (1, 2):
        most = imbalance_data.largest_ratio(training.labels, positives)
        for groups in planned(training.labels, most, positives):
            for group in groups:
                assert len(group.outside) == positives * most - imbalance_data.negatives_in_group(positives)
        missing = planned(training.labels, most + 1, positives)[0][0]
        assert len(missing.outside) < positives * (most + 1) - imbalance_data.negatives_in_group(positives)


@pytest.mark.parametrize("gradient", [False, True])
def test_every_loss_gets_the_same_references_and_gradient_where_it_is_asked_for(
    training: imbalance_data.Images, gradient: bool
) -> None:
    refresh = 1 if gradient else 2
    settings = {"ratio": 30, "positives": 1, "steps": 3, "refresh": refresh, "seed": 1, "lr": 0.001}
    settings["gradient"] = gradient
    labels_seen: dict[str, list[list[int]]] = {}
    first_seen: dict[str, Tensor] = {}

    def spied(name: str) -> imbalance.Recipe:
        def spy(embeddings: Tensor, labels: Tensor, outside: Tensor, outside_labels: Tensor) -> Tensor:
            assert embeddings.requires_grad
            assert outside.requires_grad == gradient
            assert outside.isfinite().all()  # all of them were encoded
            labels_seen.setdefault(name, []).append(labels.tolist() + outside_labels.tolist())
            first_seen.setdefault(name, torch.cat([embeddings, outside]).detach())  # of the initial weights
            return imbalance.RECIPES[name].loss(embeddings, labels, outside, outside_labels)

        return imbalance.RECIPES[name]._replace(loss=spy)

    for name in imbalance.RECIPES:
        start = imbalance.network(1, training)
        net = copy.deepcopy(start)
        last = imbalance.train(net, spied(name), training, {**settings, "loss": name})
        assert np.isfinite(last)
        assert any(not torch.equal(a, b) for a, b in zip(net.parameters(), start.parameters(), strict=True))
    assert len(labels_seen["triplet"]) == 3 * imbalance_data.GROUPS_IN_STEP
    assert all(labels == labels_seen["triplet"] for labels in labels_seen.values())
    assert all(torch.equal(first, first_seen["triplet"]) for first in first_seen.values())


def test_a_step_compares_each_group_with_its_own_outside_images(
    training: imbalance_data.Images,
) -> None:
    net, groups = imbalance.network(1, training), planned(training.labels, 30)[0]
    memory = imbalance.encode(net, training.pixels)
    assert not memory.requires_grad
    assert memory.mean(dim=0).abs().max() < 1e-5 < memory.std(dim=0).min()  # centred
    alone = net(training.pixels[5:6])
    assert torch.allclose(memory[5:6], alone, atol=1e-5)  # in a batch, or not

    def mean_distance(embeddings: Tensor, labels: Tensor, outside: Tensor, outside_labels: Tensor) -> Tensor:
        return torch.cdist(embeddings, outside).mean()

    loss = imbalance.step_loss(mean_distance, net, groups, training, memory)
    expected = [torch.cdist(net(training.pixels[g.batch]), memory[g.outside]).mean() for g in groups]
    assert torch.allclose(loss, torch.stack(expected).mean())


def test_triplet_takes_the_furthest_positive_and_the_nearest_of_all_negatives() -> None:
    torch.manual_seed(0)
    embeddings, outside = torch.randn(9, 3, dtype=torch.float64), torch.randn(20, 3).double()
    labels, outside_labels = torch.arange(3).repeat(3), torch.full((20,), 7)
    embeddings[labels == 0] = 10 + embeddings[labels == 0] / 100  # queries that have nothing to lose
    outside[4] = embeddings[2] + 0.01
    embeddings.requires_grad_()
    losses = []
    for q in range(9):
        positives = [torch.dist(embeddings[q], embeddings[j]) for j in range(9) if j != q and labels[j] == labels[q]]
        negatives = [torch.dist(embeddings[q], embeddings[j]) for j in range(9) if labels[j] != labels[q]]
        negatives += [torch.dist(embeddings[q], other) for other in outside]
        losses.append(max(0.0, (max(positives) - min(negatives) + 0.3).item()))
    loss = imbalance.triplet_loss(embeddings, labels, outside, outside_labels)
    assert loss.item() == pytest.approx(sum(losses) / 9)
    assert min(losses) == 0.0 < max(losses)
    loss.backward()
    assert embeddings.grad is not None
    assert embeddings.grad[labels == 0].abs().max() == 0 < embeddings.grad[2].abs().max()


def test_order_with_one_positive_is_smooth_ap_by_euclidean_distance(training: imbalance_data.Images) -> None:
    net, groups = imbalance.network(1, training), planned(training.labels, 30)[0]
    memory = imbalance.encode(net, training.pixels)
    order, plain = (
        imbalance.step_loss(imbalance.RECIPES[name].loss, net, groups, training, memory)
        for name in ("order", "smooth-ap-euclidean")
    )
    assert order.item() == plain.item() > 0
    groups = planned(training.labels, 30, positives=2)[0]
    order, plain = (
        imbalance.step_loss(imbalance.RECIPES[name].loss, net, groups, training, memory)
        for name in ("order", "smooth-ap-euclidean")
    )
    assert order.item() != plain.item()


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_map_ranks_all_other_images(distance: str) -> None:
    points = torch.tensor([[1.0, 0.0], [4.0, 0.4], [1.0, 0.2], [0.0, 1.0], [0.1, 1.0]])
    images = imbalance_data.Images(points, torch.tensor([0, 0, 1, 2, 2]))
    precisions = []
    for q in (0, 1, 3, 4):
        if distance == "cosine":
            distances = [-torch.cosine_similarity(points[q], other, dim=0).item() for other in points]
        else:
            distances = [torch.dist(points[q], other).item() for other in points]
        order = sorted((j for j in range(5) if j != q), key=lambda j: distances[j])
        rank = [images.labels[j] == images.labels[q] for j in order].index(True) + 1
        precisions.append(1 / rank)
    found = imbalance.mean_average_precision(nn.Identity(), images, distance)
    assert found == pytest.approx(sum(precisions) / 4)
    assert 0.5 < found < 1


def test_a_killed_benchmark_goes_on_and_other_settings_are_other_runs(
    omniglot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["--data", str(omniglot), "--output", str(tmp_path), "--losses", "triplet", "order", "--steps", "1"]
    arguments += ["--ratios", "15", "999", "--seeds", "1", "2"]
    imbalance.main(arguments)
    printed = capsys.readouterr().out
    assert "1:999 is left out: the training set ends at 1:142" in printed
    file = tmp_path / "runs.jsonl"
    lines = file.read_text().splitlines()
    assert [(json.loads(line)["seed"], json.loads(line)["loss"]) for line in lines] == [
        (1, "triplet"),
        (1, "order"),
        (2, "triplet"),
        (2, "order"),
    ]
    assert (tmp_path / "mAP.png").stat().st_size > 0
    table = (tmp_path / "table.md").read_text()
    means = [100 * (json.loads(a)["mAP"] + json.loads(b)["mAP"]) / 2 for a, b in (lines[::2], lines[1::2])]
    spread = [100 * abs(json.loads(a)["mAP"] - json.loads(b)["mAP"]) / 2**0.5 for a, b in (lines[::2], lines[1::2])]
    for name, mean, deviation in zip(("triplet", "order"), means, spread, strict=True):
        assert f"| {name} | {mean:.1f} ± {deviation:.1f} | the set ends before |" in table

    file.write_text("\n".join(lines[:3]) + "\n" + lines[3][:40])  # killed in its last line
    imbalance.main(arguments)
    again = [json.loads(line) for line in file.read_text().splitlines()]
    timeless = [{key: value for key, value in run.items() if key != "seconds"} for run in again]
    before = [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]
    assert timeless == before
    assert file.read_text().splitlines()[:3] == lines[:3]

    runs = imbalance_runs.Runs(file)
    assert {"seed": 1, "ratio": 15, "loss": "order", "steps": 1} in runs
    assert {"seed": 1, "ratio": 15, "loss": "order", "steps": 2} not in runs


def test_published_runs_are_taken_up_and_written_again_to_the_last_digit(omniglot: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    common = ["--data", str(omniglot), "--losses", "triplet", "error-angle-centred", "--steps", "1", "--ratios", "15"]
    imbalance.main([*common, "--output", str(tmp_path / "first"), "--seeds", "2", "1"])
    first = imbalance_runs.Runs(tmp_path / "first" / "runs.jsonl").found
    csv = tmp_path / "first" / "runs.csv"
    by_seed = sorted(first, key=lambda run: (run["loss"], run["seed"]))
    assert list(imbalance_runs.read_csv(csv)) == by_seed
    assert all(list(run) == list(imbalance_runs.COLUMNS) for run in imbalance_runs.read_csv(csv))
    assert {(run["loss"], run["temperature"], run["sort_weight"], run["hold_out"]) for run in first} == {
        ("triplet", None, None, None),
        ("error-angle-centred", 0.05, 1.0, None),
    }

    arguments = [*common, "--output", str(tmp_path / "second"), "--runs", str(csv)]
    imbalance.main([*arguments, "--seeds", "1", "2", "3", "--report-only"])  # the seconds show that none is run again
    assert (tmp_path / "second" / "runs.csv").read_text() == csv.read_text()
    one, two = (100 * run["mAP"] for run in first if run["loss"] == "triplet")
    row = f"| triplet | {(one + two) / 2:.1f} ± {abs(one - two) / 2**0.5:.1f} (2 of 3 seeds) |"
    assert row in (tmp_path / "second" / "table.md").read_text()
    imbalance.main([*arguments, "--seeds", "1", "--sort-weight", "3"])
    second = imbalance_runs.Runs(tmp_path / "second" / "runs.jsonl").found
    assert [(run["loss"], run["seed"], run["sort_weight"]) for run in second[4:]] == [("error-angle-centred", 1, 3.0)]
    assert second[4]["last_loss"] != next(run for run in first if run["loss"] != "triplet")["last_loss"]


def test_a_file_of_no_runs_is_refused(omniglot: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("loss,mAP\ntriplet,0.5\n")
    for file, message in ((tmp_path / "none.csv", "no such file"), (other, "line 2 is not a run, it wants hold_out, ")):
        with pytest.raises(DRSLError, match=f"--runs {file}: {message}"):
            imbalance.main(["--data", str(omniglot), "--output", str(tmp_path), "--runs", str(file)])


def test_what_is_asked_for_reaches_the_losses_that_have_it(training: imbalance_data.Images) -> None:
    args = imbalance.parse(["--data", "d", "--output", "o", "--temperature", "0.2", "--sort-weight", "3"])
    net, groups = imbalance.network(1, training), planned(training.labels, 30)[0]
    memory = imbalance.encode(net, training.pixels)
    for name, recipe in imbalance.RECIPES.items():
        changed = imbalance.adjusted(recipe, args)
        ours = name != "triplet"
        assert changed.temperature == (0.2 if ours else None)
        assert changed.sort_weight == (3.0 if recipe.sort_weight is not None else None)
        if name.startswith("graded"):
            continue  # 1 is the most there
        before, after = (
            imbalance.step_loss(each.loss, net, groups, training, memory).item() for each in (recipe, changed)
        )
        assert (before != after) == ours
    assert imbalance.adjusted(imbalance.RECIPES["angle"], imbalance.parse(["--data", "d", "--output", "o"]))[1:] == (
        "cosine",
        0.05,
        1.0,
    )


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(DRSLError, match="--data holds 31 training classes, a step needs 32"):
        imbalance_data.check_classes(torch.arange(31).repeat(2), positives=1)
    imbalance_data.check_classes(torch.arange(32).repeat(2), positives=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], r"no folder images_background_small1: unpack .*github.com/brendenlake/omniglot"),
        (["--positives", "4", "--ratios", "99"], r"--positives must be below 4, the images of a class, got 4"),
        (["--ratios", "13"], r"--ratios must be 14 or more, .* got 13"),
        (["--steps", "0"], r"--steps must be above 0, got 0"),
        (["--losses", "circle"], r"circle"),
        (
            ["--losses", "error", "--ratios", "15", "--temperature", "-1"],
            r"temperature must be a finite number above 0",
        ),
    ],
)
def test_bad_input_gets_one_line(omniglot: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(DRSLError, match=message) as caught:
        imbalance.main(["--data", str(omniglot), "--output", str(tmp_path), *arguments])
    assert "\n" not in str(caught.value)


ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["imbalance.csv", "imbalance_holdout.csv"])
def test_published_runs_are_of_losses_that_there_are(name: str) -> None:
    runs = list(imbalance_runs.read_csv(ROOT / "docs" / "results" / name))
    keys = [tuple(run[setting] for setting in imbalance_runs.SETTINGS) for run in runs]
    assert len(runs) == len(set(keys)) > 0
    for run in runs:
        recipe = imbalance.RECIPES[run["loss"]]
        assert run["mAP"] == run[f"mAP_{recipe.distance}"]
        assert (run["hold_out"] is None) == (name == "imbalance.csv")
        if name == "imbalance.csv":  # as a call without --temperature and --sort-weight runs it
            assert imbalance.options(recipe) == {key: run[key] for key in ("temperature", "sort_weight")}


def test_the_published_table_is_that_of_the_published_runs(tmp_path: Path) -> None:
    runs = imbalance_runs.Runs(tmp_path / "runs.jsonl")
    runs.take(ROOT / "docs" / "results" / "imbalance.csv")
    text = (
        (ROOT / "docs" / "RESULTS.md").read_text().split("## Few positives against many negatives")[1].split("\n## ")[0]
    )
    found, ratios = 0, [0]
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if line.startswith("| options |"):
            ratios = [int(cell.removeprefix("1:")) for cell in cells[1:]]
        if not line.startswith("| `--losses"):
            continue
        args = imbalance.parse(["--data", "d", "--output", "o", *cells[0].strip("`").split()])
        recipe = imbalance.RECIPES[args.losses[0]]
        settings = {"loss": args.losses[0], "positives": args.positives, "gradient": args.gradient, "hold_out": None}
        settings |= {"steps": args.steps, "refresh": args.refresh, "lr": args.lr, **imbalance.options(recipe)}
        values = [imbalance_report.scores(args, settings, runs, ratio) for ratio in ratios]
        assert cells[1:] == [imbalance_report.cell(each, 0, 1, len(args.seeds)) for each in values], line
        found += 1
    assert found > 0
