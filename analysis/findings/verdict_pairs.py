"""Every pair of a study with its verdict, the additional data that would decide it, and its row in the table."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.data.frames import Frames
from analysis.data.question import Question
from analysis.findings.comparisons import Compared
from analysis.findings.fairness import Fairness
from analysis.findings.short import Short
from analysis.findings.too_few_pixels import Fewer
from analysis.statistics.decisions import Decision, Doubts, decide
from analysis.statistics.forecast import Need, alpha_of_look, forecast
from analysis.statistics.intervals import Estimate, difference_interval, welch


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two strategies of a question: A minus B, and the verdict on the difference."""

    question: Question
    a: str
    b: str
    estimate: Estimate
    decision: Decision
    seeds: int
    confidence: float  # of its simultaneous interval: 95 % at the first look at the test set, more at later ones
    needs: tuple[Need, ...]  # empty where it is decided, or one run tells nothing
    short: tuple[Short, ...] = ()  # of A and B, what was cut short
    fewer: tuple[Fewer, ...] = ()  # of A and B, what was trained on smaller images than the other saw
    small_classes: str = ""  # why no verdict rests on these test images; empty: one may
    doubted: tuple[
        str, ...
    ] = ()  # of A and B, those that may do better than they did: undertuned, cut short, on smaller images

    @property
    def winner(self) -> str | None:
        return {"a": self.a, "b": self.b, None: None}[self.decision.winner]

    @property
    def loser(self) -> str | None:
        return {"a": self.b, "b": self.a, None: None}[self.decision.winner]

    @property
    def one_run(self) -> bool:
        """True where there is one run only, so that the spread between runs is not known."""
        return math.isnan(self.estimate.variance)


def look(frames: Frames) -> int:
    """Return the number of the opening of the test set that this study's verdicts rest on, from 1."""
    return max(len(frames.openings), 1)


def judge(compared: Sequence[Compared], frames: Frames, looks: int | None = None) -> list[Pair]:
    """All pairs of the study together, since Holm's p values know how many there are. `looks`: at the test images, this one included; as
    often as the study opened them, where it is not given."""
    fair, margin = Fairness(frames), frames.study.margin / 100
    fairness = [fair.doubts(c.question, c.a, c.b) for c in compared]
    doubts = [_with_own(d, c) for c, d in zip(compared, fairness, strict=True)]
    at = looks or look(frames)
    alpha = alpha_of_look(at)
    decisions = decide([c.estimate for c in compared], margin, doubts, alpha)
    again = alpha_of_look(at + 1)
    out = []
    for c, d, doubt in zip(compared, decisions, doubts, strict=True):
        open_yet = d.kind == "undecided" and not math.isnan(c.estimate.variance)
        needs = forecast(c.estimate, margin, again / d.tests_left) if open_yet else ()
        out.append(
            Pair(
                question=c.question,
                a=c.a,
                b=c.b,
                estimate=c.estimate,
                decision=d,
                seeds=c.seeds,
                confidence=1 - alpha,
                needs=needs,
                short=fair.short(c.question, c.a, c.b),
                fewer=fair.fewer(c.question, c.a, c.b),
                small_classes=c.small_classes,
                doubted=(*((c.a,) if doubt.of_a else ()), *((c.b,) if doubt.of_b else ())),
            )
        )
    return out


def _with_own(fairness: Doubts, compared: Compared) -> Doubts:
    """Put the doubts of the test images first: they concern all pairs alike, and no further training changes them."""
    images = (compared.small_classes,) if compared.small_classes else ()
    return dataclasses.replace(fairness, both=(*images, *fairness.both, *compared.collapses))


def pair_row(pair: Pair) -> dict[str, Any]:
    """Return its row of the table of pairs. Scores are shares, not points."""
    e, d = pair.estimate, pair.decision
    low, high = difference_interval(e)
    return {
        **pair.question.columns,
        "a": pair.a,
        "b": pair.b,
        "difference": e.mean,
        "low": low,
        "high": high,
        "simultaneous_low": d.low,
        "simultaneous_high": d.high,
        "a_better": d.chances.a_better,
        "within_margin": d.chances.within,
        "b_better": d.chances.b_better,
        "p": e.p(),
        "p_holm": d.p,
        "p_equivalent": d.p_equivalent,
        "seeds": pair.seeds,
        "searches": e.searches,
        "se_runs": math.sqrt(sum(p.variance for p in e.runs)),
        "df_runs": welch(e.runs)[1],
        "se_images": math.sqrt(e.images.variance),
        "df_images": e.images.df,
        "verdict": d.kind,
        "winner": pair.winner or "",
        "scope": d.scope,
        "reasons": "; ".join(d.reasons),
    }
