"""When: every strategy's score against the number of training images, from the confirm runs of a study that asks at several sizes."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import pandas as pd

from analysis import statistics as st
from analysis.comparisons import Gathered, gather_all, runs_by_metric
from analysis.frames import Frames
from analysis.intervals import difference_interval, mean_estimate, share_interval
from analysis.paired import unlike
from analysis.question import Question
from analysis.sizes import Crossing, More, Point, crossing, minus, ten_times


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """One data set, split one way, and backbone, at several sizes. `question` is that of all images."""

    question: Question
    sizes: dict[float, Question]  # by number of training images, ascending
    curves: dict[str, list[Point]]  # by strategy, ascending
    crossings: dict[tuple[str, str], Crossing]
    more: dict[str, More]
    left_out: tuple[str, ...] = ()  # sizes that cannot be paired with the others, and why

    @property
    def largest(self) -> float:
        return max(self.sizes)

    def between(self, a: str, b: str) -> Crossing | None:
        """In either order: where it is does not depend on it."""
        if (a, b) in self.crossings:
            return self.crossings[a, b]
        c = self.crossings.get((b, a))
        return None if c is None else dataclasses.replace(c, a_below=not c.a_below, a_better=c.b_better, b_better=c.a_better)

    def difference(self, a: str, b: str) -> list[Point]:
        """A minus B at the sizes both have."""
        others = {p.images: p for p in self.curves[b]}
        return [d for p in self.curves[a] if p.images in others and (d := minus(p, others[p.images])).keys]


@dataclass(frozen=True, kw_only=True, eq=False)
class When:
    """All a page says of sizes; empty for a study that has one. Shares in [0, 1]."""

    panels: list[Panel] = field(default_factory=list)
    sizes: pd.DataFrame = field(default_factory=pd.DataFrame)  # one row a strategy and size: images, mean, low, high (95 %)
    differences: pd.DataFrame = field(default_factory=pd.DataFrame)  # one row a pair and size, paired over runs and test images
    crossings: pd.DataFrame = field(default_factory=pd.DataFrame)  # one row a pair: where the difference changes sign, in images
    more: pd.DataFrame = field(default_factory=pd.DataFrame)  # one row a strategy: ten times the images, by a power law


def when(frames: Frames, resamples: int = st.RESAMPLES) -> When:
    """Of every data set and backbone that the study asks about at several sizes."""
    panels = list(_panels(frames, resamples))
    return When(
        panels=panels,
        sizes=pd.DataFrame([row for p in panels for row in _size_rows(p)]),
        differences=pd.DataFrame([row for p in panels for row in _difference_rows(p)]),
        crossings=pd.DataFrame(
            [{**_place(p), "a": a, "b": b, **dataclasses.asdict(c)} for p in panels for (a, b), c in p.crossings.items()]
        ),
        more=pd.DataFrame([{**_place(p), "strategy": s, **dataclasses.asdict(m)} for p in panels for s, m in p.more.items()]),
    )


def whole(question: Question) -> Question:
    """The same of all training images: what its sizes have in common."""
    return dataclasses.replace(question, train_fraction=1.0)


def _panels(frames: Frames, resamples: int) -> Iterator[Panel]:
    asked = {Question.of(vars(c)) for c in frames.study.cells}
    several = {whole(q) for q in asked if sum(whole(q) == whole(o) for o in asked) > 1}
    if not several:
        return
    found: dict[Question, list[Gathered]] = {}
    for gathered in gather_all(frames):
        if whole(gathered.question) in several:
            found.setdefault(whole(gathered.question), []).append(gathered)
    images = frames.training_images()
    for question, own in found.items():
        yield _panel(question, own, images, resamples)


def _panel(question: Question, gathered: Sequence[Gathered], images: dict[Question, float], resamples: int) -> Panel:
    own = sorted(gathered, key=lambda g: images[g.question])
    reasons = {g.question: unlike(own[-1], g) for g in own}
    kept = [g for g in own if not reasons[g.question]]
    curves: dict[str, list[Point]] = {}
    for g in kept:
        for strategy, by_seed in g.predicted.items():
            keys = tuple((seed, fold) for fold in range(int(g.fold.max()) + 1) for seed in by_seed)
            runs = runs_by_metric(g, strategy, resamples)[st.PRIMARY]
            curves.setdefault(strategy, []).append(Point(images=images[g.question], keys=keys, runs=runs))
    panel = Panel(
        question=question,
        sizes={images[g.question]: g.question for g in kept},
        curves=curves,
        crossings={},
        more={s: ten_times(points) for s, points in curves.items()},
        left_out=tuple(f"{q.lines[-1]}: {why}" for q, why in reasons.items() if why),
    )
    pairs = {(a, b): crossing(panel.difference(a, b)) for a, b in combinations(curves, 2)}
    return dataclasses.replace(panel, crossings=pairs)


def _place(panel: Panel) -> dict[str, Any]:
    return {k: v for k, v in panel.question.columns.items() if k != "train_fraction"}


def _size_rows(panel: Panel) -> Iterator[dict[str, Any]]:
    for strategy, points in panel.curves.items():
        for p in points:
            e = mean_estimate(p.runs)
            low, high = share_interval(e)
            own = {**panel.sizes[p.images].columns, "images": p.images, "strategy": strategy}
            yield {**own, "mean": e.mean, "low": low, "high": high, "runs": len(p.keys)}


def _difference_rows(panel: Panel) -> Iterator[dict[str, Any]]:
    for a, b in panel.crossings:
        for d in panel.difference(a, b):
            e = mean_estimate(d.runs)
            low, high = difference_interval(e)
            own = {**panel.sizes[d.images].columns, "images": d.images, "a": a, "b": b}
            yield {**own, "difference": e.mean, "low": low, "high": high, "runs": len(d.keys)}
