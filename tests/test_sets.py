"""Prediction sets: the threshold, how often they hold the true class, from which images, and where they are asked for."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from analysis.findings.sets import LEVELS, coverage, known_sets, prediction_sets
from analysis.load import load
from analysis.verdict import findings
from study import load_study, predict
from study.errors import ConfigError
from study.inference.sets import fewest_images, least_probability, members
from study.question.training_settings import Protocol
from study.scoring import find_metric
from study.scoring.decide import Deciding
from study.use.asked import Asked
from study.use.table import PredictionsCsv
from tests import sized
from tests.goldens import GOLDEN

ONE = Protocol(max_epochs=1, precision="fp32")


def drawn(rng: np.random.Generator, images: int, classes: int = 5, sharper: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities [N, C], and labels that are drawn from others: a network that is `sharper` than it should be."""
    logits = 2 * rng.standard_normal((images, classes))
    true = np.exp(logits)
    labels = (rng.random(images)[:, None] > (true / true.sum(1, keepdims=True)).cumsum(1)).sum(1)
    said = np.exp(sharper * logits)
    return said / said.sum(1, keepdims=True), np.minimum(labels, classes - 1)


def test_the_threshold_is_the_conformal_rank_of_the_true_classes() -> None:
    of_truth = np.arange(1, 20) / 20  # 0.05 ... 0.95
    assert least_probability(of_truth, 0.9) == pytest.approx(0.10), "rank 18 of 19 from above"
    assert least_probability(of_truth, 0.95) == pytest.approx(0.05), "all of the least number of images"
    assert least_probability(of_truth[:18], 0.95) is None and fewest_images(0.95) == 19 and fewest_images(0.9) == 9
    assert least_probability(np.repeat(of_truth, 5), 0.9, 19) == pytest.approx(0.10), "five networks on the same images are no more images"
    assert least_probability(np.repeat(of_truth, 5), 0.99, 19) is None


def test_no_set_is_empty() -> None:
    assert members(np.array([[0.4, 0.35, 0.25], [0.9, 0.1, 0.0]]), 0.5).tolist() == [[True, False, False], [True, False, False]]
    assert members(np.array([[0.4, 0.35, 0.25]]), 0.3).tolist() == [[True, True, False]]


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("sharper", [1.0, 3.0])
def test_the_true_class_is_in_the_set_as_often_as_was_asked_for_however_wrong_the_probabilities(level: float, sharper: float) -> None:
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        (cal, cal_labels), (new, labels) = drawn(rng, 60, sharper=sharper), drawn(rng, 60, sharper=sharper)
        least = least_probability(cal[np.arange(60), cal_labels], level)
        assert least is not None
        held.append(members(new, least)[np.arange(60), labels].mean())
    assert level - 0.008 <= np.mean(held) <= level + 1 / 61 + 0.03


def test_mapie_gives_the_same_sets() -> None:
    """The sets are those of MAPIE 1.6.0's SplitConformalClassifier (conformity_score="lac", prefit) for these tables, on 2026-11-30."""
    theirs = {
        0.8: [99, 108, 88, 90, 88],
        0.9: [139, 150, 128, 131, 116],
        0.95: [160, 171, 154, 152, 139],
    }  # images a class is in the set of
    rng = np.random.default_rng(1)
    (cal, labels), (new, _) = drawn(rng, 101), drawn(rng, 300)
    for level, expected in theirs.items():
        least = least_probability(cal[np.arange(101), labels], level)
        assert least is not None
        assert (new >= least).sum(axis=0).tolist() == expected


def test_coverage_is_counted_by_image_and_by_class() -> None:
    inside, labels = np.zeros((40, 2), bool), np.repeat([0, 1], 20)
    inside[:, 0] = True
    inside[20:30, 1] = True
    found = coverage(inside, labels, ["a", "b"])
    assert (found.share, found.size, found.single) == (0.75, 1.25, 0.75) and (found.worst, found.worst_share) == ("b", 0.5)
    assert found.low < 0.75 < found.high and found.images == 40


def test_of_one_split_validation_gives_the_threshold_and_test_is_where_it_is_measured() -> None:
    frames = load(str(GOLDEN))
    pick = findings(frames, 50).picks[0]
    val, test = (frames.predictions(pick.trial)[s] for s in ("val", "test"))
    sets = prediction_sets(frames, pick, 0.8)
    assert sets.images == len(val.labels) and sets.source == "validation images" and sets.temperature == pick.temperature
    assert sets.measured is not None and sets.measured.images == len(test.labels)
    logits = val.logits / pick.temperature
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    held = (shares[np.arange(len(val.labels)), val.labels] >= sets.least - 1e-6).sum()
    assert held == np.ceil((len(val.labels) + 1) * 0.8 - 1e-9)
    low, high = sets.expected
    assert low < 0.8 < high and f"{sets.least:.3g}" in sets.text and f"rom {sets.images} validation images" in sets.text


def test_with_outer_folds_every_image_gives_the_threshold(tmp_path: Path) -> None:
    frames = load(
        sized.write(tmp_path, {"partial": [0.7], "full": [0.6]}, (1.0,), tests=300, protocol=ONE, folds=5, searches=5, budget_check=0)
    )
    pick = next(p for p in findings(frames, 50).picks if p.cell.strategy == "partial")
    sets = prediction_sets(frames, pick, 0.95)
    assert sets.images == 300 and "never saw it" in sets.source and sets.measured is not None and sets.measured.images == 300
    assert [s.level for s in known_sets(frames, pick)] == list(LEVELS)


def test_too_few_images_are_said_with_what_they_suffice_for(tmp_path: Path) -> None:
    frames = load(sized.write(tmp_path, {"partial": [0.7], "full": [0.6]}, (1.0,), tests=300, protocol=ONE))
    pick = findings(frames, 50).picks[0]
    with pytest.raises(ConfigError, match=r"sets of 95 % need 19 validation images, and there are 8: ask for at most --sets 0\.88"):
        prediction_sets(frames, pick, 0.95)
    assert [s.level for s in known_sets(frames, pick)] == [0.8] and prediction_sets(frames, pick, 0.88).images == 8
    bare = dataclasses.replace(pick, trials=("0" * 16,))
    with pytest.raises(ConfigError, match="no kept predictions"):
        prediction_sets(frames, bare, 0.8)


def test_a_table_has_the_set_of_every_row(tmp_path: Path) -> None:
    class Made:
        level, text, short = 0.95, "sets", "sets"

        def of(self, shares: np.ndarray) -> list[list[int]]:
            return [[1, 0] for _ in shares]

    for classes, said in ((["a", "b"], "b;a"), (["a", "b;c"], "b;c|a"), (["=a", "=b"], "'=b;=a")):
        file, asked = tmp_path / f"{said}.csv", Asked(classes, Made())
        with PredictionsCsv(file, classes, "n", more=asked) as table:
            table.add(["x.png"], np.array([[0.4, 0.6]]))
            table.add_problems([("y.png", "torn")])
        lines = file.read_text().splitlines()
        assert lines[0].endswith(",in_set,problem,network") and lines[1].split(",")[-3:] == [said, "", "n"]
        assert lines[2].split(",")[-3:] == ["", "torn", "n"]
        with PredictionsCsv(file, classes, "n", ["x.png"], more=asked) as table:
            assert table.has("x.png")
        with pytest.raises(ConfigError, match="other columns"), PredictionsCsv(file, classes, "n"):
            pass
        assert asked.values(["x"], np.array([[0.4, 0.6]])) == [{"set": [classes[1], classes[0]]}]


def test_a_class_that_is_named_by_costs_is_said_to_stand_outside_of_its_set() -> None:
    class Made:
        level, text, short = 0.8, "sets", "sets"

        def of(self, shares: np.ndarray) -> list[list[int]]:
            return [[0] for _ in shares]

    shares, rule = np.array([[0.74, 0.26]]), Deciding(metric=find_metric("accuracy"), threshold=0.09, of=1)
    asked = Asked(["well", "sick"], Made(), rule=rule.text(["well", "sick"]))
    assert rule(shares).tolist() == [1] and asked.values(["x"], shares) == [{"set": ["well"]}]
    assert (
        asked.texts[1].startswith("a set may lack the class that is named") and "says sick from a probability of 0.09 on" in asked.texts[1]
    )
    assert Asked(["well", "sick"], Made(), rule=Deciding().text(["well", "sick"])).texts == ["sets"], "the likeliest is in every set"


def test_a_level_is_a_share_and_a_trial_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict.main([str(GOLDEN), ".", "--sets", "95"]) == 2 and "--sets must be in (0, 1)" in capsys.readouterr().err
    assert load_study(GOLDEN).prediction_sets(level=0.8).of(np.eye(10, dtype=np.float32)[:1])[0][0] == 0
    assert json.dumps(dataclasses.asdict(load_study(GOLDEN).prediction_sets(level=0.8)))
