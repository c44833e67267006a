"""The network to use: its strategy, its confirm run, its score, and whether several networks together score more.

No test score chooses anything here. The strategy is the verdict's: the one left standing; or the cheapest that is
good enough; or of those not shown to be worse the cheapest, where that is not expected to cost more than is worth having, and the best on
validation where it is. Where one of them was cut short there
is no verdict yet, and the best on validation is taken;
of its confirm runs the one with the best validation score; of several backbones or sizes the one whose confirm runs did best on
validation. So the test score beside it is one that nothing was picked by. With outer folds it is that of all the strategy's networks, each
on the images that it never saw: a fold alone has few.
"""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.frames import CONFIRMING, Frames
from analysis.data.predictions import Predictions
from analysis.data.question import Question
from analysis.findings.answers import Ranking
from analysis.findings.delivered import Delivered
from analysis.findings.over_folds import pooled_passes
from analysis.findings.short import were_cut_short
from analysis.statistics import resampling as st
from analysis.statistics.intervals import difference_interval, images_estimate, share_interval
from study.console.text import joined
from study.errors import ConfigError, nearest
from study.inference.softmax import pooled, softmax
from study.metrics import calibration_error, fit_temperature, log_shares
from study.question.cell import Cell
from study.scoring.decide import Deciding, decide_by
from study.scoring.labels import best_thresholds
from study.scoring.metric import DEFAULT, Metric, Said
from study.strategies import EVERY


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score, higher where better, with its 95 % interval over test images or whole recording sessions.

    Most metrics are shares in [0, 1], with differences in [-1, 1].
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A temperature fitted on validation, and the expected calibration error on test without (`before`) and with it (`after`)."""

    temperature: float
    before: float
    after: float

    @property
    def text(self) -> str:
        """Return the temperature and the error that remains, in words."""
        return f"temperature {self.temperature:.2f}, fitted on validation; expected calibration error on test {100 * self.after:.1f} %"


@dataclass(frozen=True, kw_only=True)
class Together:
    """The confirm runs of a cell as one network: the mean of their probabilities, at as many times the cost."""

    networks: int
    test: Score
    gain: Score  # over the mean score of its networks, on the same images
    calibrated: Calibrated | None
    thresholds: tuple[float, ...] = ()  # of labels' logits, where an image may have several


@dataclass(frozen=True, kw_only=True)
class Pick:
    """The network to use of one cell."""

    cell: Cell
    question: Question
    trials: tuple[
        str, ...
    ]  # its confirm runs on one split, best validation first: the first is the pick; the search's winner where none was confirmed
    confirmed: bool
    settings: Mapping[str, Any]  # what was searched
    seed: int
    epoch: int  # of the kept checkpoint
    validation: float  # its score there, optimistic
    test: Score | None = None  # None where nothing was confirmed
    calibrated: Calibrated | None = None
    together: Together | None = None
    reason: str = ""  # why this strategy, of the one that speaks for its question; else empty
    leads: bool = False  # the one for its data set
    average: float | None = None  # mean test score of its runs
    folds: int = 1  # outer folds, of which its network saw all but one; `test` and `calibrated` are of the networks of all of them
    metric: Metric = DEFAULT
    deciding: Deciding = Deciding()  # how its probabilities after the temperature become an answer
    decided: Score | None = None  # on test by that rule, where it is another than the comparison's
    delivered: Delivered | None = None  # how it came about, where it is no compared network but the one that is handed over

    @property
    def trial(self) -> str:
        return self.trials[0]

    @property
    def temperature(self) -> float:
        if self.calibrated:
            return self.calibrated.temperature
        return self.delivered.temperature if self.delivered else 1.0

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Return the thresholds of labels' logits of a network that is handed over: it had no validation images to keep them by."""
        return self.delivered.thresholds if self.delivered else ()

    @property
    def probabilities(self) -> str:
        """Return in words how its probabilities were calibrated, and how far off they are where that was measured."""
        if self.calibrated:
            return self.calibrated.text
        if self.temperature != 1.0:
            return f"temperature {self.temperature:.2f}, whose error was not measured"
        return "probabilities as trained"

    @property
    def rule(self) -> str:
        """Return how it decides where it does not give the likeliest class, with its score then, else ""."""
        text = self.deciding.text(self.metric.classes)
        return f"{text}: test {self.metric.words} {points(self.decided, self.metric)}" if text and self.decided else text

    @property
    def named(self) -> str:
        """Return its strategy, for a delivered network followed by its training."""
        return self.cell.strategy if self.delivered is None else f"{self.cell.strategy}, delivered: {self.delivered.text}"

    @property
    def outdated(self) -> str:
        """Return a sentence where a delivered network is older than the study's last growth, else ""."""
        return self.delivered.outdated if self.delivered else ""

    @property
    def among(self) -> str:
        """Return in words its place among the study's numbers of images, budgets and image sizes, or "" where there is one of each."""
        own = self.question
        if EVERY[self.cell.strategy].exact:  # it stands beside all of them
            own = dataclasses.replace(own, max_epochs=0, image_size=0)
        asked = ", ".join(own.lines[2:])
        return f" ({asked})" if asked and self.delivered is None else ""

    @property
    def dataset(self) -> str:
        """Return its data set as people say it, and as a command takes it behind the study."""
        return self.cell.data.short

    @property
    def of(self) -> str:
        """Return its data set, with its splits where they are not the official ones."""
        return self.cell.data.called

    @property
    def shown_settings(self) -> str:
        return in_words(self.settings)

    @property
    def scores(self) -> str:
        """Return its test score in words."""
        if self.delivered is not None and self.folds > 1 and self.test is not None:
            return (
                f"its strategy's {self.folds} networks, each on the images that it never saw: test {self.metric.words} "
                f"{points(self.test, self.metric)}"
            )
        if self.delivered is not None:
            own = "no test predictions are kept" if self.test is None else f"test {self.metric.words} {points(self.test, self.metric)}"
            return f"{own}; {self.delivered.beside}" if self.delivered.beside else own
        if self.test is None:
            return (
                f"validation {self.metric.words} {self.metric.shown(self.validation):.1f} (of the search, optimistic; not "
                "confirmed, no test score)"
            )
        return f"test {self.metric.words} {points(self.test, self.metric)}"

    @property
    def gain(self) -> str:
        """Return in words the gain of averaging all its runs, or "" where there is only one."""
        t = self.together
        if t is None:
            return ""
        return (
            f"all {t.networks} confirm runs together: test {self.metric.words} {points(t.test, self.metric)}, {gained(t.gain)} "
            f"{self.metric.short} over one of them on average, at {t.networks} times the cost"
        )


def in_words(settings: Mapping[str, Any]) -> str:
    """Return the settings in words, as in "lr 0.0003, unfreeze_depth 2"."""
    return ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in settings.items())


def points(score: Score, metric: Metric) -> str:
    """A score with its interval, as people read it: "83.1 [80.2, 85.5]"."""
    low, high = metric.interval(score.low, score.high)
    return f"{metric.shown(score.mean):.1f} [{low:.1f}, {high:.1f}]"


def natural(score: Score, metric: Metric) -> dict[str, float]:
    """mean, low and high as the metric's own numbers: those of a loss are positive."""
    ends = sorted(metric.natural(v) for v in (score.low, score.high))
    return {"mean": metric.natural(score.mean), "low": ends[0], "high": ends[1]}


def gained(score: Score) -> str:
    """A gain with its interval, more being better."""
    return f"{100 * score.mean:+.1f} [{100 * score.low:+.1f}, {100 * score.high:+.1f}]"


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


def pick_row(pick: Pick) -> dict[str, Any]:
    """Return its row of a table. Scores are shares, not points."""
    test = pick.test or Score(mean=np.nan, low=np.nan, high=np.nan)
    return {
        **pick.question.columns,
        "strategy": pick.cell.strategy,
        "leads": pick.leads,
        "delivered": pick.delivered is not None,
        "reason": pick.reason,
        "trial_id": pick.trial,
        "seed": pick.seed,
        "validation": pick.validation,
        "test": test.mean,
        "low": test.low,
        "high": test.high,
        "temperature": pick.temperature,
        "settings": pick.shown_settings,
    }


NOTHING = "no trial of the study has finished yet; run it to its end."
COMPARED = "compared"
"""The word behind a colon for the network that the report compares, where another one was delivered."""


def find_pick(picks: Sequence[Pick], wanted: str = "", *, compared: bool = False, none: str = NOTHING) -> Pick:
    """Find the network that `wanted` names: a cell's id, or any of its parts joined by "/".

    The parts are data set, NAME@SPLITS, backbone, strategy, share of the images, budget ("3x", "30 epochs") and image size ("128px").
    Of several that fit, the delivered network comes first, else the one that leads. A strategy, a backbone, a share or `COMPARED` in
    the name means a compared network, and so does `compared=True`.

    Raises ConfigError where none fits or several data sets do. `none` is its text where there is no pick at all.
    """
    among = [p for p in picks if p.delivered is None] if compared else picks
    fit = [p for p in among if p.delivered is None and p.cell.id == wanted] or [p for p in among if _fits(p, wanted)]
    if len({(p.cell.dataset, p.cell.split_protocol) for p in fit}) == 1:
        return max(fit, key=lambda p: (p.delivered is not None, p.leads, bool(p.reason), p.validation))
    known = list(dict.fromkeys([*(p.of for p in picks), *(f"{p.of}/{p.cell.strategy}" for p in picks)]))
    if not known:
        raise ConfigError(none)
    what = f"{wanted!r} names {len(fit)} cells" if wanted else "the study asks on several data sets"
    raise ConfigError(f"{what}; name one behind a colon, as RESULTS/STUDY:{known[0]}: {nearest(wanted, known)}.")


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


def _fits(pick: Pick, wanted: str) -> bool:
    c = pick.cell
    own = {c.dataset, pick.dataset, c.splits, pick.of, c.data.short_full}
    if pick.delivered is None:
        own |= {c.backbone, c.strategy, f"{c.train_fraction:g}", f"{c.budget}x", f"{c.image_size}px", COMPARED, *pick.question.lines[2:]}
        own.add(c.id.rpartition("/")[2])
    return wanted in own or all(part in own for part in wanted.split("/") if wanted)


# ---- one cell -----------------------------------------------------------------------------------------------


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


def calibrate(val: Predictions, test: Predictions) -> Calibrated | None:
    """Fit the temperature on `val` and measure its effect on `test`. None where an image may have several labels: each has a threshold."""
    if val.several:
        return None
    return calibrated_by(fit_temperature(val.logits, val.labels), test)


def calibrated_by(t: float, test: Predictions) -> Calibrated:
    """Measure the effect of the temperature `t` on `test`."""
    before, after = (calibration_error(np.exp(log_shares(test.logits / k)), test.labels) for k in (1.0, t))
    return Calibrated(temperature=t, before=before, after=after)


def metric_temperature(metric: Metric, val: Predictions) -> float:
    """Return the number that the metric divides a network's logits by, 1 where it is of uncalibrated ones."""
    return 1.0 if val.several else metric.temperature(val.logits, val.labels)


def scored(about: Predictions, logits: np.ndarray, resamples: int, metric: Metric, temperature: float = 1.0) -> tuple[float, np.ndarray]:
    """The score, and the same on resampled images [B], the same draws for every network. `temperature`: where the metric is of calibrated
    probabilities."""
    weights = st.shared_weights(len(about.labels), about.groups, resamples)
    said = dataclasses.replace(about, logits=logits).said(metric, temperature if metric.calibrated else 1.0)
    one, again = (metric.score(about.labels, said, w, logits.shape[1]) for w in (None, weights))
    return float(one), np.where(np.isnan(again), float(one), again)


def tested(about: Predictions, logits: np.ndarray, resamples: int, metric: Metric, temperature: float = 1.0) -> Score:
    """The same with its interval over images."""
    return share_of(about, *scored(about, logits, resamples, metric, temperature), metric)


def ruled(about: Predictions, deciding: Deciding, temperature: float, resamples: int) -> Score:
    """The score of what `deciding` says of probabilities after the temperature, with its interval over images."""
    said = Said(named=deciding(softmax(about.logits / temperature)))
    weights = st.shared_weights(len(about.labels), about.groups, resamples)
    one, again = (deciding.metric.score(about.labels, said, w) for w in (None, weights))
    return share_of(about, float(one), again, deciding.metric)


def share_of(about: Predictions, score: float, resampled: np.ndarray, metric: Metric) -> Score:
    units = st.image_units(len(about.labels), about.groups)
    low, high = share_interval(images_estimate(score, resampled, units, metric))
    return Score(mean=score, low=low, high=high)


# ---- which strategy, which question ---------------------------------------------------------------------------


def _strategy(frames: Frames, picks: Sequence[Pick], answer: Ranking | None) -> tuple[str, str]:
    """Return (strategy, reason) for the picks of one question."""
    own = {p.cell.strategy: _on_validation(frames, p) for p in picks if not EVERY[p.cell.strategy].yardstick}
    if len(own) == 1:
        return next(iter(own)), "the only strategy asked about"
    best = max(own, key=own.__getitem__)
    if answer is not None and answer.cut_short and not answer.winner:
        return best, f"no verdict yet: {were_cut_short([s.strategy for s in answer.cut_short])}; the best on validation"
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
    if answer.mark == "open" and 100 * answer.loss > frames.study.margin:
        best = max(answer.standing, key=own.__getitem__)
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
