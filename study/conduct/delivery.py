"""Delivery: after the verdict, and independent of it, one network is trained on all usable images for as long as this helps.

The strategy is the verdict's, and its settings are the best on validation of all its searches. Several numbers of epochs are tried
(`search.lengths`): those of the confirm runs, and three and ten times as many. Each is trained with the seeds of two confirm runs and
judged by validation at the last epoch. Existing runs of the study are used again, and a length that scores below a shorter one is the
last one tried. Exact solutions compete by their own validation score.

The winner is trained once more on training and validation images for as many epochs, and its last epoch is kept. It predicts the test
images once: an opening that is recorded and does not count, since validation alone chose the network and no comparison has it. With outer
folds every image was tested before the verdict. Then the network is trained on all images, and its score is that of the strategy's
networks, each on the fold that it never saw.

Every run is an ask of the ledger with a seed that is a pure function of the study's, so after any interruption the same call resumes.
"""

import math
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from analysis.data.predictions import Predictions, read_predictions
from analysis.findings.delivered import day, epochs_of, grown_since
from analysis.findings.network_scores import tested
from analysis.findings.pick import Pick, find_pick
from analysis.load import load
from analysis.statistics.resampling import RESAMPLES
from analysis.statistics.temperature import crossfit, thresholds_of
from analysis.verdict import findings
from study.conduct.candidates import Candidate, candidates, images_of
from study.conduct.same_images import Tables
from study.conduct.stages import Executor, is_done
from study.console.eta import Remaining
from study.console.text import span
from study.datasets.spec import TEST, VAL, kept_by_class
from study.errors import ConfigError, EnvironmentProblem
from study.inference.softmax import softmax
from study.question.study_config import Study
from study.records import Ask, Outcome
from study.scoring import Metric, metric_of
from study.scoring.decide import decide_by
from study.search.lengths import Tried, affordable, choose, is_lower, price
from study.search.plans import FixedPlan
from study.tracking.ledger import DELIVERY, Ledger


@dataclass(frozen=True, kw_only=True)
class Order:
    """The delivery planned for one data set: its candidates, and the numbers of epochs to try of the first one."""

    key: str  # of delivered.json
    pick: Pick
    candidates: list[Candidate]
    lengths: tuple[int, ...]
    images: int  # that it is trained on in the end
    share: float  # the same as a share of the training images
    seconds: float  # at most

    @property
    def first(self) -> Candidate:
        return self.candidates[0]


@dataclass(frozen=True, kw_only=True)
class Stays:
    """A network that was delivered before; `text` says how to deliver anew."""

    text: str
    grown: bool  # the study has, since


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A candidate and the length chosen for it."""

    candidate: Candidate
    tried: tuple[Tried, ...]
    runs: dict[int, list[str]]  # trials by epochs

    @property
    def taken(self) -> Tried:
        return choose(self.tried)


# ---- what is to be done, and its price ---------------------------------------------------------------------------


def ordered(
    ledger: Ledger, tables: Tables, wanted: str = "", *, hours: float = math.inf, again: bool = False
) -> tuple[list[Order], list[Stays]]:
    """Return (deliveries to make, networks delivered before that stay).

    Raises ConfigError for a study that is not finished, or for too few hours.
    """
    frames = load(ledger)
    if frames.in_progress:
        raise ConfigError(
            f"{ledger.folder.location} is not finished. Run python -m study.sweep {ledger.folder.location} to its end, then deliver."
        )
    picks = [p for p in findings(frames).picks if p.delivered is None]
    chosen = [find_pick(picks, wanted)] if wanted else [p for p in picks if p.leads]
    if not chosen:
        raise ConfigError(f"{ledger.folder.location} has no trained network to deliver: no trial of it has completed.")
    orders, kept = [], []
    for pick in chosen:
        key = pick.cell.data.key
        if key in frames.delivered and not again:
            kept.append(_stays(ledger, pick, frames.delivered[key], frames.amendments, wanted))
            continue
        named = wanted == pick.cell.id or pick.cell.strategy in wanted.split("/")
        orders.append(_order(frames.study, ledger, tables, pick, key, candidates(frames.study, ledger, pick, alone=named)))
    return _within(orders, ledger, hours), kept


def _stays(ledger: Ledger, pick: Pick, entry: dict[str, Any], amendments: Sequence[dict[str, Any]], wanted: str) -> Stays:
    grown = grown_since(amendments, entry["at"])
    since = "" if grown is None else f", before the study grew on {day(grown)}"
    text = (
        f"{pick.of}: delivered on {day(entry['at'])}{since} (trial {entry['trial']}), and it stays. To deliver anew, and keep this one "
        f"beside it, run python -m study.deliver {shlex.quote(f'{ledger.folder.location}:{wanted}'.rstrip(':'))} --again"
    )
    return Stays(text=text, grown=grown is not None)


def _order(study: Study, ledger: Ledger, tables: Tables, pick: Pick, key: str, found: list[Candidate]) -> Order:
    table, first = tables[pick.cell.dataset, pick.cell.split_protocol], found[0]
    others = table.of(VAL)[0] + (table.of(TEST)[0] if study.folds > 1 else 0)
    images, share = images_of(kept_by_class(table, pick.cell.train_fraction), others)
    return Order(
        key=key,
        pick=pick,
        candidates=found,
        lengths=first.lengths,
        images=images,
        share=share,
        seconds=price(first.lengths, _to_train(ledger, first), first.epoch_seconds(ledger), share),
    )


def _to_train(ledger: Ledger, candidate: Candidate) -> dict[int, int]:
    """Return by number of epochs the fresh runs it needs, trained ones included, so a resumed delivery is the one that was begun."""
    return {epochs: len(candidate.to_train(ledger, epochs)) for epochs in candidate.lengths}


def _within(orders: Sequence[Order], ledger: Ledger, hours: float) -> list[Order]:
    """Return each order with the lengths that fit its part of the hours; parts are in proportion to the full cost.

    Raises ConfigError where a part holds no length.
    """
    whole = sum(o.seconds for o in orders)
    out = []
    for order in orders:
        first, to_train = order.first, _to_train(ledger, order.first)
        pace, part = first.epoch_seconds(ledger), 3600 * hours * (order.seconds / whole if whole and len(orders) > 1 else 1)
        lengths = affordable(first.lengths, to_train, pace, order.share, part)
        if not lengths:
            least = price(first.lengths[:1], to_train, pace, order.share)
            needed = _enough(least / 3600 * (hours * 3600 / part if part else len(orders)))
            raise ConfigError(
                f"{hours:g} hours are not enough to deliver: {order.pick.of} needs {span(least)} for {first.name} with "
                f"{epochs_of(first.lengths[0])} on {order.images:,} images. Give --hours {needed:g}, or leave it out."
            )
        seconds = price(lengths, to_train, pace, order.share)
        out.append(replace(order, lengths=lengths, seconds=seconds))
    return out


def _enough(hours: float) -> float:
    """Return the hours rounded up to two digits."""
    digit = 10.0 ** (math.floor(math.log10(hours)) - 1) if hours > 0 else 0.01
    return round(math.ceil(hours / digit - 1e-9) * digit, 12)


def plan_lines(orders: Sequence[Order], ledger: Ledger) -> list[str]:
    """Return the trainings planned, one line each, with times estimated from the study's trials."""
    out = []
    for order in orders:
        first, pace = order.first, order.first.epoch_seconds(ledger)
        out.append(f"{order.pick.of}: {first.name} ({first.reason}) on {order.pick.cell.backbone}")
        for rival in order.candidates[1:]:
            out.append(f"  {rival.name} competes by its validation score ({rival.reason})")
        for epochs in order.lengths:
            asks, known = first.to_train(ledger, epochs), first.known(ledger, epochs, fresh=False)
            left = sum(ledger.result(a.trial_id) is None for a in asks)
            parts = [f"{len(known)} of the study's own runs"] if known else []
            parts += [f"{len(asks) - left} trained already"] if left < len(asks) else []
            parts += [f"{left} to train, about {span(left * epochs * pace)}"] if left else []
            out.append(f"  {epochs_of(epochs)}: {', '.join(parts)}")
        longest = max(order.lengths)
        out.append(
            f"  then once more on {order.images:,} "
            f"{'images, all there are' if first.folds > 1 else 'training and validation images'}, at most "
            f"{span(longest * pace * order.share)}"
        )
        if missing := [e for e in first.lengths if e not in order.lengths]:
            out.append(f"  not within the hours: {', '.join(map(str, missing))} epochs")
    if orders:
        out.append(
            f"at most {span(sum(o.seconds for o in orders))} in all, one run after the other, as the study's trials took their epochs; "
            "a length that scores lower than the one before it ends the trying."
        )
    return out


# ---- doing it -------------------------------------------------------------------------------------------------------


def deliver(
    executor: Executor, wanted: str = "", *, hours: float = math.inf, again: bool = False, alone: Executor | None = None
) -> list[Stays]:
    """Train and hand over; return the networks delivered before that stay as they are.

    `alone`: runs a single trial best, where that is not `executor`. A signal ends it early, and the same call resumes. Raises ConfigError
    as `ordered` does, EnvironmentProblem where a run failed.
    """
    orders, kept = ordered(executor.ledger, executor.tables, wanted, hours=hours, again=again)
    for order in orders:
        settled = []
        for candidate in order.candidates:
            own = _settle(executor, candidate, order.lengths if candidate is order.first else candidate.lengths)
            if own is None:
                return kept
            settled.append(own)
        best = max(settled, key=lambda s: (s.taken.mean, s.candidate.exact))
        ask = best.candidate.refit(executor.ledger, best.taken.epochs)
        if not _refit(alone or executor, ask):
            return kept
        executor.ledger.write_delivered(order.key, _entry(executor.ledger, order, settled, best, ask))
        _let_go(executor.ledger, settled)
    return kept


def _settle(executor: Executor, candidate: Candidate, lengths: Sequence[int]) -> Settled | None:
    """Train the missing runs, from the shortest length on; return None where a signal came.

    A longer length is not taken where one of its runs diverged or failed. Raises EnvironmentProblem where no run of the shortest length
    completed.
    """
    ledger, tried, runs = executor.ledger, list[Tried](), dict[int, list[str]]()
    for epochs in lengths:
        asks = candidate.to_train(ledger, epochs)
        _run(executor, f"delivery: {candidate.name}, {epochs_of(epochs)}", asks, ("validation",), epochs)
        if executor.interrupted.is_set():
            return None
        known = candidate.known(ledger, epochs)
        here = {a.trial_id for a in known}
        lost = [a for a in asks if a.trial_id not in here]
        if tried and (lost or not known):
            break
        if not known:
            reason = (r.reason or r.outcome.value) if lost and (r := ledger.result(lost[0].trial_id)) else "nothing completed"
            raise EnvironmentProblem(
                f"{candidate.cell} cannot be delivered: {reason}. Look at the reason, remove the trial's folder, run again."
            )
        scores, seeds = tuple(_last(ledger, a) for a in known), tuple(int(a.config["seed"]) for a in known)
        tried.append(Tried(epochs=epochs, scores=scores, seeds=seeds))
        runs[epochs] = [a.trial_id for a in known]
        if any(is_lower(tried[-1], shorter) for shorter in tried[:-1]):
            break
    return Settled(candidate=candidate, tried=tuple(tried), runs=runs)


def _last(ledger: Ledger, ask: Ask) -> float:
    """Validation score at the last epoch, whatever epoch was kept; at the kept one where no curve is left."""
    result, epochs = ledger.result(ask.trial_id), ledger.epochs(ask.trial_id, ended=True)
    assert result is not None, "it was asked for completed runs"
    score = epochs[-1].objective if epochs else result.objective
    assert score is not None, "a completed run on validation images has a score"
    return score


def _refit(executor: Executor, ask: Ask) -> bool:
    """Train the delivered network and predict the test images; return False where a signal came. Raises EnvironmentProblem."""
    tests = () if ask.config.get("train_on") == "all" else ("predictions",)
    if tests:
        executor.ledger.open_test([ask.trial_id], DELIVERY)
    epochs = int(ask.config["protocol"]["max_epochs"])
    _run(executor, f"delivery: {ask.config['cell']['strategy']}, all images", [ask], tests, epochs)
    if executor.interrupted.is_set():
        return False
    result = executor.ledger.result(ask.trial_id)
    if result is None or result.outcome is not Outcome.COMPLETED:
        reason = f"{result.outcome.value}: {result.reason}" if result else "it did not end"
        place = executor.ledger.trial_folder(ask.trial_id).location
        raise EnvironmentProblem(f"{ask.cell} cannot be delivered: {reason}. Look at the reason, remove {place}, run again.")
    return True


def _run(executor: Executor, title: str, asks: list[Ask], measurements: tuple[str, ...], epochs: int) -> None:
    done = {a.trial_id for a in asks if is_done(executor.ledger, a.trial_id, measurements)}
    left = Counter((a.cell, 1.0) for a in asks if a.trial_id not in done)
    executor(title, FixedPlan(asks, done), measurements=measurements, remaining=Remaining(max_epochs=epochs, todo=left, of="this stage"))


def _entry(ledger: Ledger, order: Order, settled: Sequence[Settled], best: Settled, ask: Ask) -> dict[str, Any]:
    """Return the delivery's entry in delivered.json."""
    taken, facts = best.taken, ledger.epochs(ask.trial_id, ended=True)[-1].facts
    first, reason, words = settled[0], best.candidate.reason, metric_of(ask.config)
    if best is not first:
        reason += (
            f", and better on validation than {first.candidate.name} ({words.shown(taken.mean):.1f} against "
            f"{words.shown(first.taken.mean):.1f})"
        )
    said = [p for t in best.runs[taken.epochs] if (p := _on_validation(ledger, t)) is not None]
    temperature = crossfit(said) if said else None
    test, result = read_predictions(ledger, ask.trial_id).get("test"), ledger.result(ask.trial_id)
    metric, own = metric_of(ask.config).bind(result.classes if result else ()), thresholds_of(said)
    if test is not None and own is not None:
        test = replace(test, thresholds=own)
    return {
        "trial": ask.trial_id,
        "cell": ask.cell,
        "strategy": best.candidate.name,
        "reason": reason,
        "seed": ask.config["seed"],
        "epochs": taken.epochs,
        "images": int(facts.get("train_images", order.images)),
        "lengths": [{"epochs": t.epochs, "validation": list(t.scores), "trials": best.runs[t.epochs]} for t in best.tried],
        "validation": taken.mean,
        "candidates": [{"strategy": s.candidate.name, "epochs": s.taken.epochs, "validation": s.taken.mean} for s in settled],
        "temperature": temperature.temperature if temperature else 1.0,
        **({} if own is None else {"thresholds": own.tolist()}),
        **_threshold(metric, said, temperature.temperature if temperature else 1.0),
        "calibration": {k: v for k, v in asdict(temperature).items() if k != "temperature"} if temperature else {},
        "test": _tested(order.pick if best is first else None)
        if test is None
        else asdict(tested(test, test.logits, RESAMPLES, metric, temperature.temperature if temperature else 1.0)),
        "compared": {"strategy": order.pick.cell.strategy, "trial": order.pick.trial, "test": order.pick.average},
        "at": time.time(),
    }


def _threshold(metric: Metric, said: Sequence[Predictions], temperature: float) -> dict[str, Any]:
    """The threshold that these runs' validation images choose, where the metric has one."""
    if not said or said[0].several:
        return {}
    probabilities = softmax(np.concatenate([p.logits for p in said]) / temperature)
    rule = decide_by(metric, probabilities, np.concatenate([p.labels for p in said]))
    return {} if rule.threshold is None else {"threshold": {"at": rule.threshold, "of": rule.of}}


def _tested(pick: Pick | None) -> dict[str, float] | None:
    """Return the score of a network trained on all images: that of its strategy's networks on the folds that they never saw."""
    return asdict(pick.test) if pick and pick.test else None


def _on_validation(ledger: Ledger, trial_id: str) -> Predictions | None:
    """Return a run's predictions on its validation images; None where they were not kept."""
    return read_predictions(ledger, trial_id, "validation").get("val") or read_predictions(ledger, trial_id).get("val")


def _let_go(ledger: Ledger, settled: Sequence[Settled]) -> None:
    """Remove the networks that were trained to choose a length; their predictions on validation are kept."""
    for own in settled:
        for epochs in own.candidate.lengths:
            for ask in own.candidate.to_train(ledger, epochs):
                ledger.trial_folder(ask.trial_id).remove("best")
