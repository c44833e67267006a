"""One measure of two strategies, paired over what repeats: searches where they were repeated, else seeds."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.data.frames import Frames
from analysis.statistics.resampling import CONFIDENCE
from analysis.why.measures import Measure
from study.scoring.metric import DEFAULT, Metric

ALPHA = 1 - CONFIDENCE


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One measure, `less` minus `more`, paired over what repeats (searches where they were repeated, else seeds)."""

    measure: Measure
    less: float  # mean of the strategy that trains less
    more: float
    mean: float
    low: float  # 95 %
    high: float
    p: float
    units: int
    holm: float = math.nan
    metric: Metric = DEFAULT

    @property
    def direction(self) -> int:
        """Return +1 where it differs as claimed, -1 the other way, 0 where it is not shown to differ or stands beside the verdict."""
        if self.measure.beside or not self.holm < ALPHA:
            return 0
        return 1 if self.mean * self.measure.claim > 0 else -1

    def text(self, less: str, more: str) -> str:
        scale, unit = (100, " points") if self.measure.points else (1, "")
        numbers = (self.less, self.more, self.mean, self.low, self.high)
        if SCORED in self.measure.title:
            scale, unit = self.metric.shown(1), f" {self.metric.short}"
            numbers = numbers if self.metric.higher else (*numbers[:3], self.high, self.low)
        shown = (scale * v for v in numbers)
        a, b, d, low, high = (f"{v:+.3g}" if k > 1 else f"{v:.3g}" for k, v in enumerate(shown))
        title = self.measure.title.replace(SCORED, self.metric.words)
        return f"{title}: {less} {a}, {more} {b} (difference {d}{unit}, 95 % interval {low} to {high})"


SCORED = "{metric}"
"""In a measure's title, where its numbers are the study's own score."""
SCORE = Measure(
    name="score", short="the score", title="test {metric}", claim=+1, points=True, of_runs=lambda frames, runs: pd.Series(dtype=float)
)


def paired(frames: Frames, runs: pd.DataFrame, values: pd.Series, less: str, more: str, measure: Measure = SCORE) -> Contrast | None:
    """Return Student's t interval over the differences of what repeats.

    It is None where fewer than two repeats of both strategies were measured.
    """
    own = runs[runs.trial_id.isin(values.index)]
    own = own.assign(value=values.reindex(own.trial_id).to_numpy())
    repeats = frames.study.searches > 1
    own["unit"] = [frames.study.search_of(int(n)) if repeats else int(n) for n in own.number]
    by = own.pivot_table(index="unit", columns="strategy", values="value")
    if not {less, more} <= set(by.columns):
        return None
    by = by[[less, more]].dropna()
    if len(by) < 2:
        return None
    return contrast(by[less].to_numpy(), by[more].to_numpy(), measure, frames.scored_by)


def contrast(less: np.ndarray, more: np.ndarray, measure: Measure = SCORE, metric: Metric = DEFAULT) -> Contrast:
    """Return Student's t interval over the differences of values [U] of two strategies, U of at least 2."""
    d = less - more
    mean, error = float(d.mean()), float(d.std(ddof=1) / math.sqrt(len(d)))
    reach = float(stats.t.ppf(1 - ALPHA / 2, len(d) - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, len(d) - 1)) if error > 0 else float(mean == 0)
    return Contrast(
        measure=measure,
        less=float(less.mean()),
        more=float(more.mean()),
        mean=mean,
        low=mean - reach,
        high=mean + reach,
        p=p,
        units=len(d),
        metric=metric,
    )
