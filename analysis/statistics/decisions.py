"""Verdicts on the pairs of a study: six kinds, each with its condition, with M the margin and m the number of pairs.

- not_comparable: a doubt bars the verdict it would have been. Doubts are small classes, a collapse, unequal budgets, the edge of the
  loser's range, and a loser cut short (Doubts).
- beats: Holm's p is below 5 % and the whole simultaneous interval is beyond M.
- better_by_little: Holm's p is below 5 %, and less than M is shown too: both one-sided tests at 5 % (TOST), Holm over pairs.
- better: Holm's p is below 5 %. Whether by M is open.
- equivalent: less than M is shown, a difference is not.
- undecided: otherwise.

The simultaneous interval is Bonferroni's, at 5 % / m, cut at zero where Holm's method, which is stronger, settles the sign. So it
agrees with Holm's p and holds for all pairs at once. The wider level of the step at which Holm tests a pair does not: with ten pairs
that all differ such intervals miss one in up to 15 % of studies. The interval decides `beats`, so "by at least M" holds for all pairs
at once as well.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from analysis.statistics.intervals import Estimate, difference_interval
from analysis.statistics.resampling import holm

ALPHA = 0.05
ENOUGH_DATASETS = 5
Kind = Literal["beats", "better", "better_by_little", "equivalent", "undecided", "not_comparable"]
Scope = Literal["strategies", "configurations"]
Side = Literal["a", "b"]


@dataclass(frozen=True, kw_only=True)
class Chances:
    """Probability of each answer from the difference's confidence distribution: approximate, from this design's doubts alone."""

    a_better: float  # by more than the margin
    within: float
    b_better: float


@dataclass(frozen=True, kw_only=True)
class Doubts:
    """Reasons why two strategies may be unfit to be compared.

    Doubts about one side say that it may do better than it did (its range was too narrow, its training too short). They bar a verdict
    that names it the loser, and one that calls both equal. They leave an open verdict open.
    """

    both: tuple[str, ...] = ()
    of_a: tuple[str, ...] = ()
    of_b: tuple[str, ...] = ()

    def bar(self, kind: Kind, a_higher: bool) -> tuple[str, ...]:
        """Return the doubts that speak against this verdict."""
        if kind == "undecided":
            return self.both
        if kind == "equivalent":
            return (*self.both, *self.of_a, *self.of_b)
        return (*self.both, *(self.of_b if a_higher else self.of_a))

    def suspects(self, kind: Kind, a_higher: bool) -> tuple[Side, ...]:
        """Return the sides of a barred verdict whose removal would end the doubt."""
        if self.both:
            return ("a", "b")
        if kind == "equivalent":
            return (*(("a",) if self.of_a else ()), *(("b",) if self.of_b else ()))
        return ("b",) if a_higher else ("a",)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The verdict on A and B. The `scope` "configurations" means that each was searched once, so another search may choose otherwise."""

    kind: Kind
    winner: Side | None
    scope: Scope
    reasons: tuple[str, ...]  # why not comparable
    p: float  # two-sided, Holm over the study's pairs
    p_equivalent: float  # of the difference being at least the margin, Holm over the study's pairs
    low: float  # simultaneous over the study's pairs
    high: float
    chances: Chances
    tests_left: int  # pairs among which Holm still shares his level: this pair must clear alpha / tests_left
    suspects: tuple[Side, ...] = ()  # of what is not comparable: whose leaving would end it


def decide(pairs: Sequence[Estimate], margin: float, doubts: Sequence[Doubts] | None = None, alpha: float = ALPHA) -> list[Decision]:
    """Return the verdicts on all pairs of a study together.

    `margin` is in shares, `doubts` has one entry per pair, and `alpha` is the level of this look at the test set
    (forecast.alpha_of_look).
    """
    p = holm([e.p() for e in pairs])
    equivalent = holm([equivalence_p(e, margin) for e in pairs])
    left = len(pairs) - int((p < alpha).sum())
    return [
        _decision(e, margin, d, float(q), float(w), alpha, len(pairs), max(left, 1))
        for e, d, q, w in zip(pairs, doubts or [Doubts()] * len(pairs), p, equivalent, strict=True)
    ]


def equivalence_p(e: Estimate, margin: float) -> float:
    """Return the p value of two one-sided tests (Schuirmann 1987), below alpha exactly when the 1 - 2 alpha interval lies within +-
    margin.
    """
    return max(1 - e.above(-margin), e.above(margin))


def chances(e: Estimate, margin: float) -> Chances:
    over, under = e.above(margin), 1 - e.above(-margin)
    return Chances(a_better=over, within=max(1 - over - under, 0.0) if not math.isnan(over) else math.nan, b_better=under)


def _decision(e: Estimate, margin: float, doubts: Doubts, p: float, p_equivalent: float, alpha: float, pairs: int, left: int) -> Decision:
    low, high = difference_interval(e, 1 - alpha / pairs)
    settled = p < alpha
    if settled:
        low, high = (max(low, 0.0), high) if e.mean > 0 else (low, min(high, 0.0))
    kind: Kind
    if settled and max(low, -high) >= margin:
        kind = "beats"
    elif settled:
        kind = "better_by_little" if p_equivalent < alpha else "better"
    else:
        kind = "equivalent" if p_equivalent < alpha else "undecided"
    suspects: tuple[Side, ...] = ()
    if reasons := doubts.bar(kind, e.mean > 0):
        kind, suspects = "not_comparable", doubts.suspects(kind, e.mean > 0)
    named = kind in ("beats", "better", "better_by_little")
    return Decision(
        kind=kind,
        winner=("a" if e.mean > 0 else "b") if named else None,
        scope="strategies" if e.searches > 1 else "configurations",
        reasons=reasons,
        p=p,
        p_equivalent=p_equivalent,
        low=low,
        high=high,
        chances=chances(e, margin),
        tests_left=left,
        suspects=suspects,
    )


def not_separated_from_best(strategies: Sequence[str], decisions: Mapping[tuple[str, str], Decision]) -> list[str]:
    """Return the strategies that no other is shown to be better than by what may be worth having.

    The best is among them in 95 % of studies, as Holm's method guarantees. `decisions` on A and B are under (A, B), in either order.
    The verdict itself excludes a strategy. Multiple comparisons with the best (Edwards and Hsu 1983), one-sided, would exclude more,
    also some that stand as undecided beside the best.
    """
    worse = {(b if d.winner == "a" else a) for (a, b), d in decisions.items() if d.kind in ("beats", "better")}
    return [s for s in strategies if s not in worse]


def expected_loss(e: Estimate) -> float:
    """Return the mean cost of choosing B where A minus B is `e`: max(A - B, 0) over the confidence distribution. NaN for one run."""
    reach = min(max(e.mean, 0.0) + 4 * e.half_width(), 2.0 * e.metric.width) if not math.isnan(e.variance) else math.nan
    if not reach > 0:
        return reach
    at = np.linspace(0.0, reach, 80)
    return float(np.trapezoid([e.above(float(x)) for x in at], at))


def loss_bound(others: Sequence[Estimate], alpha: float) -> float:
    """Return the most that choosing B costs, in shares: the largest upper confidence bound of another strategy minus B, at least 0.

    `others` holds each of them minus B. The true loss of B is against the best one, so only the bound against that one has to hold. At
    the one-sided level `alpha` / (L - 1) each, the bounds of all L strategies hold at once, whichever is then taken (multiple
    comparisons with the best: Hsu 1984, Annals of Statistics 12; with Bonferroni's share, since the estimates have unequal variances).
    NaN where one of them has one run.
    """
    bounds = [e.mean + e.half_width(1 - 2 * alpha) for e in others]
    return math.nan if any(map(math.isnan, bounds)) else min(max(0.0, *bounds), 1.0)


# ---- over data sets -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AcrossDatasets:
    """The difference of two strategies over several data sets, which are taken as a sample of data sets."""

    datasets: int
    better: int  # A named the winner
    worse: int
    mean: float
    low: float  # 95 %, Student's t over data sets: what differs between them is in it
    high: float
    sd_between: float  # of the true difference between data sets, beyond what each one's own doubt explains
    general: bool  # whether there are enough data sets to speak of others at all


def across_datasets(pairs: Sequence[Estimate], decisions: Sequence[Decision]) -> AcrossDatasets:
    """Summarise the same A minus B over data sets. `pairs` and `decisions` have one entry per data set."""
    d, most = np.array([e.mean for e in pairs]), pairs[0].metric.width
    n, spread = len(d), float(np.var(d, ddof=1)) if len(d) > 1 else math.nan
    own = float(np.mean([e.variance for e in pairs]))
    # data sets that agree better than each one's own doubt allows agree by luck
    half = float(special.stdtrit(n - 1, 0.975)) * math.sqrt(max(spread, own) / n) if n > 1 else math.nan
    return AcrossDatasets(
        datasets=n,
        better=sum(x.winner == "a" for x in decisions),
        worse=sum(x.winner == "b" for x in decisions),
        mean=float(d.mean()),
        low=max(float(d.mean()) - half, -most) if n > 1 else math.nan,
        high=min(float(d.mean()) + half, most) if n > 1 else math.nan,
        sd_between=math.sqrt(max(spread - own, 0.0)) if n > 1 else math.nan,
        general=n >= ENOUGH_DATASETS,
    )
