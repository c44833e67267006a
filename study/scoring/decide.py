"""The step from probabilities to an answer: the likeliest class, the one that costs least, or, for two classes, a threshold.

A threshold is chosen on validation images, by the metric, and kept with the network. It belongs to the network alone: comparisons use the
likeliest class, so that no strategy is judged by the choice of its threshold. Costs fix the threshold by themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from study.scoring.metric import DEFAULT, Metric, Said

TRIED = 200  # thresholds, at quantiles of the probabilities
BY_NAMES = ("macro_f1", "accuracy", "balanced_accuracy", "f1", "quadratic_kappa")
"""Metrics that a threshold changes, as they are of the class named."""


@dataclass(frozen=True, kw_only=True)
class Deciding:
    """A network's rule. `metric`, bound to its classes, has the costs. `threshold` is of class `of`: the last of two, or the metric's."""

    metric: Metric = DEFAULT
    threshold: float | None = None
    of: int = 1

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """[N, C] -> [N], the places of the classes to say."""
        if self.threshold is None:
            return self.metric.decide(probabilities)
        return np.where(probabilities[:, self.of] >= self.threshold, self.of, 1 - self.of)

    @property
    def usual(self) -> bool:
        """Return True where the rule predicts the likeliest class."""
        return self.threshold is None and self.metric.costs is None

    def as_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """For whoever runs the network elsewhere: plain values; empty of the usual rule."""
        found: dict[str, Any] = {}
        if self.metric.costs is not None:
            found["costs"] = {"rows": "truth", "columns": "said", "matrix": self.metric.costs.matrix(classes).tolist()}
        if self.threshold is not None:
            found["threshold"] = {"class": classes[self.of], "at_least": self.threshold, "else": classes[1 - self.of]}
        return found

    def text(self, classes: Sequence[str]) -> str:
        """In words; empty of the usual rule."""
        if self.threshold is not None:
            why = "which costs least" if self.metric.costs else f"chosen on validation for {self.metric.words}"
            return f"says {classes[self.of]} from a probability of {self.threshold:.2f} on, {why}"
        return "says the class whose expected cost is lowest" if self.metric.costs else ""


def decide_by(metric: Metric, probabilities: np.ndarray, labels: np.ndarray) -> Deciding:
    """The rule of a network of `metric`'s classes, whose threshold these validation images choose, where it has one: calibrated
    `probabilities` [N, C], `labels` [N]. A study of the usual metric keeps the likeliest class."""
    if len(metric.classes) != 2 or metric == DEFAULT:
        return Deciding(metric=metric)
    of = metric.place if metric.of_class else 1
    if metric.costs is not None:
        return Deciding(metric=metric, threshold=costs_threshold(metric, of), of=of)
    if metric.name not in BY_NAMES or not len(labels):
        return Deciding(metric=metric)
    return Deciding(metric=metric, threshold=best_threshold(metric, probabilities, labels, of), of=of)


def costs_threshold(metric: Metric, of: int = 1) -> float | None:
    """From which probability on class `of` of two is expected to cost less; None where one answer is never dearer (Elkan 2001)."""
    assert metric.costs is not None
    c = metric.costs.matrix(metric.classes)
    false_alarm, missed = c[1 - of, of] - c[1 - of, 1 - of], c[of, 1 - of] - c[of, of]
    return float(false_alarm / (false_alarm + missed)) if false_alarm >= 0 and missed >= 0 and false_alarm + missed > 0 else None


def best_threshold(metric: Metric, probabilities: np.ndarray, labels: np.ndarray, of: int = 1) -> float:
    """The one with the highest score, halfway between two probabilities; of several the nearest to 0.5."""
    given = np.unique(np.quantile(probabilities[:, of], np.linspace(0, 1, TRIED + 1), method="nearest"))
    tried = np.concatenate([[0.5], (given[1:] + given[:-1]) / 2])
    scores = [float(metric.score(labels, Said(named=Deciding(metric=metric, threshold=t, of=of)(probabilities)))) for t in tried]
    return float(max(zip(scores, tried, strict=True), key=lambda own: (own[0], -abs(own[1] - 0.5)))[1])


def precision_recall(probabilities: np.ndarray, labels: np.ndarray, of: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(threshold, precision, recall) [T] of class `of` at every probability given, the lowest first."""
    given, positive = probabilities[:, of], labels == of
    order = np.argsort(-given, kind="stable")
    hits, last = np.cumsum(positive[order]), np.flatnonzero(np.append(np.diff(given[order]) != 0, True))
    return given[order][last][::-1], (hits[last] / (last + 1))[::-1], (hits[last] / max(int(positive.sum()), 1))[::-1]
