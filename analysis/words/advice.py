"""The findings along an axis in words: the strategy to take for how many images, steps or pixels, and where that changes.

They include what more training images would bring.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.data.axes import IMAGES, Axis
from analysis.data.frames import Frames
from analysis.data.question import Question
from analysis.findings.answers import Mark, Ranking, answer, means_of
from analysis.findings.by_axis import Panel, When
from analysis.findings.short import shorts, were_cut_short
from analysis.findings.verdict_pairs import Pair
from analysis.statistics.crossing import Crossing
from analysis.statistics.intervals import difference_interval, mean_estimate
from study.console.text import joined
from study.strategies import EVERY

PROBE = "linear_probe"
MOST_DOUBTS = 3
Cut = Mapping[str, Sequence[float]]
"""Places on the axis at which a strategy was cut short, by strategy. It is empty where the axis is the length of training itself."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The advice for one data set and backbone along one axis: one sentence, and the findings behind it."""

    question: Question  # what the places on the axis have in common
    head: str
    mark: Mark = "open"
    pairs: tuple[str, ...] = ()  # each two strategies: where they cross
    more: str = ""  # what ten times the images would bring
    task: str = ""  # how hard the task is
    doubts: str = ""
    scope: str = ""  # what the intervals contain

    @property
    def about(self) -> str:
        return self.question.name

    @property
    def text(self) -> str:
        """Return the advice on one line, as it is printed and recorded."""
        return f"{self.about}: {'; '.join(p for p in (self.head, self.more, self.task) if p)}."


def advice(found: When, judged: Sequence[Pair], strategies: pd.DataFrame, frames: Frames) -> list[Advice]:
    """Return the advice for every data set and backbone that was asked about at several places on an axis."""
    out = []
    short = shorts(frames)
    for panel in found.panels:
        answers = {}
        for place, question in panel.sizes.items():
            if own := [p for p in judged if p.question == question]:
                answers[place] = answer(question, own, means_of(strategies, question, frames.scored_by), panel.seconds[place])
        if answers:
            cut = {s: [n for n, q in panel.sizes.items() if (q, s) in short and not panel.axis.training] for s in panel.curves}
            out.append(_advice(panel, answers, {s: sizes for s, sizes in cut.items() if sizes}, frames))
    return out


def _advice(panel: Panel, answers: Mapping[float, Ranking], cut: Cut, frames: Frames) -> Advice:
    axis, largest = panel.axis, max(answers)
    pick, head, mark = _pick(answers[largest], f"{axis.beginning(panel.sizes[largest], largest)}, ")
    return Advice(
        question=panel.question,
        head=f"{head}; {_change(panel, pick, cut)}" if pick else head,
        mark=mark,
        pairs=tuple(
            f"{a} and {b}: {why}" if (why := _not_judged((a, b), cut, axis)) else describe_crossing(c, a, b, axis)
            for (a, b), c in panel.crossings.items()
            if {a, b} <= set(_compared(panel))
        ),
        more=_more(panel, pick or answers[largest].ranked[0], cut) if axis.extrapolates else "",
        task=_task(panel, frames) if axis.extrapolates else "",
        doubts=_doubts(panel, answers),
        scope=_scope(panel, frames),
    )


def _pick(a: Ranking, start: str) -> tuple[str, str, Mark]:
    """Return (strategy to take or "", the same in words, how sure it is)."""
    if len(a.comparable) < 2:
        return "", f"{start}no pick can be named: {a.reasons[0]}", "open"
    left = [s for s in a.ranked if s not in a.comparable]
    aside = f" ({joined(left)} cannot be compared)" if left else ""
    if len(a.standing) == 1:
        return a.standing[0], f"{start}{a.standing[0]} is the pick{aside}", "decided"
    if a.mark == "equal":
        reason = f"the cheapest of {joined(a.standing)}, between which nothing worth having lies"
        return a.cheapest, f"{start}{a.cheapest} is the pick, {reason}{aside}", "equal"
    first = a.standing[0]
    others = joined(a.standing[1:])
    short = f": {were_cut_short(list(a.short))}, so longer training may change this" if a.cut_short else ""
    return first, f"{start}{first} has the highest mean, but {others} may be as good{aside}{short}", "open"


def _change(panel: Panel, pick: str, cut: Cut) -> str:
    """Return in words the nearest place below the largest size where the pick is no longer the better strategy.

    Curves of strategies that were cut short only show where training begins to work, so they are not judged.
    """
    axis = panel.axis
    others = {s: c for s in _compared(panel) if s not in (pick, *cut) and (c := panel.between(pick, s)) is not None}
    if cut and (pick in cut or not others):
        return f"whether it changes with {axis.changes} is {_not_judged(panel.curves, cut, axis)}"
    rest = f" (against {joined(list(cut))} it is {_not_judged(panel.curves, cut, axis)})" if cut else ""
    return f"{_where(panel, pick, others)}{rest}"


def _compared(panel: Panel) -> list[str]:
    """Return the strategies of the panel except the yardsticks.

    The line to beat at the network's own size is delivered and compared elsewhere.
    """
    return [s for s in panel.curves if not EVERY[s].yardstick]


def _where(panel: Panel, pick: str, others: Mapping[str, Crossing]) -> str:
    """Return in words where the pick and the other strategies cross. `others` holds the crossing with each strategy."""
    axis = panel.axis
    shown = {s: c for s, c in others.items() if c.kind == "crosses"}
    seen = {s: c for s, c in others.items() if not math.isnan(c.at)}
    if shown:
        other = max(shown, key=lambda s: shown[s].at)
        c = shown[other]
        below, beyond = (pick, other) if c.a_below else (other, pick)
        return f"below {axis.shown(c.at)} {below} is ahead, above it {beyond} ({span(c, axis)})"
    sizes = f"between {exact(min(panel.sizes))} and {exact(max(panel.sizes))} {axis.unit}"
    if others and all(c.kind == "none" for c in others.values()):
        return f"it does not change {sizes}"
    if seen:
        other = max(seen, key=lambda s: seen[s].at)
        c = seen[other]
        where = f" ({span(c, axis)})" if not math.isnan(c.low) else ", with one run no interval"
        return f"its mean and that of {other} cross near {axis.shown(c.at)}{where}, {_one_sided(c, pick, other)}"
    open_yet = [s for s, c in others.items() if c.kind in ("unclear", "unknown")]
    return f"no change is seen {sizes}, nor excluded against {joined(open_yet)}" if open_yet else f"no change is seen {sizes}"


def _not_judged(strategies: Iterable[str], cut: Cut, axis: Axis) -> str:
    """Return "not judged: full was cut short at 50 and 100 images", or "" where none of the strategies was cut short."""
    if not (short := [s for s in strategies if s in cut]):
        return ""
    sizes = joined([exact(n) for n in sorted({n for s in short for n in cut[s]})])
    return f"not judged: {were_cut_short(short)} at {sizes} {axis.unit}"


def describe_crossing(c: Crossing, a: str, b: str, axis: Axis = IMAGES) -> str:
    """Return in one phrase where two strategies cross."""
    first, second = (a, b) if c.a_below else (b, a)
    sizes = f"between {exact(c.smallest)} and {exact(c.largest)} {axis.unit}"
    if c.kind == "none":
        return f"{a} and {b}: no crossing {sizes}"
    if c.kind == "unknown":
        return f"{a} and {b}: not known, two sizes with two runs each are needed"
    if math.isnan(c.at):
        return f"{a} and {b}: no crossing seen {sizes}. Not excluded {span(c, axis, 'from')}"
    often = f". Their means change places {c.changes} times" if c.changes > 1 else ""
    sure = "" if c.kind == "crosses" else f", {_one_sided(c, a, b)}"
    return f"{a} and {b}: {first} below, {second} above {axis.shown(c.at)} ({span(c, axis)}){sure}{often}"


def _one_sided(c: Crossing, a: str, b: str) -> str:
    """Return in words how far two means that cross are from a crossing that is shown."""
    better = a if c.a_better else b if c.b_better else ""
    return f"but only {better} is shown to be better at some size" if better else "but neither is shown to be better at any size"


def span(c: Crossing, axis: Axis = IMAGES, start: str = "95 % interval") -> str:
    """Return the interval of a crossing in words, and say where it reaches the end of what was measured."""
    low = f"{exact(c.low)} or fewer" if c.below else axis.rounded(c.low)
    return f"{start} {low} to {f'{exact(c.high)} or more' if c.above else axis.rounded(c.high)}"


def exact(counted: float) -> str:
    return f"{counted:,.0f}"


def _more(panel: Panel, strategy: str, cut: Cut) -> str:
    if why := _not_judged([strategy], cut, panel.axis):
        return f"what ten times the images would bring is {why}"
    m = panel.more[strategy]
    if m.why_not:
        return f"what ten times the images would bring is not known: {m.why_not}"
    gain, low, high = (100 * v for v in (m.gain, m.gain_low, m.gain_high))
    unit = panel.curves[strategy][0].runs.metric.gained
    return (
        f"ten times the images ({exact(m.images)}) would bring {strategy} {gain:+.1f} {unit} (95 % interval {low:+.1f} to {high:+.1f})"
        " if its curve goes on as a power law"
    )


def _task(panel: Panel, frames: Frames) -> str:
    """Return the difficulty of the task in words: classes, score of frozen features and gain of tuning, all at the largest size."""
    cell = next(c.id for c in frames.study.cells if frames.question_of(c) in panel.sizes.values() and c.id in frames.classes)
    classes = f"{len(frames.classes[cell])} classes"
    means = {s: mean_estimate(p.runs).mean for s, points in panel.curves.items() for p in points if p.place == panel.largest}
    if PROBE not in means:
        return f"the task has {classes}, the study no {PROBE}"
    best = max(means, key=lambda s: means[s])
    score = f"the task has {classes}, its {PROBE} scores {frames.scored_by.shown(means[PROBE]):.1f}"
    if best == PROBE:
        return f"{score}, the highest mean"
    (d,) = (d for d in panel.difference(best, PROBE) if d.place == panel.largest)
    e = mean_estimate(d.runs)
    low, high = difference_interval(e)
    interval = f" (95 % interval {100 * low:+.1f} to {100 * high:+.1f})" if low == low else ""
    return f"{score}, {best} {100 * e.mean:+.1f}{interval}"


def _doubts(panel: Panel, answers: Mapping[float, Ranking]) -> str:
    found = [f"at {exact(n)} {panel.axis.unit} {reason}" for n, a in answers.items() for reason in a.reasons]
    rest = f". And {len(found) - MOST_DOUBTS} more" if len(found) > MOST_DOUBTS else ""
    return "; ".join([*found[:MOST_DOUBTS], *panel.left_out]) + rest


def _times(panel: Panel, frames: Frames) -> str:
    """Return the number of runs in words. Different sizes may be confirmed at different budgets."""
    epochs = sorted({frames.confirmed_protocol(q).max_epochs for q in panel.sizes.values()})
    if len(epochs) > 1:
        return f"{epochs[0]} to {epochs[-1]} times (by what the budget check found at each size)"
    return f"{epochs[0]} time{'s' * (epochs[0] > 1)}"


def _scope(panel: Panel, frames: Frames) -> str:
    one = frames.study.searches == 1
    parts = max((frames.subsets(q) for q in panel.sizes.values()), default=0)
    if not panel.axis.extrapolates:
        trained = "training images, " if parts else ""
        sources = f"{trained}seeds and test images"
        rest = ""
    else:
        trained = (
            f"training images (each seed draws another part, the same for every strategy; {exact(panel.largest)} are one set)"
            if parts
            else "one part of the training images a size"
        )
        sources, rest = f"seeds, {trained} and test images", ", on all validation images: better than so few images alone would allow"
    return (
        f"{panel.axis.tuned} was tuned anew{', by one search' if one else ''}{rest}. "
        f"Intervals contain {sources}, paired over runs and images, each for itself. {_length(panel, frames)}"
    )


def _length(panel: Panel, frames: Frames) -> str:
    """Return the length of training in words, with the time that it took."""
    p = frames.study.protocol
    if not panel.axis.extrapolates:
        took = "; ".join(
            f"at {exact(place)} {panel.axis.unit} {', '.join(f'{s} {own[s]:.2g}' for s in panel.curves if s in own)}"
            for place, own in panel.seconds.items()
            if own
        )
        return f"One confirm run took, in seconds: {took}" if took else "What a run took is not known"
    if p.min_steps:
        return f"Every trial took {p.min_steps} steps or more"
    return f"Every trial saw each of its images {_times(panel, frames)}, so that fewer images were fewer steps"
