"""The findings on two sides in words."""

import math

from analysis.judge.judged import Judged
from analysis.statistics.forecast import Need
from analysis.statistics.intervals import few_units
from analysis.words.sentences import decision
from study.console.text import joined
from study.scoring.metric import MEMBERS

UNITS = {"run": "file", "search": "search", "fold": "fold", "image": "test image", "session": "group"}


def headline(found: Judged) -> str:
    """Return the decision with its numbers, the higher side first."""
    return f"{decision(found.pair, found.margin)} ({numbers(found)})"


def numbers(found: Judged) -> str:
    """Return the difference of the chosen metric with its interval."""
    e, d = found.pair.estimate, found.pair.decision
    mean, low, high = (100 * v for v in (e.mean, d.low, d.high))
    first, other = found.pair.a, found.pair.b
    if mean < 0:
        (mean, low, high), (first, other) = (-mean, -high, -low), (other, first)
    metric = found.metric
    return f"{metric.difference(first, other)}{mean:+.1f} {metric.measured}, 95 % interval {low:+.1f} to {high:+.1f}"


def sentences(found: Judged) -> list[str]:
    """Return the answer, what its interval contains, and what to do, one sentence each."""
    a, b = (len(s.files) for s in found.sides)
    images = f"{len(found.truth.labels):,} test images"
    whole = ""
    if found.truth.groups is not None:
        whole = f", in {len(set(found.truth.groups.tolist())):,} groups (column {found.truth.group_column}) that are drawn whole"
    if found.scope == "training":
        scope = f"The interval contains the runs of both sides ({a} and {b} files) and {images}{whole}."
    else:
        scope = (
            f"The interval contains {images} and nothing else{whole}. It speaks of these files, not of how their networks were "
            "trained: another seed may do better or worse. Two files or more a side would contain that too."
        )
    return [f"{headline(found)}.", *[f"{r[0].upper()}{r[1:]}." for r in found.pair.decision.reasons], scope, *_steps(found)]


def _steps(found: Judged) -> list[str]:
    if found.pair.decision.reasons or not found.pair.needs:
        return []
    enough = [f"{n.more:,} more {_unit(n)}" for n in found.pair.needs if n.more is not None]
    if not enough:
        return ["More files or test images will not settle this."]
    each = " a side" if any(n.resource == "run" and n.more is not None for n in found.pair.needs) else ""
    return [f"To decide it with 80 % probability you need {' or '.join([f'{enough[0]}{each}', *enough[1:]])}."]


def _unit(need: Need) -> str:
    return f"{UNITS[need.resource]}{'s' * (need.more != 1)}"


def warnings(found: Judged) -> list[str]:
    """Return what to know before believing the verdict."""
    out = []
    perfect = [f for s in found.sides for f, said in zip(s.files, s.said, strict=True) if (said == found.truth.labels).all()]
    if perfect:
        out.append(f"{joined(perfect)} names every image rightly: are these predictions, or the labels themselves?")
    a, b = found.sides
    if any((x == y).all() for x in a.said for y in b.said):
        out.append("One file of each side says the same of every image. Are both of the same network?")
    if any((x == y).all() for s in found.sides for k, x in enumerate(s.said) for y in s.said[:k]):
        out.append("Two files of one side say the same of every image. Copies of one run are no repeats: the interval is then too narrow.")
    if found.truth.groups is not None and few_units(found.pair.estimate):
        out.append("There are few groups, so the interval itself is uncertain.")
    return out


def lines(found: Judged) -> list[str]:
    """Return the lines for a terminal: each side's score, then the sentences."""
    metric = found.metric
    by_side = []
    for side in found.sides:
        e, each = found.scores[metric.key][side.name]
        least, most = sorted((metric.shown(each.min()), metric.shown(each.max())))
        spread = f", {least:.1f} to {most:.1f} over {len(each)} files" if len(each) > 1 else ""
        by_side.append(f"{side.name}: {metric.phrase(e.mean)}{spread}")
    rest = [f"{MEMBERS[m].words} {100 * d.mean:+.1f}{_between(d.low, d.high)}" for m, d in found.others.items()]
    return [*by_side, *sentences(found), f"{found.pair.a} minus {found.pair.b} in other metrics: {joined(rest)}."]


def _between(low: float, high: float) -> str:
    return "" if math.isnan(low) else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
