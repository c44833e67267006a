"""Sentences of a study as values made of their parts, so that a page can lay them out without parsing text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.data.frames import CONFIRMING, Frames
from analysis.data.question import Question
from analysis.findings.answers import Mark, Ranking, answer, confirm_seconds, luck, means_of
from analysis.findings.short import were_cut_short
from analysis.findings.too_few_pixels import small
from analysis.findings.verdict_pairs import Pair, look
from analysis.statistics.forecast import alpha_of_look
from analysis.words.steps import Step, steps
from study.console.text import joined
from study.strategies import EVERY

DECIDED = {
    "beats": "{winner} beats {loser} by at least {margin}",
    "better": "{winner} is better than {loser}; whether by {margin} is open",
    "better_by_little": "{winner} is better than {loser}, by less than is worth having ({margin})",
    "equivalent": "No difference worth {margin} between {a} and {b}",
    "undecided": "Undecided between {a} and {b}",
    "not_comparable": "Not comparable: {a} and {b}",
}
NOT_BEATEN = "Training is not shown to beat frozen features (the line to beat)"


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """The answer to one question. `question` is None where nothing can be answered yet."""

    question: Question | None
    head: str  # the decision in one phrase
    mark: Mark = "open"
    numbers: str = ""  # of the pair the head rests on
    scope: str = ""  # what the interval contains
    steps: tuple[Step, ...] = ()  # what to do now, what would decide
    rest: tuple[str, ...] = ()  # how the highest mean stands against each other one

    @property
    def about(self) -> str:
        return "No verdict yet" if self.question is None else self.question.name

    @property
    def text(self) -> str:
        """Return the sentence on one line, as it is printed and recorded: the decision, its scope and what to do."""
        head = f"{self.head} ({self.numbers})" if self.numbers else self.head
        after = (self.scope, *(f"{s.text}: {s.command}" if s.command else s.text for s in self.steps))
        return f"{self.about}: {'. '.join((head, *(p[0].upper() + p[1:] for p in after if p)))}."


def decision(pair: Pair, margin: float) -> str:
    """Return in words what was decided between two strategies. `margin` is in the metric's unit."""
    return DECIDED[pair.decision.kind].format(
        winner=pair.winner, loser=pair.loser, a=pair.a, b=pair.b, margin=pair.estimate.metric.count(margin)
    )


def describe_pair(pair: Pair, margin: float) -> str:
    """Return the decision with its numbers, from the strategy with the higher mean."""
    text, metric = decision(pair, margin), pair.estimate.metric
    if pair.one_run:
        return f"{text}: one run tells nothing about the spread ({100 * pair.estimate.mean:+.1f} {metric.measured})"
    up, c = pair.estimate.mean >= 0, pair.decision.chances
    better, worse = (c.a_better, c.b_better) if up else (c.b_better, c.a_better)
    first, p = pair.a if up else pair.b, pair.decision.p
    chances = f"{first} better by more than {metric.count(margin)} {_sure(better)}, within {_sure(c.within)}, worse by more {_sure(worse)}"
    short = [were_cut_short([s.strategy for s in pair.short])] if pair.short and not pair.decision.reasons else []
    why = f" ({'; '.join((*pair.decision.reasons, *short))})" if pair.decision.reasons or short else ""
    named = pair.winner is None and not up  # the decision names them the other way round
    return f"{text}{why}: {_numbers(pair, named)}; {chances}; Holm p {'below 0.001' if p < 0.001 else f'{p:.3f}'}, {pair.seeds} seeds"


def _numbers(pair: Pair, name: bool = False) -> str:
    """Return the difference with its simultaneous interval, from the strategy with the higher mean."""
    d, low, high = (100 * v for v in (pair.estimate.mean, pair.decision.low, pair.decision.high))
    first, other = pair.a, pair.b
    if d < 0:
        (d, low, high), (first, other) = (-d, -high, -low), (other, first)
    metric = pair.estimate.metric
    who = metric.difference(first, other) if name or not metric.higher else ""
    if math.isnan(low):
        return f"{who}{d:+.1f} {metric.measured}"
    return f"{who}{d:+.1f} {metric.measured}, {100 * pair.confidence:.3g} % interval {low:+.1f} to {high:+.1f}"


def sentences(answered: Sequence[Ranking], frames: Frames) -> list[Sentence]:
    """Return one sentence per question, or the reason where none was answered."""
    if not answered:
        head, *rest = _why_none(frames)
        return [Sentence(question=None, head=head, steps=tuple(Step(text=t) for t in rest))]
    return [_sentence(a, frames) for a in answered]


def answers(pairs: Sequence[Pair], strategies: pd.DataFrame, frames: Frames) -> list[Ranking]:
    """Return the ranking of every question that has a pair."""
    found, study = [], frames.study
    ranked = {q: means_of(strategies, q, frames.scored_by) for q in dict.fromkeys(p.question for p in pairs)}
    bounds = sum(max(len(own) - 1, 1) for own in ranked.values())  # that must hold at once: one against the best of each question
    level = alpha_of_look(look(frames)) / max(bounds, 1)
    for question, names in ranked.items():
        own = [p for p in pairs if p.question == question]
        seconds = confirm_seconds(frames, question)
        found.append(answer(question, own, names, seconds, level=level, margin=study.margin / 100, worth=study.worth / 100))
    return found


def _sentence(a: Ranking, frames: Frames) -> Sentence:
    margin = frames.study.margin
    best, *others = a.comparable if len(a.comparable) > 1 else a.ranked
    leading = a.pairs[best, others[0]]
    return Sentence(
        question=a.question,
        head=headline(a, margin),
        mark=a.mark,
        numbers=_numbers(leading, name=len(a.ranked) > 2 or leading.winner is None),
        scope=_scope(a, leading, frames),
        steps=tuple(steps(a, leading, frames)),
        rest=tuple(describe_pair(a.pairs[a.ranked[0], other], margin) for other in a.ranked[1:]),
    )


def _scope(a: Ranking, leading: Pair, frames: Frames) -> str:
    """Return in words what the interval contains, and the image size where it is a small one."""
    found = small(frames, a.question)
    parts = [
        *([] if math.isnan(leading.decision.low) else [scope_of(leading, luck(frames, a.question), frames.subsets(a.question))]),
        *([f"All of it {found.found}"] if found else []),
    ]
    return ". ".join(parts)


def headline(a: Ranking, margin: float) -> str:
    """Return the decision among all strategies of a question in words. `margin` is in the metric's unit."""
    if len(a.comparable) < 2:
        return f"Not comparable: {a.reasons[0]}"
    worse = [s for s in a.comparable if s not in a.standing]
    left = [s for s in a.ranked if s not in a.comparable]
    inner = a.between(a.standing)
    behind = f"; {joined(worse)} {'is' if len(worse) == 1 else 'are'} worse" if worse else ""
    if len(a.comparable) == 2:
        text = decision(a.pairs[a.comparable[0], a.comparable[1]], margin)
    elif not inner:
        by = [a.pairs[a.standing[0], s].decision.kind for s in worse]
        all_beaten = set(by) == {"beats"}
        text = (
            f"{a.standing[0]} {'beats' if all_beaten else 'is better than'} "
            f"{joined(worse)}{f' by at least {a.metric.count(margin)}' if all_beaten else ''}"
        )
        if set(by) - {"beats", "better"}:  # some are behind another one only
            text = f"{a.standing[0]} alone is not shown to be worse than another; {joined(worse)} are"
    elif a.mark == "equal":
        text = (
            decision(inner[0], margin) if len(inner) == 1 else f"No difference worth {a.metric.count(margin)} between {joined(a.standing)}"
        )
        text += behind
    else:
        text = f"Undecided between {joined(a.standing)}{behind}"
    text = f"{text}{_at_most(a)}" if a.mark == "open" or a.good_enough else text
    text = f"{text}. Not comparable: {joined(left)}" if left else text
    return f"{NOT_BEATEN}; {text[0].lower() if text.startswith(('Undecided', 'No ')) else text[0]}{text[1:]}" if _not_beaten(a) else text


def _at_most(a: Ranking) -> str:
    """Return in words the most that taking the cheapest costs, or "" where nothing bounds it."""
    taken = a.good_enough or a.cheapest
    if math.isnan(most := a.most(taken)):
        return ""
    enough = ", so it is good enough" if a.good_enough else ""
    return f". Taking {taken} costs at most {a.metric.at_most(100 * most)} (95 %){enough}"


def _not_beaten(a: Ranking) -> bool:
    """Return True where an exact classifier on frozen features stands and no trained strategy is shown to be better."""
    return any(EVERY[s].exact for s in a.standing) and any(not EVERY[s].exact for s in a.comparable)


def scope_of(pair: Pair, lucky: dict[str, float], subsets: int = 0) -> str:
    """Return in words what the interval contains.

    With one search it adds that the claim is about two configurations, and how likely another draw would choose others. `subsets` is
    the number of parts of the training images that the runs were trained on, 0 where all saw the same images.
    """
    e = pair.estimate
    trained = f"training images ({subsets} parts of them, alike for both), " if subsets else ""
    ground = "one part of the training images" if subsets else "one training set"
    contains = {
        "run": f"{trained}seeds and test images of these configurations, found by one search on {ground}",
        "search": f"{e.searches} searches, {trained}seeds and test images; {'all searched on ' if subsets else ''}{ground}",
        "pass": f"{e.searches} searches, {trained}seeds and test images: all images, each tested by networks whose search never saw it",
        "fold": (
            f"{e.runs[0].count:g} training sets, seeds and test images; "
            f"{'configurations found by one search' if e.searches == 1 else f'{e.searches} searches'}"
        ),
    }[e.unit]
    text = f"The interval contains {contains}"
    if e.searches > 1:
        return text
    own = [f"in {_sure(lucky[s])} of cases for {s}" for s in (pair.a, pair.b) if s in lucky]
    often = f", judged by its random trials: {joined(own)}" if own else ""
    return f"{text}. If the search were repeated, it might choose other settings{often}"


def _sure(chance: float) -> str:
    """Return the probability in words, never as certain or impossible."""
    return "over 99 %" if chance > 0.99 else "below 1 %" if chance < 0.01 else f"{100 * chance:.0f} %"


def _why_none(frames: Frames) -> tuple[str, ...]:
    trials = frames.trials
    if not len(trials) or not (trials.outcome != "running").any():
        return ("no trial has finished",)
    if not trials.outcome.isin(["completed", "stopped"]).any():
        ends = ", ".join(sorted(set(trials.outcome)))
        return ("no finished trial", f"all {len(trials)} {ends} (see reasons in the protocol section)")
    if trials.stage.isin(CONFIRMING).any():
        return ("the confirm runs of two strategies on the same data are not complete",)
    return ("the search's winners have not been confirmed with fresh seeds",)
