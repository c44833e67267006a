"""Strategies that were cut short: their scores say how long they were trained rather than how well they do.

Two signs, looked for in all confirm runs of a strategy on one question:

- *nothing learnt*: accuracy on the validation images is not above the share of their commonest class by two standard errors. A loss that
  weighs classes does not train for accuracy, so there it is macro recall against that of guessing; and macro recall more than halfway from
  guessing to perfect is learnt whatever the shares are;
- *still fitting*: less than 0.9 of its own training images are named rightly at the last epoch (the median run), though more than the head
  is trained. A head on frozen features need never fit its images, so it says nothing of one.

`train/accuracy` is scored in eval mode on images as they are, so augmentation and blending keep it below 0.9 while training is short, and
as a rule no longer. It is scored with the true labels, so of a study that made a share of them wrong the rest can be asked for. Where it
stays below for ever (labels that contradict one another, too few weights that move), only a second budget tells: a budget check that finds
a strategy flat ends this doubt, one that finds a gain is a doubt itself. Slopes and "the best epoch was the last" are no signs: a cosine
schedule bends every curve flat at its own end. Runs that did not record what a sign needs say nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from analysis.data.frames import Frames
from analysis.data.question import Question
from study.console.text import joined
from study.strategies import EVERY

FITTED = 0.9  # measured on whole networks: from 0.94 of the training images on three times the epochs brought nothing, up to 0.82 they did
LONGER = 3  # times the epochs: what is advised
STAGES, EPOCHS = 8, 30  # of a network and a training on which every strategy can say what it trains

Kind = Literal["nothing learnt", "still fitting", "gains"]


@dataclass(frozen=True, kw_only=True)
class Short:
    """Why longer training may lift a strategy's score."""

    strategy: str
    kind: Kind
    found: str  # begins with the strategy's name
    learned: str = ""  # of one that is still fitting: "63 %"
    of: str = ""  # "training images after 3 epochs"

    @property
    def reason(self) -> str:
        """As a doubt says it."""
        return f"{self.found}, so longer training may change this"


def shorts(frames: Frames, runs: pd.DataFrame | None = None) -> dict[tuple[Question, str], Short]:
    """By question and strategy, those of the confirm runs (or of other completed `runs`) that were cut short."""
    runs = frames.confirmed() if runs is None else runs
    if not len(runs):
        return {}
    out, fitted = {}, _fitted(frames, runs)
    for (question, strategy), own in runs.assign(question=frames.questions(runs)).groupby(["question", "strategy"], sort=False):
        if (found := _short(frames, question, str(strategy), own, fitted)) is not None:
            out[question, str(strategy)] = found
    return out


def _fitted(frames: Frames, runs: pd.DataFrame) -> "pd.Series[float]":
    """By trial, accuracy on its own training images after its last epoch, where it was recorded."""
    if "train/accuracy" not in frames.epochs:
        return pd.Series(dtype=float)
    once = runs[["trial_id", "epochs"]].drop_duplicates()  # a line to beat stands beside several questions
    last = frames.epochs.merge(once, left_on=["trial_id", "epoch"], right_on=["trial_id", "epochs"])
    return last.set_index("trial_id")["train/accuracy"].dropna()


def _short(frames: Frames, question: Question, strategy: str, runs: pd.DataFrame, fitted: "pd.Series[float]") -> Short | None:
    if EVERY[strategy].exact:  # solved, not trained step by step
        return None
    checked = frames.checked.get((question, strategy))
    if checked is not None and checked.gains:
        return Short(strategy=strategy, kind="gains", found=checked.found or f"{strategy} scores higher on validation when trained longer")
    fitting = _still_fitting(frames, strategy, runs, fitted) if checked is None else ""
    nothing = _nothing_learnt(frames, strategy, runs)
    if not fitting and not nothing:
        return None
    kind: Kind = "nothing learnt" if nothing else "still fitting"
    of = f"training images {_after(runs)}"
    found = f"{strategy} had learned {fitting} of its own {of}" if fitting else nothing
    return Short(strategy=strategy, kind=kind, found=found, learned=fitting, of=of)


def _still_fitting(frames: Frames, strategy: str, runs: pd.DataFrame, fitted: "pd.Series[float]") -> str:
    """The share of its own training images that it has learned; empty where that is enough, or not known."""
    own = fitted.reindex(runs.trial_id).median()
    if not below_the_head(strategy) or not own < FITTED * (1 - frames.study.protocol.wrong_labels):  # NaN where no run recorded it
        return ""
    return f"{math.floor(100 * own + 1e-9)} %"


def _nothing_learnt(frames: Frames, strategy: str, runs: pd.DataFrame) -> str:
    """In words; empty where something was, or nothing is known."""
    counts = _on_validation(frames, runs)
    support = counts.sum(axis=1)
    images, classes = support.sum(), np.flatnonzero(support)
    if len(classes) < 2:  # nothing to tell apart
        return ""
    recall, guessed = float((counts.diagonal()[classes] / support[classes]).mean()), 1 / len(classes)
    if recall > (1 + guessed) / 2:
        return ""
    if weighs_classes(strategy, runs):
        error = guessed * math.sqrt(guessed * (1 - guessed) * float((1 / support[classes]).sum()))
        if recall > guessed + 2 * error:
            return ""
        return f"{strategy} is not shown to be better than guessing (recall {recall:.0%}, of guessing {guessed:.0%}) {_after(runs)}"
    right, commonest = float(counts.trace() / images), float(support.max() / images)
    if right > commonest + 2 * math.sqrt(commonest * (1 - commonest) / images):
        return ""
    return (
        f"{strategy} is not shown to be better than always naming the commonest class "
        f"({100 * right:.0f} % of the validation images right, against {100 * commonest:.0f} %) {_after(runs)}"
    )


def _on_validation(frames: Frames, runs: pd.DataFrame) -> np.ndarray:
    """[C, C], rows are the truth: the mean over the runs on the same images, added up where folds have others."""
    folds = [[frames.confusion[t] for t in own.trial_id if t in frames.confusion] for _, own in runs.groupby("splits")]
    means = [np.mean(own, axis=0) for own in folds if own]
    return np.sum(means, axis=0) if means else np.zeros((0, 0))


def below_the_head(strategy: str) -> bool:
    """Whether the strategy trains more than the head."""
    return any(phase.cut > 0 for phase in EVERY[strategy]().phases(STAGES, EPOCHS))


def weighs_classes(strategy: str, runs: pd.DataFrame) -> bool:
    """Whether training counts an image of a rare class for more."""
    fields = ("hp/class_weighting", "hp/balanced_sampling")
    weighed = any(name in runs and bool((runs[name].fillna(0) > 0).any()) for name in fields)
    return weighed or any(phase.balanced for phase in EVERY[strategy]().phases(STAGES, EPOCHS))


def _after(runs: pd.DataFrame) -> str:
    epochs = int(runs.epochs.median())
    return f"after {epochs} epoch{'' if epochs == 1 else 's'}"


def were_cut_short(strategies: Sequence[str]) -> str:
    """ "partial and full were cut short"."""
    return f"{joined(strategies)} {'was' if len(strategies) == 1 else 'were'} cut short"
