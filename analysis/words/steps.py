"""Steps after a verdict in words: the strategy to take, the command that would decide, and the cost of another look at the test set."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.data.axes import PIXELS, STEPS, Axis
from analysis.data.frames import Frames
from analysis.data.question import Question
from analysis.findings.answers import Ranking
from analysis.findings.budget_check import beyond
from analysis.findings.short import LONGER, Short, were_cut_short
from analysis.findings.too_few_pixels import small
from analysis.findings.verdict_pairs import Pair, look
from analysis.statistics.collapse import ENOUGH_RUNS
from analysis.statistics.forecast import Need, alpha_of_look
from analysis.statistics.resampling import ENOUGH_SEEDS
from analysis.words.commands import allow, extend, larger, longer, repeat
from study.console.text import joined


@dataclass(frozen=True, kw_only=True)
class Step:
    """A thing to do or to know, and the command that does it."""

    text: str
    command: str = ""


def steps(a: Ranking, leading: Pair, frames: Frames) -> list[Step]:
    """Return the steps in the order of doing. `leading` is the pair that the headline rests on.

    Longer training comes first: other measures are wasted on trainings that were cut short.
    """
    out = _longer(a, frames)
    reasons = [r for r in a.reasons if r not in [s.reason for s in a.cut_short]]
    if len(a.comparable) < 2:
        if leading.small_classes:
            out.append(Step(text="Collect more test images of these classes, or merge them"))
        if any("runs collapsed" in r for r in a.reasons):
            seeds = max(ENOUGH_RUNS, frames.study.confirm_seeds)
            meant = "A collapsed run scored far below the others, and far below what its settings reached in the search"
            out.append(Step(text=f"{meant}. {ENOUGH_RUNS} seeds tell how often that happens", command=extend(frames, seeds)))
        if any("of its range" in r for r in a.reasons):
            out.append(Step(text="Widen the range (Study.space) and run it as a new study. A wider range may hold better settings"))
        if a.by_pixels_alone:
            return [*out, *_larger(a, frames), Step(text=f"Until then take {a.comparable[0]}")]
        rest = [r for r in reasons if r != a.reasons[0]]
        also = f" ({'; '.join(rest)}, as well)" if rest else ""
        return [*out, Step(text=f"Until then name no winner{also}")]
    if reasons:
        out.append(Step(text=f"Left out: {'. '.join(reasons)}"))
    if leading.one_run:
        seeds = max(frames.study.confirm_seeds + 1, ENOUGH_SEEDS)
        return [*out, Step(text="One run tells nothing about the spread. A few more give an interval", command=extend(frames, seeds))]
    if a.winner or not a.cut_short:
        out.append(_pick(a, frames.study.margin))
    out += [*_winner_too(a, frames), *_larger(a, frames), *_what_would_decide(a, frames)]
    if look(frames) > 1:
        level = 100 * alpha_of_look(look(frames))
        out.append(
            Step(
                text=(
                    f"The test set was opened {look(frames)} times. The looks share the 5 % of false claims, so this one is "
                    f"held to {level:.2g} %"
                )
            )
        )
    return out


def _longer(a: Ranking, frames: Frames) -> list[Step]:
    """Return the steps where the answer depends on a strategy that was cut short."""
    if not a.cut_short:
        return []
    if epochs := further(frames, a.question, STEPS):
        text = (
            f"{were_cut_short([s.strategy for s in a.cut_short])} at this budget. This study trains longer too: see its answer "
            f"at {epochs} epochs"
        )
        return [Step(text=text)]
    gains = {s: found for (q, s), found in beyond(frames).items() if q == a.question}
    if all(s.strategy in gains for s in a.cut_short):
        factor, epochs = max(gains.values())
        text = f"Train longer: {joined(list(gains))} would gain on validation. This confirms all at {epochs} epochs"
        return [Step(text=text, command=allow(frames, factor))]
    headline = a.reasons[0] if len(a.comparable) < 2 else ""
    rest = [s for s in a.cut_short if s.reason != headline]
    if len(rest) == len(a.cut_short):
        why = f"The comparison was cut short: {together(rest)}. "
    else:
        why = f"{together(rest)}, as well. " if rest else ""
    text = f"{why}First train {LONGER} times as long, for about {LONGER} times the compute"
    return [_train_longer(a, frames, text)]


def _train_longer(a: Ranking, frames: Frames, text: str) -> Step:
    """Return the step that trains longer, in a study of another name. A study that asks at several budgets gets a longer one."""
    if not a.question.max_epochs:
        return Step(text=text, command=longer(frames))
    longer_yet = LONGER * frames.asked(a.question)[0].budget
    return Step(text=f"{text}. Add {longer_yet} to the budgets of this study, and run it again")


def _winner_too(a: Ranking, frames: Frames) -> list[Step]:
    """Return the step for a winner that was cut short and won all the same."""
    found = a.short.get(a.winner)
    if found is None:
        return []
    if epochs := further(frames, a.question, STEPS):
        return [Step(text=f"{found.found}. This study trains longer too: see its answer at {epochs} epochs")]
    return [_train_longer(a, frames, f"{found.found}, so longer training may raise its score")]


def further(frames: Frames, question: Question, axis: Axis) -> int:
    """Return the longest budget in epochs, or the largest image size, at which the study asks the same question.

    It is 0 where that is the question's own.
    """
    own = getattr(question, axis.column)
    asked = (q for c in frames.study.cells if axis.without(q := frames.question_of(c)) == axis.without(question))
    return max((larger for q in asked if (larger := getattr(q, axis.column)) > own), default=0)


def _larger(a: Ranking, frames: Frames) -> list[Step]:
    """Return the step that trains on larger images, where nothing is decided and the trained size is far smaller than it could be, or than
    what the line to beat saw."""
    found = small(frames, a.question) or next((f.sizes for f in a.fewer.values()), None)
    if found is None or a.mark == "decided":
        return []
    text = f"Larger images may decide it. Training was {found.found}. {found.cost}"
    if pixels := further(frames, a.question, PIXELS):
        return [Step(text=f"Larger images may decide it: see this study's answer at {pixels} px")]
    if a.question.image_size:
        return [Step(text=f"{text}. Add {found.larger} to the image_sizes of this study, and run it again")]
    return [Step(text=text, command=larger(frames, found.larger))]


def together(found: Sequence[Short]) -> str:
    """Return the findings, one sentence per kind, as in "partial had learned 78 % and full 63 % of their own training images after 3
    epochs".
    """
    by_length: dict[str, list[Short]] = {}
    for s in found:
        if s.learned:
            by_length.setdefault(s.of, []).append(s)
    said = []
    for of, (first, *rest) in by_length.items():
        shares = [f"{first.strategy} had learned {first.learned}", *(f"{s.strategy} {s.learned}" for s in rest)]
        said.append(f"{joined(shares)} of their own {of}" if rest else first.found)
    return ". ".join([*said, *(s.found for s in found if not s.learned)])


def _pick(a: Ranking, margin: float) -> Step:
    """Return the step that names the strategy to take now, with its cost and its saving."""
    cost = {s: f"{a.seconds[s]:.2g} s" for s in a.seconds}
    if a.good_enough:
        return _good_enough(a, cost)
    if len(a.standing) == 1:
        best, cheap = a.standing[0], min(a.comparable, key=lambda s: a.seconds.get(s, math.inf))
        dear = f" ({cost[best]} a confirm run; {cheap} takes {cost[cheap]})" if cheap != best and {best, cheap} <= set(cost) else ""
        return Step(text=f"{'Until then take' if a.cut_short else 'Take'} {best}{dear}")
    pick, loss = a.cheapest, 100 * a.loss
    others = [s for s in a.standing if s != pick]
    saves = ""
    if {pick, *others} <= set(cost):
        dearest = max(others, key=lambda s: a.seconds[s])
        saves = f" ({cost[pick]} a confirm run, {100 * (1 - a.seconds[pick] / a.seconds[dearest]):.0f} % less than {dearest})"
    most = a.most(pick)
    bound = "" if math.isnan(most) else f", and at most {a.metric.at_most(100 * most)} (95 %)"
    amount = "less than 0.1" if loss < 0.1 else f"{loss:.1f}"
    loses = "" if math.isnan(loss) else f". On average it loses {amount} {a.metric.measured} against the best{bound}"
    known = set(a.standing) <= set(cost)
    if loss <= margin:
        return Step(text=f"Take {pick}: {'the cheapest' if known else 'the highest mean'}{saves}{loses}")
    either = "Either" if len(a.standing) == 2 else f"Each of {joined(a.standing)}"
    return Step(text=f"{either} may be the best. {'The cheapest' if known else 'The highest mean'} is {pick}{saves}{loses}")


def _good_enough(a: Ranking, cost: Mapping[str, str]) -> Step:
    """The cheapest that is shown to cost no more than it is worth, though others may be better, or are."""
    pick = a.good_enough
    saves = ""
    if set(a.comparable) <= set(cost):
        dearest = max((s for s in a.comparable if s != pick), key=lambda s: a.seconds[s])
        share = 100 * (1 - a.seconds[pick] / a.seconds[dearest])
        saves = f" ({cost[pick]} a confirm run, {share:.0f} % less than {dearest})" if share > 0 else f" ({cost[pick]} a confirm run)"
    which = "the cheapest that is good enough" if set(a.comparable) <= set(cost) else "good enough"
    rest = "are allowed for a cheaper one" if a.for_cheaper else "of difference are not worth having"
    allowed = f"{a.metric.at_most(100 * a.worth)} {rest}"
    return Step(
        text=(
            f"Take {pick}: {which}{saves}. It costs at most {a.metric.at_most(100 * a.most(pick))} of {a.metric.words} (95 "
            f"%), and {allowed}"
        )
    )


def _what_would_decide(a: Ranking, frames: Frames) -> list[Step]:
    """Return the steps that would decide the open pairs of the strategy with the highest mean among those standing."""
    out = []
    for other in a.standing[1:]:
        pair = a.pairs[a.standing[0], other]
        needs = [_in_passes(n, frames.study.folds) for n in pair.needs]
        if not needs:
            continue
        which = "it" if len(a.standing) == 2 else f"{pair.a} against {pair.b}"
        found = [_need(n) for n in needs if n.more is not None]
        if not found:
            limits = " or ".join(f"{n.limit:,} more {_unit(n, n.limit)}" for n in needs)
            out.append(Step(text=f"More repeats will not settle {which}: {limits} would decide it with less than 80 % probability"))
            continue
        text = f"{' or '.join(found)} would decide {which} with 80 % probability"
        seeds = next((n for n in needs if n.resource == "run"), None)
        if seeds is not None and seeds.more is None:
            text += f". {seeds.limit} more seeds alone would not"
        more = seeds.more if seeds is not None else None
        each = pair.estimate.searches if pair.estimate.unit == "search" else 1  # a seed more of every search
        if (passes := next((n.more for n in needs if n.resource == "pass"), None)) is not None:
            more, each = passes, frames.study.folds
        out.append(Step(text=text, command="" if more is None else extend(frames, frames.study.confirm_seeds + more * each)))
        searches = next((n.more for n in pair.needs if n.resource == "search" and n.more is not None), None)
        if searches is not None:
            text = "More searches cannot join this study. Run them as a new one"
            out.append(Step(text=text, command=repeat(frames, frames.study.searches + searches)))
    return out


def _in_passes(n: Need, folds: int) -> Need:
    """Convert searches to passes over all images, for a study with outer folds."""
    if n.resource != "pass":
        return n
    return replace(n, more=None if n.more is None else -(-n.more // folds), limit=n.limit // folds)


def _need(n: Need) -> str:
    assert n.more is not None
    return f"{n.more:,} more {_unit(n, n.more)}"


def _unit(n: Need, count: int) -> str:
    name = {
        "run": "seed",
        "search": "search",
        "fold": "fold",
        "pass": "pass over all images",
        "image": "test image",
        "session": "recording session",
    }[n.resource]
    return (
        name
        if count == 1
        else name.replace("pass", "passes", 1)
        if n.resource == "pass"
        else f"{name}es"
        if name == "search"
        else f"{name}s"
    )
