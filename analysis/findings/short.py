"""Strategies that were cut short: their scores say how long they were trained rather than how good they are.

Two signs are looked for in all confirm runs of a strategy on one question:

- *nothing learnt*: accuracy on the validation images is less than two standard errors above the share of their commonest class. A loss
  that weighs classes does not train for accuracy. There, macro recall is compared with that of guessing. Macro recall more than halfway
  from guessing to perfect counts as learnt whatever the shares are. Where costs decide, the class named is the cheapest and not the
  likeliest, so accuracy is low on purpose: the mean cost is compared with that of the cheapest answer to every image. Where the metric
  is of probabilities, a network that orders the images better than chance has learnt, though it may name the commonest class alone.
- *still fitting*: less than 0.9 of the training images are predicted correctly after the last epoch (median run), although more than
  the head is trained. A head on frozen features need never fit its images, so the sign says nothing about head-only training.

`train/accuracy` is scored in eval mode on unchanged images, so augmentation and blending keep it below 0.9 only while training is
short, as a rule. It is scored with the true labels, so a study with a share of wrong labels can be asked for the rest only.

Contradicting labels or too few trained weights can keep it below 0.9 for ever. Only a second budget shows that: a budget check that
finds a strategy flat ends this doubt, and one that finds a gain is a doubt itself. Slopes and "the best epoch was the last" are no
signs, since a cosine schedule makes every curve flat at its own end. Runs that did not record what a sign needs give no sign.
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
from study.inference.softmax import softmax
from study.scoring.scores import auroc
from study.strategies import EVERY

FITTED = 0.9  # measured on whole networks: from 0.94 of the training images on three times the epochs brought nothing, up to 0.82 they did
LONGER = 3  # times the epochs: what is advised
STAGES, EPOCHS = 8, 30  # of a network and a training on which every strategy can say what it trains

Kind = Literal["nothing learnt", "still fitting", "gains"]


@dataclass(frozen=True, kw_only=True)
class Short:
    """The reason why longer training may raise a strategy's score."""

    strategy: str
    kind: Kind
    found: str  # begins with the strategy's name
    learned: str = ""  # of one that is still fitting: "63 %"
    of: str = ""  # "training images after 3 epochs"

    @property
    def reason(self) -> str:
        """Return the reason as a doubt states it."""
        return f"{self.found}, so longer training may change this"


def shorts(frames: Frames, runs: pd.DataFrame | None = None) -> dict[tuple[Question, str], Short]:
    """Return by (question, strategy) those confirm runs, or other completed `runs`, that were cut short."""
    runs = frames.confirmed() if runs is None else runs
    if not len(runs):
        return {}
    out, fitted = {}, _fitted(frames, runs)
    for (question, strategy), own in runs.assign(question=frames.questions(runs)).groupby(["question", "strategy"], sort=False):
        if (found := _short(frames, question, str(strategy), own, fitted)) is not None:
            out[question, str(strategy)] = found
    return out


def _fitted(frames: Frames, runs: pd.DataFrame) -> "pd.Series[float]":
    """Return by trial the accuracy on its own training images after its last epoch, where it was recorded."""
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
    """Return the share of its own training images that it has learned, or "" where that is enough or not known."""
    own = fitted.reindex(runs.trial_id).median()
    if not below_the_head(strategy) or not own < FITTED * (1 - frames.study.protocol.wrong_labels):  # NaN where no run recorded it
        return ""
    return f"{math.floor(100 * own + 1e-9)} %"


def _nothing_learnt(frames: Frames, strategy: str, runs: pd.DataFrame) -> str:
    """Return in words that nothing was learnt, or "" where something was or nothing is known."""
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
    if frames.scored_by.costs is not None:
        return _no_cheaper(frames.scored_by.costs.matrix(frames.classes[runs.cell.iloc[0]]), counts, strategy, runs)
    if frames.scored_by.probable and _orders(frames, runs):
        return ""
    right, commonest = float(counts.trace() / images), float(support.max() / images)
    if right > commonest + 2 * math.sqrt(commonest * (1 - commonest) / images):
        return ""
    return (
        f"{strategy} is not shown to be better than always naming the commonest class "
        f"({100 * right:.0f} % of the validation images right, against {100 * commonest:.0f} %) {_after(runs)}"
    )


def _no_cheaper(costs: np.ndarray, counts: np.ndarray, strategy: str, runs: pd.DataFrame) -> str:
    """Return in words that a strategy saves nothing, or "" where it does; `costs` and `counts` [C, C], the truth in rows.

    Of equal costs this is the test of accuracy: a wrong answer costs 1, and the commonest class is the cheapest answer.
    """
    support = counts.sum(axis=1)
    images = support.sum()
    each = support @ costs / images  # [C]: of the same answer to every image
    cheapest = int(each.argmin())
    paid, least = float((counts * costs).sum() / images), float(each[cheapest])
    variance = max(float(support @ costs[:, cheapest] ** 2 / images) - least**2, 0.0)
    if paid < least - 2 * math.sqrt(variance / images):
        return ""
    return (
        f"{strategy} is not shown to cost less than the same answer to every image "
        f"({100 * paid:.1f} per 100 validation images, against {100 * least:.1f}) {_after(runs)}"
    )


def _orders(frames: Frames, runs: pd.DataFrame) -> bool:
    """Return True where the mean AUROC on validation is more than two standard errors above one half.

    The standard error of a class is that of chance (Mann and Whitney 1947); the mean of the classes' bounds that of their mean.
    """
    above, errors = [], []
    for trial in runs.trial_id:
        val = frames.predictions(str(trial)).get("val")
        if val is None or val.several:
            continue
        own = np.bincount(val.labels)
        own = own[(own > 0) & (own < len(val.labels))]
        rest = len(val.labels) - own
        if len(own):
            above.append(float(auroc(val.labels, softmax(val.logits))) - 0.5)
            errors.append(float(np.sqrt((own + rest + 1) / (12 * own * rest)).mean()))
    return bool(above) and np.mean(above) > 2 * np.mean(errors)


def _on_validation(frames: Frames, runs: pd.DataFrame) -> np.ndarray:
    """Return the confusion matrix [C, C] on validation, rows are the truth.

    It is the mean over runs on the same images, summed over folds, which have different images.
    """
    folds = [[frames.confusion[t] for t in own.trial_id if t in frames.confusion] for _, own in runs.groupby("splits")]
    means = [np.mean(own, axis=0) for own in folds if own]
    return np.sum(means, axis=0) if means else np.zeros((0, 0))


def below_the_head(strategy: str) -> bool:
    """Return True where the strategy trains more than the head."""
    return any(phase.cut > 0 for phase in EVERY[strategy]().phases(STAGES, EPOCHS))


def weighs_classes(strategy: str, runs: pd.DataFrame) -> bool:
    """Return True where training gives an image of a rare class more weight."""
    fields = ("hp/class_weighting", "hp/balanced_sampling")
    weighed = any(name in runs and bool((runs[name].fillna(0) > 0).any()) for name in fields)
    return weighed or any(phase.balanced for phase in EVERY[strategy]().phases(STAGES, EPOCHS))


def _after(runs: pd.DataFrame) -> str:
    epochs = int(runs.epochs.median())
    return f"after {epochs} epoch{'' if epochs == 1 else 's'}"


def were_cut_short(strategies: Sequence[str]) -> str:
    """Return the sentence part, as in "partial and full were cut short"."""
    return f"{joined(strategies)} {'was' if len(strategies) == 1 else 'were'} cut short"
