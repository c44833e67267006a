"""The verdict on two sides, with the estimators, tests and intervals of a study, on predictions that were read from tables."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from analysis.data.question import Question
from analysis.findings.comparisons import Gathered, runs_by_metric
from analysis.findings.comparisons import Side as Scored
from analysis.findings.small_classes import small_classes
from analysis.findings.verdict_pairs import Pair
from analysis.judge.labels import Labels
from analysis.page.by_class import Classes, Difference, differences, f1_runs
from analysis.statistics import resampling as st
from analysis.statistics.collapse import collapse_reason, count_collapses
from analysis.statistics.decisions import ALPHA, Doubts, decide
from analysis.statistics.forecast import Need, forecast
from analysis.statistics.intervals import (
    Estimate,
    difference,
    difference_interval,
    fixed_difference,
    images_estimate,
    mean_estimate,
    share_interval,
)
from analysis.statistics.scored_runs import Runs
from study.scoring.metric import Metric, find_metric

METRICS = {"macro_f1": "macro_f1", "accuracy": "accuracy", "balanced_accuracy": "macro_recall"}
"""Metrics that are told of every two sides, with their names in `statistics.resampling.METRICS`.

Balanced accuracy is the mean of the classes' recalls. All three are functions of counts by class, so one resampling of images serves
them. The verdict's own metric may be any of `study.scoring`.
"""
Scope = Literal["training", "files"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One of the two sides that are compared. Several files are its seeds."""

    name: str
    files: tuple[str, ...]
    said: tuple[np.ndarray, ...]  # [N] each, places of classes
    probabilities: tuple[np.ndarray, ...] = ()  # [N, C] each, where the metric asks for them


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """The complete result for two sides. Scores are shares in [0, 1], and differences are A minus B."""

    truth: Labels
    sides: tuple[Side, Side]
    metric: Metric
    margin: float  # in its unit
    scope: Scope  # "files": a side has one file, so nothing is known of what more training would bring
    pair: Pair
    scores: Mapping[str, Mapping[str, tuple[Estimate, np.ndarray]]]  # by metric and side: its mean, and the score of every file
    others: Mapping[str, Difference]  # by metric, A minus B with an unadjusted 95 % interval
    classes: Mapping[int, Difference]  # by class that occurs, the same of F1
    f1: tuple[Mapping[int, float], Mapping[int, float]]  # by class, of each side


def judge(
    truth: Labels, a: Side, b: Side, *, metric: str = "macro_f1", margin: float | None = None, resamples: int = st.RESAMPLES
) -> Judged:
    """Decide between A and B. `margin` is the difference worth having, in the metric's unit.

    Where each side has two files or more, the files are the repeats, as confirm runs are in a study, and every number is computed as in
    a study. Otherwise the intervals contain the test images alone.
    """
    asked = find_metric(metric).bind(truth.classes)
    asked.check(truth.labels)
    margin = asked.margin if margin is None else margin
    asked.check_margin(margin)
    gathered = _gathered(truth, a, b, asked)
    runs = {s.name: runs_by_metric(gathered, s.name, resamples) for s in (a, b)}
    scope: Scope = "training" if min(len(a.said), len(b.said)) > 1 else "files"
    between: Callable[[Runs, Runs], Estimate] = difference if scope == "training" else fixed_difference
    keys = METRICS if asked.name in METRICS else {asked.key: asked.key, **METRICS}
    scores = {name: {s: (_mean(own[key], scope), own[key].scores) for s, own in runs.items()} for name, key in keys.items()}
    own = [runs[s.name][asked.key] for s in (a, b)]
    by_class = [f1_runs(Classes(gathered=gathered, names=truth.classes, ranked=(a.name, b.name)), s.name, resamples) for s in (a, b)]
    return Judged(
        truth=truth,
        sides=(a, b),
        metric=asked,
        margin=margin,
        scope=scope,
        pair=_decided(gathered, own, between(*own), margin, scope),
        scores=scores,
        others={m: _interval(between(*(runs[s.name][METRICS[m]] for s in (a, b)))) for m in METRICS if m != asked.name},
        classes=differences(by_class[0], by_class[1], between),
        f1=(_means(by_class[0]), _means(by_class[1])),
    )


def _gathered(truth: Labels, a: Side, b: Side, metric: Metric) -> Gathered:
    """Return both sides as the two strategies of a question, whose runs one search found."""
    return Gathered(
        question=Question(dataset=str(truth.path), splits="official", backbone="", train_fraction=1.0),
        images=truth.images,
        labels=truth.labels,
        groups=truth.groups,
        fold=np.zeros(len(truth.labels), int),
        searches=dict.fromkeys(range(max(len(a.said), len(b.said))), 0),
        classes=truth.classes,
        predicted={s.name: dict(enumerate(s.said)) for s in (a, b)},
        metric=metric,
        probabilities={s.name: dict(enumerate(s.probabilities)) for s in (a, b)} if metric.probable else {},
    )


def _mean(own: Runs, scope: Scope) -> Estimate:
    return (
        mean_estimate(own)
        if scope == "training"
        else images_estimate(float(own.scores.mean()), own.resampled.mean(axis=0), own.units, own.metric)
    )


def _decided(gathered: Gathered, own: Sequence[Runs], e: Estimate, margin: float, scope: Scope) -> Pair:
    metric = gathered.metric
    small = small_classes(gathered.labels, gathered.classes, metric.words) if metric.by_class else ""
    names = [*gathered.predicted]
    (decision,) = decide([e], margin / 100, [Doubts(both=(*([small] if small else []), *_collapses(own, names, scope, metric)))])
    open_yet = decision.kind == "undecided" and not math.isnan(e.variance)
    return Pair(
        question=gathered.question,
        a=names[0],
        b=names[1],
        estimate=e,
        decision=decision,
        seeds=min(len(r.scores) for r in own),
        confidence=1 - ALPHA,
        needs=_needs(e, margin, scope) if open_yet else (),
        small_classes=small,
    )


def _needs(e: Estimate, margin: float, scope: Scope) -> tuple[Need, ...]:
    """Return what would decide the comparison. For sides without repeats that is more images only."""
    found = forecast(e, margin / 100)
    return found if scope == "training" else tuple(n for n in found if n.resource in ("image", "session"))


def _collapses(own: Sequence[Runs], names: Sequence[str], scope: Scope, metric: Metric) -> list[str]:
    """Return why collapsed runs forbid to name a winner. No search is known here, so only the test score tells."""
    if scope == "files":
        return []
    counted = count_collapses([r.scores for r in own], [np.full(len(r.scores), math.nan) for r in own], 1, metric.margin / 100)
    return [f"of {s}, {why}" for s, c in zip(names, counted, strict=True) if (why := collapse_reason(c, c))]


def _interval(e: Estimate) -> Difference:
    low, high = difference_interval(e)
    return Difference(mean=e.mean, low=low, high=high)


def _means(by_class: Mapping[int, Scored]) -> dict[int, float]:
    return {k: float(r.scores.mean()) for k, r in by_class.items()}


def side_rows(found: Judged) -> list[dict[str, Any]]:
    """Return one row per side and metric: mean, low, high, and the score of every file."""
    rows = []
    for metric, by_side in found.scores.items():
        for name, (e, each) in by_side.items():
            low, high = share_interval(e)
            rows.append({"side": name, "metric": metric, "mean": e.mean, "low": low, "high": high, "scores": each.tolist()})
    return rows
