"""Networks that are handed over, beside the compared ones: one for each data set that had one delivered."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from analysis.data.frames import Frames
from analysis.data.predictions import read_predictions
from analysis.findings.delivered import delivered_of
from analysis.findings.network_scores import calibrated_by, tested
from analysis.findings.pick import Pick
from analysis.statistics import resampling as st
from study.question.trial_config import TrialConfig
from study.records import Ask
from study.scoring.decide import Deciding
from study.scoring.metric import Metric


def with_delivered(frames: Frames, picks: Sequence[Pick], resamples: int = st.RESAMPLES) -> list[Pick]:
    """Return the compared networks, then the delivered network of every data set that has one here."""
    out = list(picks)
    for key, entry in frames.delivered.items():
        ask = frames.ledger.ask(entry["trial"])
        if ask is not None:
            compared = next((p for p in picks if p.leads and key == p.cell.data.key), None)
            own = _pick(frames, entry, ask, compared, resamples)
            out.append(_scored_over_folds(own, picks) if frames.study.folds > 1 else own)
    return out


def _scored_over_folds(own: Pick, picks: Sequence[Pick]) -> Pick:
    """Give a delivered network the score of its strategy's networks, each on the fold that it never saw.

    It was itself trained on all images, so no images are left to score it.
    """
    same = next((p for p in picks if p.cell == own.cell and p.delivered is None), None)
    return own if same is None else replace(own, test=same.test, folds=same.folds)


def to_use(picks: Sequence[Pick]) -> list[Pick]:
    """Return one network per data set: the delivered one, else the compared one that the verdict speaks for."""
    chosen: dict[tuple[str, str], Pick] = {}
    for p in picks:
        key = (p.cell.dataset, p.cell.split_protocol)
        if p.leads and (key not in chosen or p.delivered is not None):
            chosen[key] = p
    return list(chosen.values())


def _rule(metric: Metric, entry: Mapping[str, Any]) -> Deciding:
    """Return how the network decides, from validation predictions of runs of its length.

    Where nothing was kept it is the likeliest class, or the one that costs least.
    """
    own = entry.get("threshold")
    return Deciding(metric=metric, threshold=own["at"], of=own["of"]) if own else Deciding(metric=metric)


def _pick(frames: Frames, entry: Mapping[str, Any], ask: Ask, compared: Pick | None, resamples: int) -> Pick:
    config = TrialConfig.from_dict(ask.config)
    cell = frames.cells.get(ask.cell, config.cell)
    average = compared.average if compared else None
    other = compared.cell.strategy if compared and compared.cell.strategy != cell.strategy else ""
    test = read_predictions(frames.ledger, ask.trial_id).get("test")
    delivered = delivered_of(entry, frames.amendments, average, other, frames.scored_by)
    metric = frames.scored_by.bind(frames.classes.get(ask.cell) or frames.classes.get(cell.id) or ())
    if test is not None and delivered.thresholds:
        test = replace(test, thresholds=np.array(delivered.thresholds))
    score = tested(test, test.logits, resamples, metric, entry["temperature"]) if test is not None else None
    return Pick(
        cell=cell,
        question=frames.question_of(cell),
        trials=(ask.trial_id,),
        confirmed=True,
        settings=config.values(["strength"] if config.strategy.exact else frames.study.ranges(cell)),
        seed=config.seed,
        epoch=delivered.epochs,
        validation=entry["validation"],
        test=score,
        calibrated=calibrated_by(delivered.temperature, test) if test is not None and delivered.calibration_runs else None,
        reason=entry["reason"],
        leads=True,
        delivered=delivered,
        metric=metric,
        deciding=_rule(metric, entry),
    )
