"""Scores of every strategy against what a study varies: training images, steps of training, pixels. They come from the confirm runs.

Each of these is an axis (`analysis.data.axes`), and the same code describes all of them.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import pandas as pd

from analysis.data.axes import AXES, Axis
from analysis.data.frames import Frames
from analysis.data.question import LATE, Question
from analysis.findings.across_studies import unlike
from analysis.findings.answers import confirm_seconds
from analysis.findings.comparisons import Gathered, runs_by_metric
from analysis.statistics import resampling as st
from analysis.statistics.crossing import Crossing, More, Point, crossing, minus, ten_times
from analysis.statistics.intervals import difference_interval, mean_estimate, share_interval


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """Questions that differ in one thing only: one data set, split one way, and one backbone, at several places on an axis.

    `question` is what they have in common.
    """

    axis: Axis
    question: Question
    sizes: dict[float, Question]  # by place on the axis, ascending
    curves: dict[str, list[Point]]  # by strategy, ascending
    crossings: dict[tuple[str, str], Crossing]
    more: dict[str, More] = field(default_factory=dict)  # where ten times as much is asked
    seconds: dict[float, dict[str, float]] = field(default_factory=dict)  # by place and strategy: what a run took
    left_out: tuple[str, ...] = ()  # places that cannot be paired with the others, and why

    @property
    def largest(self) -> float:
        return max(self.sizes)

    def between(self, a: str, b: str) -> Crossing | None:
        """Return the crossing of two strategies, named in either order, or None where there is none."""
        if (a, b) in self.crossings:
            return self.crossings[a, b]
        c = self.crossings.get((b, a))
        return None if c is None else dataclasses.replace(c, a_below=not c.a_below, a_better=c.b_better, b_better=c.a_better)

    def difference(self, a: str, b: str) -> list[Point]:
        """Return A minus B at every place that both strategies have."""
        others = {p.place: p for p in self.curves[b]}
        return [d for p in self.curves[a] if p.place in others and (d := minus(p, others[p.place])).keys]


@dataclass(frozen=True, kw_only=True, eq=False)
class When:
    """Tables and panels behind what a page says of training images, budgets and image sizes. It is empty where a study has one of each.

    Scores are shares in [0, 1]. Every table has the columns `axis` ("images", "steps", "pixels") and `place`, the row's position on
    that axis.
    """

    panels: list[Panel] = field(default_factory=list)
    sizes: pd.DataFrame = field(default_factory=pd.DataFrame)  # one row a strategy and place: mean, low, high (95 %), seconds of a run
    differences: pd.DataFrame = field(default_factory=pd.DataFrame)  # one row a pair and place, paired over runs and test images
    crossings: pd.DataFrame = field(default_factory=pd.DataFrame)  # one row a pair: where the difference changes sign
    more: pd.DataFrame = field(default_factory=pd.DataFrame)  # one row a strategy: ten times the images, by a power law


def when(frames: Frames, gathered: Sequence[Gathered], resamples: int = st.RESAMPLES) -> When:
    """Return the findings for every data set and backbone that the study asks about at several places on an axis.

    `gathered` holds all questions of the study.
    """
    panels = list(_panels(frames, gathered, resamples))
    return When(
        panels=panels,
        sizes=pd.DataFrame([row for p in panels for row in _size_rows(p)]),
        differences=pd.DataFrame([row for p in panels for row in _difference_rows(p)]),
        crossings=pd.DataFrame(
            [{**_place(p), "a": a, "b": b, **dataclasses.asdict(c)} for p in panels for (a, b), c in p.crossings.items()]
        ),
        more=pd.DataFrame([{**_place(p), "strategy": s, **dataclasses.asdict(m)} for p in panels for s, m in p.more.items()]),
    )


def _panels(frames: Frames, gathered: Sequence[Gathered], resamples: int) -> Iterator[Panel]:
    asked = dict.fromkeys(frames.question_of(c) for c in frames.study.cells)
    several = {axis: [q for q in asked if sum(axis.without(q) == axis.without(o) for o in asked) > 1] for axis in AXES}
    if not any(several.values()):
        return
    for axis, questions in several.items():
        found: dict[Question, list[Gathered]] = {}
        for own in gathered:
            if own.question in questions:
                found.setdefault(axis.without(own.question), []).append(own)
        places = axis.places(frames) if found else {}
        for question, alike in found.items():
            panel = _panel(axis, question, alike, places, resamples)
            seconds = {place: confirm_seconds(frames, q) for place, q in panel.sizes.items()}
            yield dataclasses.replace(panel, seconds=seconds)


def _panel(axis: Axis, question: Question, gathered: Sequence[Gathered], places: dict[Question, float], resamples: int) -> Panel:
    own = sorted(gathered, key=lambda g: places[g.question])
    reasons = {g.question: unlike(own[-1], g) for g in own}
    kept = [g for g in own if not reasons[g.question]]
    curves: dict[str, list[Point]] = {}
    for g in kept:
        for strategy, by_seed in g.predicted.items():
            keys = tuple((seed, fold) for fold in range(int(g.fold.max()) + 1) for seed in by_seed)
            runs = runs_by_metric(g, strategy, resamples)[g.metric.key]
            curves.setdefault(strategy, []).append(Point(place=places[g.question], keys=keys, runs=runs))
    panel = Panel(
        axis=axis,
        question=question,
        sizes={places[g.question]: g.question for g in kept},
        curves=curves,
        crossings={},
        more={s: ten_times(points) for s, points in curves.items()} if axis.extrapolates else {},
        left_out=tuple(f"{q.lines[-1]}: {why}" for q, why in reasons.items() if why),
    )
    pairs = {(a, b): crossing(panel.difference(a, b)) for a, b in combinations(curves, 2)}
    return dataclasses.replace(panel, crossings=pairs)


def _place(panel: Panel) -> dict[str, Any]:
    """Return the columns that name a panel. The axis' own column is left out, except a late one, which is 0 there."""
    own = panel.question.columns
    return {"axis": panel.axis.name, **{k: v for k, v in own.items() if k != panel.axis.column or k in LATE}}


def _size_rows(panel: Panel) -> Iterator[dict[str, Any]]:
    for strategy, points in panel.curves.items():
        for p in points:
            e = mean_estimate(p.runs)
            low, high = share_interval(e)
            own = {"axis": panel.axis.name, **panel.sizes[p.place].columns, "place": p.place, "strategy": strategy}
            seconds = panel.seconds.get(p.place, {}).get(strategy)
            yield {**own, "mean": e.mean, "low": low, "high": high, "runs": len(p.keys), "seconds": seconds}


def _difference_rows(panel: Panel) -> Iterator[dict[str, Any]]:
    for a, b in panel.crossings:
        for d in panel.difference(a, b):
            e = mean_estimate(d.runs)
            low, high = difference_interval(e)
            own = {"axis": panel.axis.name, **panel.sizes[d.place].columns, "place": d.place, "a": a, "b": b}
            yield {**own, "difference": e.mean, "low": low, "high": high, "runs": len(d.keys)}
