"""The choice of the network to use: its strategy, its confirm run, its score, and whether several networks together score more.

No test score chooses anything here. The strategy is the verdict's: the one left standing, or the cheapest that is good enough. Where
neither is known, it is the cheapest of those not shown to be worse, if neither test nor validation images make it cost more than is worth
having, and else the best on validation. Where one of them was cut short there is no verdict yet, and the best on validation is taken.

Of its confirm runs it is the one with the best validation score; of several backbones or sizes, the one whose confirm runs did best on
validation. So nothing was picked by the test score beside it. With outer folds that is the score of all the strategy's networks, each
on the images that it never saw: a fold alone has few.
"""

import dataclasses
import shlex
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.data.frames import CONFIRMING, Frames
from analysis.data.question import Question
from analysis.findings.answers import Ranking
from analysis.findings.network_scores import (
    Calibrated,
    Score,
    Together,
    calibrate,
    calibrated_by,
    metric_temperature,
    ruled,
    scored,
    share_of,
)
from analysis.findings.over_folds import pooled_passes
from analysis.findings.pick import Pick
from analysis.findings.short import were_cut_short
from analysis.statistics import resampling as st
from analysis.statistics.intervals import difference_interval, images_estimate
from study.console.text import joined
from study.inference.softmax import pooled, softmax
from study.metrics import fit_temperature
from study.question.cell import Cell
from study.scoring.decide import Deciding, decide_by
from study.scoring.labels import best_thresholds
from study.strategies import EVERY


def pick_all(frames: Frames, answers: Sequence[Ranking], resamples: int = st.RESAMPLES) -> list[Pick]:
    """Return the pick of every cell that has a network, in the order of the study's cells, the lines to beat last."""
    found = [p for cell in frames.cells.values() if (p := _pick(frames, cell, resamples)) is not None]
    speaking: dict[Question, Pick] = {}
    for question in dict.fromkeys(p.question for p in found):
        own = [p for p in found if p.question == question]
        strategy, reason = _strategy(frames, own, next((a for a in answers if a.question == question), None))
        speaking[question] = dataclasses.replace(next(p for p in own if p.cell.strategy == strategy), reason=reason)
    leading: dict[tuple[str, str], Pick] = {}
    for p in speaking.values():
        key = (p.cell.dataset, p.cell.split_protocol)
        if key not in leading or _rank(frames, p) > _rank(frames, leading[key]):
            leading[key] = p
    leads = {p.cell: dataclasses.replace(p, leads=True) for p in leading.values()}
    spoken = {p.cell: p for p in speaking.values()}
    return [leads.get(p.cell) or spoken.get(p.cell) or p for p in found]


def lost_choice(frames: Frames) -> bool:
    """Return True where winners were confirmed, but no record is left that they were chosen."""
    t = frames.trials
    own = t[t.stage.isin(CONFIRMING) & ~t.strategy.map(lambda name: EVERY[name].exact)] if len(t) else t
    return len(own) > 0 and not frames.chosen


def why_nothing(frames: Frames) -> str:
    """Return why a study has no network to use, and what to do."""
    done = int((frames.trials.outcome == "completed").sum()) if len(frames.trials) else 0
    run = f"python -m study.sweep {shlex.quote(frames.ledger.folder.location)}"
    if not done:
        return f"No trial of {frames.ledger.folder.location} has finished yet. Run it to its end: {run}"
    lost = frames.ledger.folder.shown("selection.json")
    return f"{lost} is not there, so none of {done} finished trials was chosen. Restore it, or choose again: {run}"


def _pick(frames: Frames, cell: Cell, resamples: int) -> Pick | None:
    """Return the pick of a cell, or None where none of its trials has finished."""
    done, t, objective = frames.confirmed(), frames.trials, frames.scored_by.recorded
    own = done[(done.cell == cell.id) & done[objective].notna()] if len(done) else done
    confirmed = len(own) > 0
    if confirmed:
        own = own.sort_values([objective, "number"], ascending=[False, True], kind="stable")
        own = own[own.splits == own.iloc[0].splits]  # networks of other folds have trained on this one's test images
    else:
        own = t[t.trial_id == frames.chosen.get(cell.id, "")] if len(t) else t
        if not len(own):
            return None
    first, trials = own.iloc[0], tuple(map(str, own["trial_id"]))
    searched = {"strength": first["strength"]} if EVERY[cell.strategy].exact else {n: first[f"hp/{n}"] for n in frames.study.ranges(cell)}
    pick = Pick(
        cell=cell,
        question=frames.question_of(cell),
        trials=trials,
        confirmed=confirmed,
        settings={k: v.item() if isinstance(v, np.generic) else v for k, v in searched.items() if not pd.isna(v)},
        seed=int(first.seed),
        epoch=int(first.best_epoch),
        validation=float(first[objective]),
        metric=frames.scored_by.bind(frames.classes[cell.id]) if cell.id in frames.classes else frames.scored_by,
    )
    if frames.study.folds > 1 and confirmed:
        return _scored_over_folds(frames, pick, done[done.cell == cell.id], resamples)
    return _scored(frames, pick, resamples) if pick.confirmed else pick


def _scored_over_folds(frames: Frames, pick: Pick, runs: pd.DataFrame, resamples: int) -> Pick:
    """Add the scores of the networks of all folds, each on its own images.

    `validation` becomes their mean, since each network was scored on other images.
    """
    pick = dataclasses.replace(
        pick, trials=pick.trials[:1], folds=frames.study.folds, validation=float(runs[frames.scored_by.recorded].mean())
    )
    passes = pooled_passes(frames, runs)
    if not passes:
        return pick
    several = passes[0]["test"].several
    by = (np.concatenate([getattr(p["val"], part) for p in passes]) for part in ("logits", "labels"))
    temperature = 1.0 if several else fit_temperature(*by)
    each = [scored(p["test"], p["test"].logits, resamples, pick.metric, temperature) for p in passes]
    score, again = float(np.mean([s for s, _ in each])), np.mean([r for _, r in each], axis=0)
    if several:
        return dataclasses.replace(pick, test=share_of(passes[0]["test"], score, again, pick.metric), average=score)
    found = [calibrated_by(temperature, p["test"]) for p in passes]
    before, after = (float(np.mean([getattr(c, when) for c in found])) for when in ("before", "after"))
    return dataclasses.replace(
        pick,
        test=share_of(passes[0]["test"], score, again, pick.metric),
        calibrated=Calibrated(temperature=temperature, before=before, after=after),
        average=score,
    )


def _scored(frames: Frames, pick: Pick, resamples: int) -> Pick:
    """Add what the predictions of its runs on validation and test images tell: score, calibration, and the gain of averaging them."""
    said = {t: p for t in pick.trials if {"val", "test"} <= (p := frames.predictions(t)).keys()}
    if pick.trial not in said:
        return pick
    val, test = ([own[split] for own in said.values()] for split in ("val", "test"))
    same = not any(other.differs(test[0]) for other in test[1:])
    metric, temperatures = pick.metric, [metric_temperature(pick.metric, v) for v in val]
    alone, again = scored(test[0], test[0].logits, resamples, metric, temperatures[0])
    pick = dataclasses.replace(pick, test=share_of(test[0], alone, again, metric), calibrated=calibrate(val[0], test[0]), average=alone)
    several = val[0].several
    deciding = Deciding() if several else decide_by(metric, softmax(val[0].logits / pick.temperature), val[0].labels)
    decided = None if deciding.threshold is None or metric.costs else ruled(test[0], deciding, pick.temperature, resamples)
    pick = dataclasses.replace(pick, deciding=deciding, decided=decided)
    if len(test) < 2 or not same:
        return pick
    each = [scored(p, p.logits, resamples, metric, t) for p, t in zip(test, temperatures, strict=True)]
    both_val, both_test = (dataclasses.replace(p[0], logits=pooled([q.logits for q in p], several)) for p in (val, test))
    if several:
        own = best_thresholds(both_val.logits, both_val.labels)
        both_val, both_test = (dataclasses.replace(p, thresholds=own) for p in (both_val, both_test))
    score, resampled = scored(both_test, both_test.logits, resamples, metric, metric_temperature(metric, both_val))
    mean, mean_again = float(np.mean([s for s, _ in each])), np.mean([r for _, r in each], axis=0)
    gain = images_estimate(score - mean, resampled - mean_again, st.image_units(len(test[0].labels), test[0].groups), metric)
    low, high = difference_interval(gain)
    together = Together(
        networks=len(test),
        test=share_of(both_test, score, resampled, metric),
        gain=Score(mean=gain.mean, low=low, high=high),
        calibrated=calibrate(both_val, both_test),
        thresholds=() if both_val.thresholds is None else tuple(both_val.thresholds.tolist()),
    )
    return dataclasses.replace(pick, trials=tuple(said), together=together, average=mean)


def _strategy(frames: Frames, picks: Sequence[Pick], answer: Ranking | None) -> tuple[str, str]:
    """Return (strategy, reason) for the picks of one question."""
    own = {p.cell.strategy: _on_validation(frames, p) for p in picks if not EVERY[p.cell.strategy].yardstick}
    if len(own) == 1:
        return next(iter(own)), "the only strategy asked about"
    best = max(own, key=own.__getitem__)
    if answer is not None and answer.cut_short and not answer.winner:
        return best, f"no verdict yet: {were_cut_short([s.strategy for s in answer.cut_short])}. The best on validation"
    if answer is None or len(answer.comparable) < 2 or not set(answer.standing) <= own.keys():
        return best, "no verdict: the best on validation"
    if answer.good_enough in own:
        chosen, metric = answer.good_enough, frames.scored_by
        lost = f"{metric.rounded_up(100 * answer.most(chosen)):g} {metric.measured}"
        return (
            chosen,
            f"good enough: at most {lost} behind the best (95 %), {100 * answer.worth:g} allowed",
        )
    if answer.winner:
        rest = f" among those comparable ({were_cut_short([s.strategy for s in answer.cut_short])})" if answer.cut_short else ""
        return answer.winner, f"the verdict's{rest}"
    best = max(answer.standing, key=own.__getitem__)
    dear = np.fmax(answer.loss, own[best] - own[answer.cheapest])  # by test images where that is known, and by validation images
    if answer.mark == "open" and 100 * dear > frames.study.margin:
        return best, f"undecided between {joined(answer.standing)}: the best on validation"
    which = "the cheapest" if set(answer.standing) <= set(answer.seconds) else "the highest mean"
    found = "no difference worth having" if answer.mark == "equal" else "undecided"
    return answer.cheapest, f"{found} between {joined(answer.standing)}: {which}"


def _rank(frames: Frames, pick: Pick) -> tuple[float, tuple[float, int, int]]:
    """Return a sort key: the highest validation score leads, then the longest training and the largest images."""
    return _on_validation(frames, pick), pick.question.size


def _on_validation(frames: Frames, pick: Pick) -> float:
    """Mean validation score of its runs."""
    if pick.folds > 1:
        return pick.validation
    t = frames.trials
    return float(t[t.trial_id.isin(pick.trials)][frames.scored_by.recorded].mean())
