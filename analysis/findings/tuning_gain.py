"""The gain of tuning over a strategy's published default settings, on test, paired over images: beside the verdict, never part of it."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.frames import Frames
from analysis.data.question import Question
from analysis.findings.comparisons import difference_of, gather, side_of
from analysis.statistics.intervals import Estimate, difference_interval
from study.question.training_settings import Recipe
from study.question.trial_config import TrialConfig


@dataclass(frozen=True, kw_only=True)
class TuningGain:
    """The gain of one strategy, tuned minus default, in shares of macro-F1."""

    question: Question
    strategy: str
    estimate: Estimate
    runs: int  # of the default
    same: int  # of these, where the search had chosen the default itself

    @property
    def text(self) -> str:
        """Return the gain in one sentence, with its 95 % interval."""
        low, high = (100 * v for v in difference_interval(self.estimate))
        interval = f" [{low:+.1f}, {high:+.1f}]" if low == low else ""
        own = f"; in {self.same} of them the search had chosen the default" if self.same else ""
        return (
            f"{self.question.name}, {self.strategy}: tuning brought {100 * self.estimate.mean:+.1f}{interval} points of "
            f"macro-F1 over the published default ({self.runs} run{'s' * (self.runs != 1)} each{own})"
        )


def tuning_row(gain: TuningGain) -> dict[str, Any]:
    """Return its row of the table of gains. Scores are shares, not points."""
    low, high = difference_interval(gain.estimate)
    numbers = {"difference": gain.estimate.mean, "low": low, "high": high, "runs": gain.runs, "same": gain.same}
    return {**gain.question.columns, "strategy": gain.strategy, **numbers}


def tuning_gains(frames: Frames, resamples: int) -> list[TuningGain]:
    """Return one gain per question and strategy whose default was trained besides (`Study.explain`).

    The questions are those at the largest size, longest budget and most pixels.
    """
    confirmed = frames.at_largest()
    default = frames.explained("default")
    if "default" not in frames.study.explain or not len(confirmed):
        return []
    out = []
    for (question, strategy), tuned in confirmed.groupby(["question", "strategy"], sort=False):
        same = _chose_default(frames, tuned)
        besides = default[(default.question == question) & (default.strategy == strategy)] if len(default) else default
        besides = besides[besides.epochs == tuned.epochs.max()] if len(besides) else besides  # of an earlier budget none pairs up
        own = pd.concat([besides, same])
        own = own[own.seed.isin(tuned.seed)]  # a run that failed leaves its twin out
        found = _difference(frames, question, str(strategy), tuned[tuned.seed.isin(own.seed)], own, resamples)
        if found is not None:
            out.append(TuningGain(question=question, strategy=str(strategy), estimate=found, runs=len(own), same=len(same)))
    return out


def _chose_default(frames: Frames, tuned: pd.DataFrame) -> pd.DataFrame:
    """Return the confirm runs of searches that had chosen the default: these are the default's runs too."""
    return tuned[[_is_default(frames, str(t)) for t in tuned["trial_id"]]]


def _is_default(frames: Frames, trial: str) -> bool:
    ask = frames.ledger.ask(trial)
    if ask is None:
        return False
    config = TrialConfig.from_dict(ask.config)
    return config == dataclasses.replace(config, strategy=type(config.strategy)(), recipe=Recipe())


def _difference(
    frames: Frames, question: Question, strategy: str, tuned: pd.DataFrame, default: pd.DataFrame, resamples: int
) -> Estimate | None:
    """Return tuned minus default, or None where one side lacks predictions of whole runs, or they are about other images."""
    a, b = (gather(frames, question, block) if len(block) else None for block in (tuned, default))
    if a is None or b is None or not np.array_equal(a.images, b.images):
        return None
    return difference_of(side_of(a, strategy, resamples), side_of(b, strategy, resamples))
