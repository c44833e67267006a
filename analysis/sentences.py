"""What a study says, in words: values made of their parts, so that a page can lay them out without taking text apart."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.frames import Frames
from analysis.question import COLUMNS, Question

SETTLED = {
    "a": "{a} beats {b}",
    "b": "{b} beats {a}",
    "equivalent": "no difference worth {margin:g} points between {a} and {b}",
    "undecided": "undecided between {a} and {b}",
}


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """The answer to one question; `question` is None where nothing can be answered yet."""

    question: Question | None
    head: str  # the answer in one phrase
    rest: tuple[str, ...] = ()  # how it stands against each other strategy

    @property
    def about(self) -> str:
        return "No verdict yet" if self.question is None else self.question.name

    @property
    def text(self) -> str:
        """On one line, as it is printed and recorded."""
        return f"{self.about}: {'; '.join((self.head, *self.rest))}."


def decision(pair: Mapping[str, Any], margin: float) -> str:
    """What was decided between the two strategies of a row of pairs. `margin`: points of macro-F1."""
    return SETTLED[pair["verdict"]].format(a=pair["a"], b=pair["b"], margin=margin)


def describe_pair(pair: Mapping[str, Any], margin: float) -> str:
    """The decision with its numbers, the winner's side up."""
    text = decision(pair, margin)
    facing = _turned(pair) if pair["verdict"] == "b" else pair
    d, low, high = (100 * facing[k] for k in ("difference", "low", "high"))
    if math.isnan(low):
        return f"{text}: one seed tells nothing of the spread ({d:+.1f} points of macro-F1)"
    numbers = (
        f"{d:+.1f} points of macro-F1, 95 % interval {low:+.1f} to {high:+.1f}, P(better) {facing['superiority']:.2f}, "
        f"Holm p {pair['p_holm']:.3f}, {pair['seeds']} seeds"
    )
    more = f" ({_what_would_decide(pair['more_seeds'])})" if pair["verdict"] == "undecided" else ""
    return f"{text}: {numbers}{more}"


def _what_would_decide(more_seeds: float | None) -> str:
    if more_seeds is None or math.isnan(more_seeds):
        return "more test images are needed, seeds alone would not decide"
    return f"about {int(more_seeds)} more seed{'s' if more_seeds > 1 else ''} would decide"


def _turned(pair: Mapping[str, Any]) -> dict[str, Any]:
    """The same pair, seen from the other side."""
    return {
        **pair,
        "a": pair["b"],
        "b": pair["a"],
        "difference": -pair["difference"],
        "low": -pair["high"],
        "high": -pair["low"],
        "superiority": 1 - pair["superiority"],
        "verdict": {"a": "b", "b": "a"}.get(pair["verdict"], pair["verdict"]),
    }


def sentences(pairs: pd.DataFrame, strategies: pd.DataFrame, frames: Frames) -> list[Sentence]:
    """One a question: the best strategy, and what can be said of it against each other one."""
    if not len(pairs):
        head, *rest = _why_none(frames)
        return [Sentence(question=None, head=head, rest=tuple(rest))]
    macro = strategies[strategies.metric == "macro_f1"]
    means = {Question.of(own.iloc[0]): own for _, own in macro.groupby(list(COLUMNS), sort=False)}
    return [
        _answer(Question.of(block.iloc[0]), block, means[Question.of(block.iloc[0])], frames.study.margin)
        for _, block in pairs.groupby(list(COLUMNS), sort=False)
    ]


def _answer(question: Question, pairs: pd.DataFrame, means: pd.DataFrame, margin: float) -> Sentence:
    ranked = means.sort_values("mean", ascending=False)
    best = ranked.iloc[0]
    spread = ", one seed only" if math.isnan(best.low) else f" [{100 * best.low:.1f}, {100 * best.high:.1f}]"
    facing: dict[str, dict[str, Any]] = {}
    for pair in pairs.to_dict("records"):
        if pair["a"] == best.strategy:
            facing[pair["b"]] = pair
        elif pair["b"] == best.strategy:
            facing[pair["a"]] = _turned(pair)
    return Sentence(
        question=question,
        head=f"{best.strategy} has the highest test macro-F1, {100 * best['mean']:.1f}{spread}",
        rest=tuple(describe_pair(facing[other], margin) for other in ranked["strategy"][1:]),
    )


def _why_none(frames: Frames) -> tuple[str, ...]:
    trials = frames.trials
    if not len(trials) or not (trials.outcome != "running").any():
        return ("no trial has finished",)
    if not trials.outcome.isin(["completed", "stopped"]).any():
        ends = ", ".join(sorted(set(trials.outcome)))
        return ("no finished trial", f"all {len(trials)} {ends} (see reasons in the protocol section)")
    if (trials.stage == "confirm").any():
        return ("the confirm runs of two strategies on the same data are not complete",)
    return ("the search's winners have not been confirmed with fresh seeds",)
