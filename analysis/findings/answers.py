"""The answer to one question as values: the comparable strategies, those that may be the best, the cheapest of them and its risk."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from analysis.data.frames import Frames
from analysis.data.question import Question
from analysis.data.spent import cost_seconds
from analysis.findings.short import Short
from analysis.findings.too_few_pixels import Fewer
from analysis.findings.verdict_pairs import Pair
from analysis.statistics.decisions import ALPHA, expected_loss, loss_bound, not_separated_from_best
from analysis.statistics.intervals import Estimate
from analysis.statistics.search_luck import search_luck
from study.scoring.metric import Metric
from study.strategies import EVERY

Mark = Literal["decided", "equal", "open"]
ALIKE = ("equivalent", "better_by_little")


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The strategies of a question in the order of their mean scores, highest first, with every pair's verdict."""

    question: Question
    ranked: tuple[str, ...]
    comparable: tuple[str, ...]  # with each other; the others have a reason against every comparison that would keep them
    standing: tuple[str, ...]  # of these, those not shown to be worse by what may be worth having
    pairs: Mapping[tuple[str, str], Pair]  # under (A, B) and (B, A)
    seconds: Mapping[str, float]  # of one confirm run, the median
    level: float = ALPHA  # one-sided, of one bound on the cost of a choice: the study's, shared among all that must hold at once
    worth: float = 0.0  # the share of macro-F1 that a cheaper strategy may cost at most
    for_cheaper: bool = False  # whether `worth` was asked for, so that a cheaper one is taken though another is better

    @property
    def metric(self) -> Metric:
        """Return the metric by which the strategies are ranked."""
        return next(iter(self.pairs.values())).estimate.metric

    def between(self, some: Sequence[str]) -> list[Pair]:
        """Return every pair of the given strategies once."""
        return [self.pairs[a, b] for k, a in enumerate(some) for b in some[k + 1 :]]

    @property
    def reasons(self) -> list[str]:
        """Return the reasons why some strategies are not comparable, each once."""
        return list(dict.fromkeys(r for p in self.between(self.ranked) for r in p.decision.reasons))

    @property
    def winner(self) -> str:
        """Return the only strategy left standing of several comparable ones, or "" where there is none."""
        return self.standing[0] if len(self.comparable) > 1 and len(self.standing) == 1 else ""

    @property
    def short(self) -> dict[str, Short]:
        """Return the strategies that were cut short, each with the reason, in the order of the ranking."""
        found = {s.strategy: s for p in self.pairs.values() for s in p.short}
        return {s: found[s] for s in self.ranked if s in found}

    @property
    def cut_short(self) -> tuple[Short, ...]:
        """Return the strategies that longer training may lift over another one: all that were cut short except a winner."""
        return tuple(found for s, found in self.short.items() if s != self.winner)

    @property
    def fewer(self) -> dict[str, Fewer]:
        """Return the strategies that larger images may lift over the line to beat: those trained on smaller ones than it saw, except where
        they are better all the same."""
        return {f.strategy: f for p in self.between(self.ranked) for f in p.fewer if p.winner != f.strategy}

    @property
    def by_pixels_alone(self) -> bool:
        """Return True where smaller images are all that speaks against every comparison."""
        pixels = {f.reason for f in self.fewer.values()}
        return len(self.comparable) < 2 and bool(pixels) and all(r in pixels for r in self.reasons)

    @property
    def mark(self) -> Mark:
        if len(self.comparable) < 2:
            return "open"
        inner = self.between(self.standing)
        if not inner:
            return "decided"
        alike = all(p.decision.kind in ALIKE for p in inner) and not any(p.short for p in inner)
        return "equal" if alike else "open"

    @property
    def cheapest(self) -> str:
        """Return the cheapest strategy left standing. At equal or unknown cost it is the one with the highest mean."""
        return self._cheapest_of(self.standing)

    @property
    def loss(self) -> float:
        """Return the expected loss, as a share, of taking the cheapest: the largest against any other strategy left standing.

        It is NaN where the cheapest is the line to beat and another was trained on smaller images.
        """
        if self.cheapest not in self.fewer and any(s in self.fewer for s in self.standing):
            return math.nan
        return max((expected_loss(self._minus(other, self.cheapest)) for other in self.standing if other != self.cheapest), default=0.0)

    def most(self, strategy: str) -> float:
        """Return the most, as a share, that taking the strategy costs against the best of those comparable, at 95 %.

        It is NaN where nothing bounds the cost: there is one run, training was cut short, or another strategy may do better than it
        did.
        """
        others = [s for s in self.comparable if s != strategy]
        if self.cut_short or strategy not in self.comparable or not others or any(s in self.pairs[s, strategy].doubted for s in others):
            return math.nan
        return loss_bound([self._minus(other, strategy) for other in others], self.level)

    @property
    def good_enough(self) -> str:
        """Return the cheapest strategy that is shown to cost no more than `worth`, or "".

        It is "" too where the pairs settle which one to take. Where the worth of a cheaper one was asked for, a cheaper one than that
        is taken, though another is shown to be better.
        """
        settled = self.winner or (self.cheapest if self.mark == "equal" else "")
        if settled and not self.for_cheaper:
            return ""
        found = [s for s in (self.comparable if self.for_cheaper else self.standing) if self.most(s) <= self.worth]
        chosen = self._cheapest_of([settled, *found] if settled else found) if found else ""
        return "" if chosen == settled else chosen

    def _cheapest_of(self, some: Sequence[str]) -> str:
        known = set(some) <= set(self.seconds)
        return min(some, key=lambda s: self.seconds[s] if known else 0.0)

    def _minus(self, one: str, other: str) -> Estimate:
        pair = self.pairs[one, other]
        return pair.estimate if pair.a == one else turned(pair.estimate)


def turned(e: Estimate) -> Estimate:
    """Return the same difference with A and B exchanged."""
    return replace(e, mean=-e.mean, runs=e.runs[::-1])


def answer(
    question: Question,
    pairs: Sequence[Pair],
    ranked: Sequence[str],
    seconds: Mapping[str, float],
    *,
    level: float = ALPHA,
    margin: float = 0.0,
    worth: float = 0.0,
) -> Ranking:
    """Return the ranking of a question. `level`: one-sided, of each bound of a loss; `margin` and `worth`: shares of macro-F1."""
    both = {key: p for p in pairs for key in ((p.a, p.b), (p.b, p.a))}
    comparable = _comparable(ranked, pairs)
    own = {(p.a, p.b): p.decision for p in pairs if {p.a, p.b} <= set(comparable)}
    return Ranking(
        question=question,
        ranked=tuple(ranked),
        comparable=tuple(comparable),
        standing=tuple(not_separated_from_best(comparable, own)),
        pairs=both,
        seconds=seconds,
        level=level,
        worth=max(worth, margin),
        for_cheaper=worth > margin,
    )


def _comparable(ranked: Sequence[str], pairs: Sequence[Pair]) -> list[str]:
    """Return the strategies that can be compared with each other.

    The strategy involved in most reasons is removed until no pair of the rest has a reason against it.
    """
    left = list(ranked)
    while True:
        barred = [
            {{"a": p.a, "b": p.b}[side] for side in p.decision.suspects} for p in pairs if p.decision.reasons and {p.a, p.b} <= set(left)
        ]
        if not barred:
            return left
        left.remove(max(reversed(left), key=lambda s: sum(s in b for b in barred)))


def confirm_seconds(frames: Frames, question: Question) -> dict[str, float]:
    """Return the median seconds of one confirm run by strategy.

    They are processor seconds where no run had a GPU and every run recorded them, since wall-clock time includes what other programs
    took. Otherwise they are wall-clock seconds. Strategies whose runs recorded no time are missing.
    """
    done = frames.confirmed()
    if not len(done):
        return {}
    own = done[[q == question for q in frames.questions(done)]]
    return {str(s): float(v) for s, v in own.assign(cost=cost_seconds(own)).groupby("strategy").cost.median().items() if v > 0}


def luck(frames: Frames, question: Question) -> dict[str, float]:
    """Return by strategy the chance that another draw of its random trials would have chosen other settings.

    It is empty where searches were repeated.
    """
    t, objective = frames.trials, frames.scored_by.recorded
    if frames.study.searches > 1 or not len(t) or objective not in t:
        return {}
    out: dict[str, float] = {}
    search = t[(t.stage == "search") & ~t.outcome.isin(["running", "failed"])]
    for cell, own in search.groupby("cell", sort=False):
        random = own[own.origin == "random"][objective].to_numpy(float)
        default = own[(own.origin == "default") & own[objective].notna()][objective]
        if frames.question_of(frames.cells[str(cell)]) == question and len(random) > 1:
            out[own.iloc[0].strategy] = search_luck(random, float(default.iloc[0]) if len(default) else None).another_wins
    return out


def means_of(strategies: pd.DataFrame, question: Question, metric: Metric) -> list[str]:
    """Return the strategies that take part in the verdict, highest mean test score first."""
    own = strategies[strategies.metric == metric.key]
    own = own[[Question.of(r) == question for r in own.to_dict("records")]]
    return [str(s) for s in own.sort_values("mean", ascending=False, kind="stable")["strategy"] if not EVERY[str(s)].yardstick]
