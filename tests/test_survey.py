"""Pictures drawn with known probabilities: the draw keeps them, and weighted scores come to what all pictures together would give."""

import numpy as np
import pytest

from analysis.statistics import survey
from analysis.statistics.cross_fitting import OuterFolds, cross_fit, difference
from analysis.statistics.intervals import difference as paired
from analysis.statistics.resampling import METRICS, image_units
from analysis.statistics.scored_runs import score_runs
from study.metrics import counts

CLASSES, IMAGES = 3, 240


def world(seed: int, runs: int = 3) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Return labels [N], classes that two strategies' runs predict [runs, N], and probabilities [N, C].

    B errs on a tenth of the images more than A.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=IMAGES)
    hard = rng.random(IMAGES)
    said = {}
    for name, more in (("a", 0.0), ("b", 0.1)):
        wrong = rng.random((runs, IMAGES)) < 0.3 * hard + more
        said[name] = np.where(wrong, (labels + rng.integers(1, CLASSES, size=(runs, IMAGES))) % CLASSES, labels)
    votes = np.stack([np.mean([*(said["a"] == k), *(said["b"] == k)], axis=0) for k in range(CLASSES)], axis=1)
    return labels, said, 0.9 * votes + 0.1 / CLASSES


def squares(labels: np.ndarray, said: dict[str, np.ndarray], shares: np.ndarray) -> np.ndarray:
    at = counts(said["a"][0], labels, CLASSES), counts(said["b"][0], labels, CLASSES)
    return survey.squared_influence(said["a"], said["b"], shares, at)


def test_probabilities_come_to_what_was_asked_and_none_is_out_of_reach() -> None:
    labels, said, shares = world(0)
    own = squares(labels, said, shares)
    chance = survey.inclusion(own, 40)
    assert chance.sum() == pytest.approx(40) and 0 < chance.min() and chance.max() <= 1
    apart = (said["a"] != said["b"]).any(axis=0)
    assert chance[apart].mean() > 1.5 * chance[~apart].mean(), "those on which the runs disagree come first"
    known = np.arange(IMAGES) < 30
    with_known = survey.inclusion(own, 40, known)
    assert (with_known[known] == 1).all() and with_known[~known].sum() == pytest.approx(40)
    assert (survey.inclusion(own, 40, np.arange(IMAGES) < 210) == 1).all()
    assert survey.inclusion(0 * own, 40) == pytest.approx(np.full(IMAGES, 40 / IMAGES))


def test_images_that_decide_alone_are_certain() -> None:
    own = np.ones(50)
    own[:3] = 1e6
    chance = survey.inclusion(own, 10)
    assert (chance[:3] == 1).all() and chance.sum() == pytest.approx(10) and (chance[3:] < 1).all()


def test_a_draw_has_as_many_as_were_asked_for_and_keeps_the_probabilities() -> None:
    chance = survey.inclusion(np.random.default_rng(1).exponential(size=60) ** 4, 12)
    rng = np.random.default_rng(2)
    draws = [survey.drawn(chance, rng) for _ in range(4000)]
    assert all(len(d) == len(set(d.tolist())) == 12 for d in draws)
    often = np.bincount(np.concatenate(draws), minlength=60) / len(draws)
    assert np.abs(often - chance).max() < 4 * 0.5 / np.sqrt(len(draws))


def _scored(labels: np.ndarray, runs: np.ndarray, sample: survey.Sample) -> object:
    each, again = sample.weights, sample.resample(200)
    return score_runs(runs, range(len(runs)), labels, CLASSES, again, sample.units(), ("macro_f1",), each=each)["macro_f1"]


def test_the_weighted_difference_is_on_average_that_of_all_pictures_and_its_interval_says_how_far_it_is_off() -> None:
    """Only pictures are drawn again and again. The former test images stay, so the spread is that of the draw."""
    labels, said, shares = world(3)
    before, pool = np.arange(60), np.arange(60, IMAGES)
    chance = survey.inclusion(squares(labels, said, shares)[pool], 30)
    everything = survey.Sample(stratum=np.repeat([0, 1], [60, 180]), weights=np.ones(IMAGES))
    truth = paired(_scored(labels, said["a"], everything), _scored(labels, said["b"], everything)).mean
    rng, found, claimed = np.random.default_rng(4), [], []
    for _ in range(150):
        taken = survey.drawn(chance, rng)
        own = np.concatenate([before, pool[taken]])
        weights = np.concatenate([np.ones(60), survey.hajek(chance[taken], 180)])
        sample = survey.Sample(stratum=np.repeat([0, 1], [60, 30]), weights=weights)
        estimate = paired(*(_scored(labels[own], said[s][:, own], sample) for s in ("a", "b")))
        found.append(estimate.mean - truth)
        claimed.append(estimate.variance)
    spread = np.std(found)
    assert abs(np.mean(found)) < 3 * spread / np.sqrt(150) + 0.005
    assert np.sqrt(np.mean(claimed)) > spread, "runs and images could have been others, too"


def test_a_draw_tells_more_than_as_many_at_random() -> None:
    labels, said, shares = world(5)
    own = squares(labels, said, shares)
    assert 30 < survey.worth(own, survey.inclusion(own, 30)) <= IMAGES
    assert survey.worth(own, np.full(IMAGES, 30 / IMAGES)) == pytest.approx(30)
    assert survey.worth(own, np.ones(IMAGES)) == pytest.approx(IMAGES)


def test_weights_are_copies_for_nested_folds_and_for_one_split() -> None:
    """A picture that counts twice moves a score as two of it would, whatever the design."""
    labels, said, _ = world(6)
    fold = np.arange(IMAGES) % 5
    twice = np.concatenate([np.arange(IMAGES), np.arange(40)])
    weights = np.where(np.arange(IMAGES) < 40, 2.0, 1.0)
    weighted = OuterFolds(labels=labels, fold=fold, classes=CLASSES, weights=weights)
    copied = OuterFolds(labels=labels[twice], fold=fold[twice], classes=CLASSES, groups=twice)
    one, other = (
        [cross_fit(said[s][:, own], folds) for s in ("a", "b")] for folds, own in ((weighted, np.arange(IMAGES)), (copied, twice))
    )
    assert [s.scores for s in one][0] == pytest.approx([s.scores for s in other][0])
    assert difference(*one).mean == pytest.approx(difference(*other).mean)
    assert difference(*one).variance == pytest.approx(difference(*other).variance, rel=1e-6)
    sample = survey.Sample(stratum=np.zeros(IMAGES, int), weights=weights)
    scores = _scored(labels, said["a"], sample).scores
    assert scores == pytest.approx([float(METRICS["macro_f1"](counts(p[twice], labels[twice], CLASSES))) for p in said["a"]])
    assert image_units(IMAGES, None, weights).effective == pytest.approx(280**2 / (200 + 4 * 40))
