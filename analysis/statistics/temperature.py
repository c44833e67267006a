"""A temperature, and the calibration error to expect with it: fitted on validation, judged there on images it was not fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.data.predictions import Predictions
from study.metrics import calibration_error, fit_temperature, log_shares
from study.scoring.labels import best_thresholds

FEWEST = 20  # images a half: of fewer, an error of 15 bins tells nothing


@dataclass(frozen=True, kw_only=True)
class Crossfit:
    """The temperature of several runs of a configuration.

    `before` and `after` are the expected calibration error on validation images, the mean over the runs, without a temperature and with
    the one fitted on the other half of the images. They are None where the halves are too small.
    """

    temperature: float
    runs: int
    images: int
    before: float | None
    after: float | None


def crossfit(runs: Sequence[Predictions]) -> Crossfit:
    """Fit one temperature on the predictions of several runs on validation, and estimate its calibration error by halves.

    The runs may have the same validation images or, on other parts or folds, each its own. Where images may have several labels nothing is
    fitted.
    """
    if runs[0].several:  # one temperature is of classes whose probabilities add up to one
        return Crossfit(temperature=1.0, runs=0, images=0, before=None, after=None)
    halves = [_halves(p.labels) for p in runs]
    whole = fit_temperature(np.concatenate([p.logits for p in runs]), np.concatenate([p.labels for p in runs]))
    images = min(len(p.labels) for p in runs)
    if images < 2 * FEWEST:
        return Crossfit(temperature=whole, runs=len(runs), images=images, before=None, after=None)
    fitted = {
        side: fit_temperature(
            np.concatenate([p.logits[h == side] for p, h in zip(runs, halves, strict=True)]),
            np.concatenate([p.labels[h == side] for p, h in zip(runs, halves, strict=True)]),
        )
        for side in (0, 1)
    }
    before = [_error(p.logits, p.labels) for p in runs]
    after = [_error(p.logits / np.where(h == 0, fitted[1], fitted[0])[:, None], p.labels) for p, h in zip(runs, halves, strict=True)]
    return Crossfit(temperature=whole, runs=len(runs), images=images, before=float(np.mean(before)), after=float(np.mean(after)))


def thresholds_of(runs: Sequence[Predictions]) -> np.ndarray | None:
    """Return [C] the mean over runs of the thresholds that each run's images give its labels.

    It is None where images have one label each, or without a run.
    """
    if not runs or not runs[0].several:
        return None
    out: np.ndarray = np.mean([best_thresholds(p.logits, p.labels) for p in runs], axis=0)
    return out


def _halves(labels: np.ndarray) -> np.ndarray:
    """Return [N] of 0 and 1 that split every class as evenly as possible."""
    side = np.zeros(len(labels), np.int64)
    side[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % 2
    return side


def _error(logits: np.ndarray, labels: np.ndarray) -> float:
    return calibration_error(np.exp(log_shares(logits)), labels)
