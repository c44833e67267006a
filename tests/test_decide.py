"""Answers made from probabilities: thresholds of two classes, and costs."""

import numpy as np
import pytest
from sklearn import metrics as reference

from study.inference.softmax import softmax
from study.scoring import find_metric
from study.scoring.decide import Deciding, best_threshold, costs_threshold, decide_by, precision_recall

NAMES = ("well", "sick")


def given(n: int = 400, sick: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    """Return calibrated probabilities [n, 2] and labels [n] that they are right about."""
    rng = np.random.default_rng(4)
    p = softmax(np.stack([np.zeros(n), rng.normal(np.log(sick / (1 - sick)), 1.5, n)], axis=1))
    return p, (rng.random(n) < p[:, 1]).astype(int)


def test_a_threshold_is_the_best_on_the_images_that_choose_it() -> None:
    p, labels = given()
    metric = find_metric("f1:sick").bind(NAMES)
    rule = decide_by(metric, p, labels)
    assert rule.threshold is not None and rule.of == 1
    own = reference.f1_score(labels, rule(p))
    assert own >= max(reference.f1_score(labels, (p[:, 1] >= t).astype(int)) for t in np.linspace(0.02, 0.98, 40)) - 0.01
    assert own > reference.f1_score(labels, p.argmax(axis=1)) + 0.02  # a rare class is found more readily
    assert rule.as_dict(NAMES)["threshold"] == {"class": "sick", "at_least": rule.threshold, "else": "well"}
    assert "says sick from a probability of" in rule.text(NAMES) and not rule.usual


def test_the_first_of_two_classes_may_be_the_one_it_is_about() -> None:
    p, labels = given()
    turned = decide_by(find_metric("f1:sick").bind(NAMES[::-1]), p[:, ::-1], 1 - labels)
    straight = decide_by(find_metric("f1:sick").bind(NAMES), p, labels)
    assert turned.of == 0 and turned.threshold == straight.threshold
    assert (turned(p[:, ::-1]) == 1 - straight(p)).all()


def test_costs_give_the_threshold_by_themselves() -> None:
    p, labels = given()
    metric = find_metric('cost:[["well","sick"],[0,1],[10,0]]').bind(NAMES)
    assert costs_threshold(metric) == pytest.approx(1 / 11)
    assert (decide_by(metric, p, labels)(p) == metric.decide(p)).all()
    assert decide_by(find_metric('cost:[["well","sick"],[0,1],[10,9.5]]').bind(NAMES), p, labels).threshold == pytest.approx(2 / 3)
    dearer = find_metric('cost:[["well","sick"],[0,1],[0,5]]').bind(NAMES)  # saying well is never dearer
    assert costs_threshold(dearer) is None and set(decide_by(dearer, p, labels)(p)) == {0}


def test_nothing_changes_where_no_threshold_is_asked_for() -> None:
    p, labels = given()
    for text in ("macro_f1", "auroc", "log_loss"):
        rule = decide_by(find_metric(text).bind(NAMES), p, labels)
        assert rule.usual and rule.threshold is None and rule.as_dict(NAMES) == {} and (rule(p) == p.argmax(axis=1)).all()
    three = softmax(np.random.default_rng(0).normal(size=(9, 3)))
    assert decide_by(find_metric("accuracy").bind(("a", "b", "c")), three, np.arange(9) % 3).usual
    assert (Deciding()(three) == three.argmax(axis=1)).all()


def test_images_of_one_class_keep_the_half() -> None:
    p, _ = given(30)
    assert best_threshold(find_metric("accuracy").bind(NAMES), np.full((5, 2), 0.5), np.ones(5, int)) == 0.5
    assert decide_by(find_metric("accuracy").bind(NAMES), p[:0], np.zeros(0, int)).threshold is None


def test_precision_and_recall_are_scikit_learns() -> None:
    p, labels = given()
    p = p.round(2)  # with ties
    at, precision, recall = precision_recall(p, labels)
    theirs = reference.precision_recall_curve(labels, p[:, 1])
    assert at == pytest.approx(theirs[2]) and precision == pytest.approx(theirs[0][:-1]) and recall == pytest.approx(theirs[1][:-1])
