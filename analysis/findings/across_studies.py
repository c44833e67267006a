"""The same strategy in two studies: the difference of its scores, paired over the test images where both studies have the same ones."""

import math
from dataclasses import dataclass

import numpy as np

from analysis.data.frames import Frames
from analysis.data.question import Question
from analysis.findings.comparisons import Gathered, difference_of, gather_all, side_of
from analysis.statistics import resampling as st
from analysis.statistics.intervals import difference_interval


@dataclass(frozen=True, kw_only=True)
class Paired:
    """The difference B minus A in the primary metric, as shares, or the reason why the two cannot be paired."""

    mean: float = math.nan
    low: float = math.nan  # 95 %; NaN for one run
    high: float = math.nan
    why_not: str = ""


def pair_studies(a: Frames, b: Frames, resamples: int = st.RESAMPLES) -> dict[tuple[Question, str], Paired]:
    """Return B minus A for every question and strategy that both studies have confirmed.

    Raises EnvironmentProblem for prediction files that cannot be trusted.
    """
    left = {g.question: g for g in gather_all(a)}
    out: dict[tuple[Question, str], Paired] = {}
    for theirs in gather_all(b):
        own = left.get(theirs.question)
        for strategy in set(theirs.predicted) & set(own.predicted) if own else ():
            assert own is not None
            out[theirs.question, strategy] = _pair(own, theirs, strategy, resamples)
    return out


def _pair(a: Gathered, b: Gathered, strategy: str, resamples: int) -> Paired:
    if why_not := unlike(a, b):
        return Paired(why_not=why_not)
    e = difference_of(*(side_of(g, strategy, resamples) for g in (b, a)))
    low, high = difference_interval(e)
    return Paired(mean=e.mean, low=low, high=high)


def unlike(a: Gathered, b: Gathered) -> str:
    """Return why the runs of two studies cannot be paired over images, or "" where they can."""
    if a.nested != b.nested:
        return "one of both studies tests every image, by outer folds, and the other a part of them"
    if not np.array_equal(a.images, b.images):
        both = len(np.intersect1d(a.images, b.images))
        return f"the test images differ ({len(a.images)} in A, {len(b.images)} in B, {both} of one name)"
    if not np.array_equal(a.fold, b.fold):
        return f"the folds differ ({a.fold.max() + 1} in A, {b.fold.max() + 1} in B)"
    if a.labels.shape != b.labels.shape:
        return "the classes differ, or images have several labels in one of both studies alone"
    if not np.array_equal(a.labels, b.labels):
        apart = a.labels != b.labels
        return f"{(apart.any(axis=1) if a.several else apart).sum()} of {len(a.labels)} test images have another label"
    if (a.groups is None) != (b.groups is None) or not np.array_equal(a.groups, b.groups):  # type: ignore[arg-type]
        return "the recording sessions of the test images differ"
    return ""
