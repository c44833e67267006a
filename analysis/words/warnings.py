"""Warnings about a study: the questions that a careful reader would ask."""

import time
from collections.abc import Iterator, Sequence

from analysis.data.frames import Frames
from analysis.data.missing import losses
from analysis.data.question import Question
from analysis.findings.budget_check import longer
from analysis.findings.fairness import range_edges, trial_counts
from analysis.findings.short import shorts
from analysis.findings.too_few_pixels import small
from analysis.findings.verdict_pairs import Pair, look
from analysis.statistics import resampling as st
from analysis.statistics.forecast import alpha_of_look
from analysis.statistics.intervals import few_units

PARTS = ("size of the training set", "sizes of the training set")
QUESTIONS = ("question", "questions")


def warnings(frames: Frames, pairs: Sequence[Pair]) -> list[str]:
    """Return the warnings, one line each, the gravest first."""
    out = [*_of_the_study(frames), *losses(frames)]
    if not len(frames.trials):
        return out
    edges = (f"{cell}: the {text}. Widen it and run again" for cell, text in range_edges(frames))
    out += [
        *(str(w) for w in frames.facts.get("data_warnings", [])),
        *_cut_short(frames),
        *_small_images(frames),
        *_of_the_budget(frames),
        *_of_the_trials(frames),
        *edges,
        *_of_the_pairs(pairs),
    ]
    return out


def _cut_short(frames: Frames) -> Iterator[str]:
    """Yield one line per strategy that was cut short. Of several sizes it describes the largest.

    A question that the study also asks at a longer budget is left out, since there the effect is measured.
    """
    longest = {frames.question_of(c) for c in frames.study.cells if frames.study.is_longest(c)}
    by_size: dict[tuple[Question, str], dict[Question, str]] = {}
    for (question, strategy), short in shorts(frames).items():
        if question in longest:
            by_size.setdefault((question.base, strategy), {})[question] = short.found
    for (question, _), found in by_size.items():
        one, several = PARTS if len({q.image_size for q in found}) == 1 else QUESTIONS
        sizes = f" (the same at {len(found) - 1} more {one if len(found) == 2 else several})" if len(found) > 1 else ""
        yield f"{question.name}: {found[max(found, key=lambda q: q.size)]}{sizes}, so longer training may raise its score"


def _small_images(frames: Frames) -> Iterator[str]:
    asked = dict.fromkeys(frames.question_of(c) for c in frames.study.cells)
    largest = {base: max((q for q in asked if q.base == base), key=lambda q: (q.image_size, q.size)) for base in (q.base for q in asked)}
    for base, question in largest.items():
        if (found := small(frames, question)) is not None:
            yield f"{base.name}: trained {found.found}. {found.cost}"


def _of_the_pairs(pairs: Sequence[Pair]) -> Iterator[str]:
    if any(p.one_run for p in pairs):
        yield "some comparisons rest on one run each, so they have no interval"
    for question in dict.fromkeys(p.question for p in pairs):
        if small := next((p.small_classes for p in pairs if p.question == question), ""):
            why = small.partition(" (")[0]  # which they are, the verdict says
            yield f"{question.name}: intervals of macro-F1 are too narrow, since {why}. Those of accuracy hold"
        images = next(p.estimate.images for p in pairs if p.question == question)
        if any(few_units(p.estimate) for p in pairs if p.question == question):
            yield (
                f"{question.name}: its test images come from {images.count:g} sessions that tell as much as "
                f"{images.df + 1:.1f} of equal size. With so few, intervals are rough"
            )


def _of_the_study(frames: Frames) -> Iterator[str]:
    if frames.in_progress:
        yield "the study is in progress: figures will change"
    if len(frames.openings) > 1:
        level = 100 * alpha_of_look(look(frames))
        yield (
            f"the test set was opened {len(frames.openings)} times. The looks share the 5 % of false claims, so this one is "
            f"held to {level:.2g} %"
        )
    for amendment in (a for a in frames.amendments if not a.get("planned")):  # by its hours, before the test set was opened
        day = time.strftime("%Y-%m-%d", time.gmtime(amendment["at"]))
        when = ", when its test set was open already" if amendment["test_open"] else ""
        what = "joined the study" if amendment.get("beside") else "the study was extended"
        yield f"{what} on {day}{when}: {'; '.join(amendment['changes'])}"
    if frames.study.confirm_seeds < st.ENOUGH_SEEDS:
        seeds = frames.study.confirm_seeds
        yield f"each strategy has {seeds} confirm run{'s' * (seeds != 1)}. {st.ENOUGH_SEEDS} or more give better intervals"


def _of_the_budget(frames: Frames) -> Iterator[str]:
    """Yield the strategies that would gain by more training than they were confirmed at, and those whose score it lowered."""
    last = {(own.question, own.strategy): own for own in longer(frames)}
    for (question, strategy), own in last.items():
        if own.open:
            yield (
                f"{question.name}: {strategy} gained {own.points} {frames.scored_by.short} on validation by {own.epochs} "
                f"epochs instead of {own.against}, and was confirmed at {own.confirmed}: its verdicts are about short training"
            )
        elif own.falls:
            where = f", at which it was confirmed for equal epochs (at {own.against} its score was higher)" * (own.confirmed == own.epochs)
            yield (
                f"{question.name}: the score of {strategy} falls with longer training, by {own.points[1:]} "
                f"{frames.scored_by.short} at {own.epochs} epochs{where}"
            )


def _of_the_trials(frames: Frames) -> Iterator[str]:
    trials = frames.trials
    search = trials[trials.stage == "search"]
    counts = trial_counts(frames).values()
    if len(set(counts)) > 1:
        yield f"strategies had unequal numbers of trials: {min(counts)} to {max(counts)}"
    for cell, own in search.groupby("cell"):
        lost = float(own.outcome.isin(["diverged", "failed"]).mean())
        if lost > 0.2:
            yield f"{cell}: {lost:.0%} of its trials diverged or failed"
    slow = trials.straggler.dropna() if "straggler" in trials else trials.head(0).trial_id
    if len(slow):
        yield f"{len(slow)} of {len(trials)} trials waited for a slow worker, a straggler ({slow.iloc[0]}). Look at that machine"
