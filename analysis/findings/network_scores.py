"""The score of a network, or of several together, with its interval over images; its calibration, and the rule by which it decides."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from analysis.data.predictions import Predictions
from analysis.statistics import resampling as st
from analysis.statistics.intervals import images_estimate, share_interval
from study.inference.softmax import softmax
from study.metrics import calibration_error, fit_temperature, log_shares
from study.scoring.decide import Deciding
from study.scoring.metric import Metric, Said


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
