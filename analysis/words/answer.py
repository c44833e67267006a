"""The answer at a glance, one value per data set: what to do, how sure it is, its score, its evidence and the next step.

Page, terminal, notebook and MLflow show this value, so they cannot say different things.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from analysis.data.frames import Frames
from analysis.data.question import Question
from analysis.findings.answers import Ranking
from analysis.findings.pick import Pick
from analysis.findings.short import LONGER
from analysis.findings.verdict_pairs import Pair
from analysis.words.next_step import NextStep, next_step, trainings
from analysis.words.plain_names import noun, plain_name, sentence, to_do
from study.console.text import joined
from study.scoring.metric import DEFAULT, Metric, Said, find_metric
from study.strategies import LINES, Features, FeaturesSmall

Sureness = Literal["decided", "good enough", "open", "cut short", "in progress"]
SAID = {
    "decided": "Decided",
    "good enough": "Good enough",
    "open": "Not decided",
    "cut short": "Trained too briefly",
    "in progress": "In progress",
}
MOST_NAMED = 3  # strategies in a sentence
WIDEST = 0.995  # of an interval: one that leaves nothing out is not shown


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The score of a strategy on the test images, higher where better. `low` and `high` are NaN where there is one run only."""

    strategy: str
    mean: float
    low: float
    high: float
    runs: int
    used: bool  # the one that the answer says to use
    aside: str = ""  # "cut short", "cannot be compared"; else empty
    metric: Metric = DEFAULT

    @property
    def shown(self) -> tuple[float, float, float]:
        """Score, and the ends of its interval, as people read them: (score, lower, higher)."""
        return (self.metric.shown(self.mean), *self.metric.interval(self.low, self.high))

    @property
    def name(self) -> str:
        return plain_name(self.strategy)

    @property
    def line(self) -> bool:
        """True for the line to beat."""
        return self.strategy in LINES

    @property
    def interval(self) -> bool:
        """True where the interval is known and says something."""
        return self.low == self.low and self.high - self.low < WIDEST * self.metric.width


def _floor(share: float) -> str:
    """Return the share in points, rounded so that the score of guessing among many classes is not shown as zero."""
    return f"{100 * share:.0f}" if share >= 0.01 else f"{100 * share:.1f}"


@dataclass(frozen=True, kw_only=True)
class Worth:
    """The test score of the strategy to use, higher where better. `low` and `high` are NaN where they are not known."""

    mean: float
    low: float
    high: float
    floor: float | None  # of knowing no image, but how common each class is; None where no predictions are kept
    metric: Metric = DEFAULT
    several: bool = False  # an image may have several labels, and `floor` is of giving it each of them
    right: float | None = None  # share of the test images that it names rightly; None where that is the score, or not known
    usual: float | None = None  # the same of always naming the commonest class

    @property
    def text(self) -> str:
        """Return the score and its interval in sentences."""
        low, high = self.metric.interval(self.low, self.high)
        digits = 0 if self.metric.higher else 1
        interval = f", 95 % interval {low:.{digits}f} to {high:.{digits}f}" if low == low else ""
        usual = "" if self.right is None or self.usual is None else f", and names {100 * self.usual:.0f} of 100 rightly"
        points = f" {self.metric.unit}" if self.metric.costs is None and not self.metric.probable else ""
        always = "Giving every image each label" if self.several else "Always naming the commonest class"
        floor = "" if self.floor is None else f" {self._floored(always)}{points}{usual}."
        right = "" if self.right is None else f" and names {100 * self.right:.0f} of 100 rightly"
        return f"{self.metric.worth(self.mean)} on test images ({self.metric.words}{interval}){right}.{floor}"

    @property
    def short(self) -> str:
        """In less than a line of a terminal."""
        floor = (
            ""
            if self.floor is None
            else f" {self._floored('Every label on every image' if self.several else 'The commonest class alone')}."
        )
        return f"{self.metric.worth(self.mean)} ({self.metric.words}).{floor}"

    def _floored(self, usual: str) -> str:
        assert self.floor is not None
        if self.metric.costs is not None:
            return f"The cheapest answer to every image alike costs {self.metric.shown(self.floor):.1f}"
        if self.metric.probable:
            return f"Knowing only how common each class is gives {self.metric.shown(self.floor):.1f}"
        return f"{usual} gives {_floor(self.floor)}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer of a study for one data set."""

    question: Question  # the one that it speaks of, where the study asks several on the data set
    mark: Sureness
    do: str  # one sentence: what to do
    why: tuple[str, ...]  # sentences: what was found
    worth: Worth | None  # None where nothing was tested
    rests_on: str
    strategies: tuple[Standing, ...]  # best mean first
    next_step: NextStep
    beside: str = ""  # what else the study asks on this data set

    @property
    def dataset(self) -> str:
        """Return the data set's name as people say it."""
        return self.question.lines[0]

    @property
    def score(self) -> str:
        """Return in words the score and that of always naming the commonest class, or "" where nothing was tested."""
        return self.worth.text if self.worth else ""

    @property
    def said(self) -> str:
        """Return the mark in words."""
        return SAID[self.mark]

    @property
    def text(self) -> str:
        """Return the answer in a few sentences on one line."""
        parts = (f"{self.said}.", self.do, *self.why, self.score)
        return f"{self.dataset}: {' '.join(p for p in parts if p)} Next: {self.next_step.lines}"

    def __str__(self) -> str:
        return self.text


def answers_of(frames: Frames, strategies: pd.DataFrame, rankings: Sequence[Ranking], picks: Sequence[Pick]) -> list[Answer]:
    """Return one answer per data set, in the order of the study's cells. `strategies` is the table of findings."""
    asked = dict.fromkeys(frames.question_of(c) for c in frames.study.cells)
    out = []
    for dataset, splits in dict.fromkeys((q.dataset, q.splits) for q in asked):
        own = [q for q in asked if (q.dataset, q.splits) == (dataset, splits)]
        pick = next((p for p in picks if p.leads and p.delivered is None and p.question in own), None)
        question = pick.question if pick else max(own, key=lambda q: q.size)
        ranking = next((r for r in rankings if r.question == question), None)
        out.append(_answer(frames, question, ranking, pick, strategies, len(own)))
    return out


def _answer(
    frames: Frames, question: Question, ranking: Ranking | None, pick: Pick | None, strategies: pd.DataFrame, questions: int
) -> Answer:
    rows = _standings(frames, strategies, question, ranking, pick)
    mark = _mark(frames, ranking, pick)
    do, why = _do(frames, question, mark, ranking, pick)
    return Answer(
        question=question,
        mark=mark,
        do=do,
        why=(*why, *_of_pixels(frames, question, rows)),
        worth=_worth(frames, pick, rows, _rightly(strategies, question, pick)),
        rests_on=_rests_on(frames, question, rows),
        strategies=rows,
        next_step=next_step(frames, question, ranking, pick, settled=mark in ("decided", "good enough")),
        beside=f"This is one of {questions} questions on this data set: {', '.join(question.lines[1:])}." if questions > 1 else "",
    )


def _mark(frames: Frames, ranking: Ranking | None, pick: Pick | None) -> Sureness:
    if frames.in_progress:
        return "in progress"
    if ranking is None:
        return "open"
    if ranking.cut_short:
        return "cut short"
    if pick is not None and ranking.good_enough == pick.cell.strategy:
        return "good enough"
    return "decided" if ranking.mark == "decided" else "good enough" if ranking.mark == "equal" else "open"


# ---- what to do, and why ----------------------------------------------------------------------------------------


def _do(frames: Frames, question: Question, mark: Sureness, ranking: Ranking | None, pick: Pick | None) -> tuple[str, tuple[str, ...]]:
    now = to_do(pick.cell.strategy) if pick else ""
    if ranking is None:
        return _nothing(frames, question, now)
    if mark == "in progress":
        done, whole = trainings(frames)
        return "Wait for the study to finish.", (f"{done} of {whole} trainings are done.", *([f"So far: {now}."] if now else []))
    until = (f"Until then, {now}.",) if now else ()
    if mark == "cut short":
        named = _named([s.strategy for s in ranking.cut_short])
        do = f"Train {LONGER} times as long before you choose."
        return do, (f"Not trained long enough to judge: {named}.", *until)
    if ranking.by_pixels_alone:
        return sentence(f"For now, {now}"), _by_pixels(ranking)
    if len(ranking.comparable) < 2:
        return _not_comparable(ranking, until)
    if mark in ("decided", "good enough"):
        return sentence(now), _found(ranking, pick, mark, frames.study.margin)
    return sentence(f"For now, {now}"), _undecided(ranking, pick)


def _nothing(frames: Frames, question: Question, now: str) -> tuple[str, tuple[str, ...]]:
    """Return the advice and reasons for a question where no two strategies were tested."""
    done, whole = trainings(frames)
    if frames.in_progress:
        so_far = (f"Best on validation images so far: {now}.",) if now and done else ()
        return "Wait for the study to finish.", (f"{done} of {whole} trainings are done, and nothing is compared yet.", *so_far)
    if not now:
        return "Nothing to use yet: no training ended with a score.", ()
    if len({c.strategy for c in frames.asked(question)}) < 2:
        return sentence(now), ("This study has one strategy, so nothing is compared.",)
    return sentence(f"For now, {now}"), ("No strategy was tested with fresh seeds, so validation scores are all there is.",)


def _not_comparable(ranking: Ranking, until: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the advice and reasons for a question where something forbids to name a winner."""
    pairs, reasons = ranking.between(ranking.ranked), " ".join(ranking.reasons)
    if any(p.small_classes for p in pairs):
        return "Collect more test images before you choose.", ("At least two classes have fewer than ten test images.", *until)
    if "collapsed" in reasons:
        return "Repeat with more seeds before you choose.", ("A run failed by bad luck: it scored far below the others.", *until)
    if "of its range" in reasons:
        return "Widen the range of the learning rate before you choose.", (
            "The search ended at the edge of its range, so a better setting may lie beyond.",
            *until,
        )
    return "Do not choose yet: the strategies cannot be compared.", (*map(sentence, ranking.reasons[:1]), *until)


def _by_pixels(ranking: Ranking) -> tuple[str, ...]:
    """Return the findings where only the line to beat saw images as large as it can."""
    best = ranking.comparable[0]
    other, found = next((s, ranking.fewer[s]) for s in ranking.ranked if s in ranking.fewer)
    return (
        f"{_first_up(noun(best))} {_ahead(ranking.pairs[best, other])} than {noun(other)}.",
        f"But it saw images of {found.sizes.network} px, and training {found.sizes.trained} px. Larger images may change this.",
    )


def _found(ranking: Ranking, pick: Pick | None, mark: Sureness, margin: float) -> tuple[str, ...]:
    """Return the findings that speak for the pick."""
    if mark == "good enough" and ranking.mark == "equal" and not ranking.good_enough:
        return (
            f"{_first_up(_named(ranking.standing))} score alike: they differ by less than {ranking.metric.count(margin)}.",
            f"{_first_up(noun(pick.cell.strategy)) if pick is not None else 'This one'} {_cheapest(ranking)}.",
        )
    if mark == "good enough" and pick is not None:
        best = ranking.winner
        higher = f"{_first_up(noun(best))} scores higher" if best else "Another strategy may score higher"
        allowed = ranking.metric.at_most(100 * ranking.worth)
        return (
            f"{higher}, by at most {ranking.metric.at_most(100 * ranking.most(pick.cell.strategy))} (95 % sure).",
            f"You allow {allowed} for a cheaper strategy." if ranking.for_cheaper else f"A difference of {allowed} is not worth having.",
        )
    best, second = ranking.comparable[:2]
    pair = ranking.pairs[best, second]
    return (f"It {_ahead(pair)} than {noun(second)}.",)


def _cheapest(ranking: Ranking) -> str:
    """Return "costs least", or which cost is meant where answers cost something too."""
    return "costs least" if ranking.metric.costs is None else "is the cheapest to train"


def _lost(ranking: Ranking, loss: float, least: str = "") -> str:
    """Return the loss in words, as in "1.3 points". `least` is said of next to nothing."""
    if least and loss < 0.1:
        return least
    one = ranking.metric.unit.removesuffix("s") if 0.95 <= loss < 1.05 and ranking.metric.costs is None else ranking.metric.unit
    return f"{loss:.1f} {one}"


def _ahead(pair: Pair) -> str:
    """Return "scores 4.2 points higher (95 % interval +1.0 to +7.4)", from the better strategy."""
    d, low, high = (100 * v for v in (pair.estimate.mean, pair.decision.low, pair.decision.high))
    if d < 0:
        d, low, high = -d, -high, -low
    low = low if abs(low) >= 0.05 else 0.0  # never "-0.0"
    interval = f" ({100 * pair.confidence:.3g} % interval {low:+.1f} to {high:+.1f})" if low == low else ""
    return f"{pair.estimate.metric.ahead(d)}{interval}"


def _undecided(ranking: Ranking, pick: Pick | None) -> tuple[str, ...]:
    if len(ranking.standing) == 2:
        best = f"{_first_up(noun(ranking.standing[0]))} or {noun(ranking.standing[1])} may be the best."
    else:
        best = f"{len(ranking.standing)} strategies may each be the best."
    if any(p.one_run for p in ranking.between(ranking.standing)):
        return (best, "One run each tells nothing about the spread.")
    most = ranking.most(pick.cell.strategy) if pick is not None else float("nan")
    at_most = "" if most != most else f"at most {ranking.metric.at_most(100 * most)} (95 % sure)"
    if pick is not None and pick.cell.strategy == ranking.cheapest and set(ranking.standing) <= set(ranking.seconds):
        mean = "" if math.isnan(ranking.loss) else f"{_lost(ranking, 100 * ranking.loss)} on average"
        known = ", ".join(w for w in (at_most, mean) if w)
        loses = f" Against the best of them it loses {known}." if known else ""
        return (best, f"{_first_up(noun(pick.cell.strategy))} {_cheapest(ranking)}.{loses}")
    chosen = f"{_first_up(noun(pick.cell.strategy))} was" if pick is not None else "This one was"
    lost = f" Against the best of them it loses {at_most}." if at_most else ""
    return (best, f"{chosen} best on the validation images.{lost}")


def _named(strategies: Sequence[str]) -> str:
    """Return the strategies as nouns, or their number where they are more than three."""
    return joined([noun(s) for s in strategies]) if len(strategies) <= MOST_NAMED else f"{len(strategies)} strategies"


def _first_up(text: str) -> str:
    return text[:1].upper() + text[1:]


# ---- what it is worth, what it rests on ------------------------------------------------------------------------------


def _standings(
    frames: Frames, strategies: pd.DataFrame, question: Question, ranking: Ranking | None, pick: Pick | None
) -> tuple[Standing, ...]:
    if not len(strategies):
        return ()
    metric = frames.scored_by
    own = [r for r in strategies[strategies.metric == metric.key].to_dict("records") if Question.of(r) == question]
    short = ranking.short if ranking else {}
    out = [
        Standing(
            strategy=str(r["strategy"]),
            mean=float(r["mean"]),
            low=float(r["low"]),
            high=float(r["high"]),
            runs=int(r["seeds"]),
            used=pick is not None and pick.cell.strategy == r["strategy"],
            aside=_aside(str(r["strategy"]), ranking, short),
            metric=metric,
        )
        for r in own
    ]
    return tuple(sorted(out, key=lambda s: -s.mean))


def _aside(strategy: str, ranking: Ranking | None, short: object) -> str:
    if strategy in short:  # type: ignore[operator]
        return "cut short"
    if ranking and strategy in ranking.ranked and strategy not in ranking.comparable:
        by_pixels = strategy in ranking.fewer and ranking.fewer[strategy].reason in ranking.reasons
        return "smaller images" if by_pixels else "cannot be compared"
    return ""


def _of_pixels(frames: Frames, question: Question, rows: tuple[Standing, ...]) -> tuple[str, ...]:
    """Return a sentence where at least half of the frozen network's lead over what was trained is that it saw larger images."""
    by_name = {r.strategy: r for r in rows}
    large, small = by_name.get(Features.name), by_name.get(FeaturesSmall.name)
    trained = max((r.mean for r in rows if not r.line), default=math.inf)
    if large is None or small is None or not large.used or not large.mean - small.mean >= (large.mean - trained) / 2 > 0:
        return ()
    pixels = frames.confirmed_protocol(question).image_size
    return (f"At {pixels} px too, the frozen network scores {small.shown[0]:.0f}.",)


def _rightly(strategies: pd.DataFrame, question: Question, pick: Pick | None) -> float | None:
    """Return the mean share of test images that the runs of the strategy to use name rightly, or None where it is not known."""
    if pick is None or not len(strategies):
        return None
    rows = strategies[(strategies.metric == "accuracy") & (strategies.strategy == pick.cell.strategy)].to_dict("records")
    return next((float(r["mean"]) for r in rows if Question.of(r) == question), None)


def _worth(frames: Frames, pick: Pick | None, rows: tuple[Standing, ...], right: float | None) -> Worth | None:
    row = next((r for r in rows if r.used), None)
    if row is None or pick is None:
        return None
    test = frames.predictions(pick.trial).get("test")
    metric = frames.scored_by.bind(frames.classes.get(pick.cell.id, ()))
    floor = commonest(test.labels, metric) if test is not None and len(test.labels) else None
    low, high = (row.low, row.high) if row.interval else (float("nan"), float("nan"))
    several = test is not None and test.several
    usual = commonest(test.labels, find_metric("accuracy")) if test is not None and len(test.labels) and not several else None
    return Worth(
        mean=row.mean,
        low=low,
        high=high,
        floor=floor,
        metric=metric,
        several=several,
        right=None if several or metric.key == "accuracy" or metric.costs is not None else right,
        usual=usual,
    )


def commonest(labels: np.ndarray, metric: Metric = DEFAULT) -> float:
    """Return the score of a constant answer: the commonest class for every image, or the one that costs least.

    The probabilities are the shares of the classes. `labels` [N] are those of the test images.
    """
    if labels.ndim == 2:
        truth = labels.mean(axis=0)
        return float((2 * truth / (1 + truth))[truth > 0].mean())
    classes = len(metric.classes) or int(labels.max()) + 1
    shares = np.tile(np.bincount(labels, minlength=classes) / len(labels), (len(labels), 1))
    return float(metric.score(labels, Said(named=metric.decide(shares), probabilities=shares), classes=classes))


def _rests_on(frames: Frames, question: Question, rows: tuple[Standing, ...]) -> str:
    """Return the evidence in words: images, pixels, epochs, runs and folds."""
    report = frames.data_report.get(question.data.key, {})
    counts = report.get("counts") or {}
    images = report.get("split_images") or {}
    named = [(images.get(k, sum(counts.get(k, ()))), k) for k in ("train", "val", "test")]
    words = {"train": "training", "val": "validation", "test": "test"}
    own = frames.training_images().get(question)
    trained = {k: n for n, k in named if n}
    if own:
        trained["train"] = int(own)
    p = frames.confirmed_protocol(question)
    runs = max((r.runs for r in rows if not r.line), default=0)
    images = [f"{trained[k]:,} {words[k]}" for k in words if k in trained]
    folds, searches = frames.study.folds, frames.study.searches
    own_size = frames.facts.get("own_sizes", {}).get(question.backbone)
    line = any(r.strategy == Features.name for r in rows) and own_size not in (None, p.image_size)
    pixels = f"images at {p.image_size} px{f' (linear classifier: {own_size} px)' if line else ''}"
    parts = [
        f"{joined(images)} {pixels}" if images else pixels,
        f"{p.max_epochs} epoch{'s' * (p.max_epochs > 1)}",
        f"{runs} run{'s' * (runs > 1)} each" if runs else "",
        f"{folds} folds" if folds > 1 else "",
        f"{searches} searches" if searches > 1 else "",
        question.backbone,
    ]
    return ", ".join(part for part in parts if part)
