"""Prediction sets of the network to use: the images behind their threshold, and how often the true class is in them on other images.

The threshold comes from probabilities of images that the network did not learn from. These are its validation images, for a delivered
network those of the runs that its length was chosen by, and with outer folds all images, each scored by a network that never saw it.
Coverage is measured on the test images, with outer folds on each fold by the threshold of the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from analysis.data.frames import Frames
from analysis.data.predictions import Predictions, read_predictions
from analysis.findings.pick import Pick
from study.errors import ConfigError
from study.inference.sets import fewest_images, least_probability, members
from study.inference.softmax import pooled, probabilities

LEVELS = (0.8, 0.9, 0.95, 0.99)
"""Levels that are written to files. A prediction may ask for any other."""
ENOUGH = 10  # images of a class, for its coverage to be said


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The results of sets on images that their threshold does not come from."""

    images: int
    share: float  # of the images whose set holds the true class
    low: float  # 95 %, Wilson's, images taken as independent
    high: float
    size: float  # mean number of classes in a set
    single: float  # share of the sets that hold one class
    worst: str  # the class that is most often left out of its own sets, of those with enough images; empty: none has
    worst_share: float


@dataclass(frozen=True, kw_only=True)
class Sets:
    """Prediction sets at one level. A class is in a set from the probability `least` on, at `temperature`."""

    level: float
    least: float
    temperature: float
    images: int  # that the threshold comes from
    source: str  # which these are, in words
    measured: Coverage | None  # None where no test predictions are kept
    by_fold: bool = False  # with outer folds: measured on the images that it comes from, each fold by the others' threshold

    @property
    def expected(self) -> tuple[float, float]:
        """Return the shares between which the coverage of such a threshold lies in nine of ten calibrations.

        The coverage is a Beta variable (Vovk 2012).
        """
        k = np.ceil((self.images + 1) * self.level - 1e-9)
        low, high = stats.beta.ppf((0.05, 0.95), k, self.images + 1 - k)
        return float(low), float(high)

    @property
    def others(self) -> str:
        """Return what the images are on which they were measured: others, or with folds the same, each fold with the others' threshold."""
        return "of them, each fold by the threshold of the other folds" if self.by_fold else "others"

    def of(self, shares: np.ndarray) -> list[list[int]]:
        """Return for probabilities [N, C] by picture the numbers of the classes in its set, the most probable first."""
        inside = members(shares, self.least)
        return [[int(k) for k in np.argsort(-row, kind="stable") if own[k]] for row, own in zip(shares, inside, strict=True)]

    @property
    def short(self) -> str:
        """Return the promise of a set, and what was measured, in two sentences."""
        m = self.measured
        found = f" Measured on {m.images} {self.others}: {100 * m.share:.0f} %, with {m.size:.1f} classes on average." if m else ""
        return f"In {100 * self.level:g} % of pictures like those of the study the true class is in its set.{found}"

    @property
    def text(self) -> str:
        """Return on one line the images behind the sets, how sure they are, and what was measured."""
        low, high = self.expected
        m = self.measured
        found = "no test predictions are kept, so it was not measured"
        if m is not None:
            found = (
                f"measured on {m.images} {self.others}: {100 * m.share:.1f} % [{100 * m.low:.1f}, {100 * m.high:.1f}], {m.size:.1f} "
                f"classes a set on average, one class alone in {100 * m.single:.0f} %"
            )
            found += f", least often for {m.worst} ({100 * m.worst_share:.0f} %)" if m.worst and m.worst_share < self.level else ""
        return (
            f"sets of {100 * self.level:g} %: every class with a probability of {self.least:.3g} or more. From {self.images} "
            f"{self.source}, which promises {100 * low:.0f} to {100 * high:.0f} %; {found}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scored:
    """Probabilities [N, C] by which thresholds are found, of `images` different images, and a description of these."""

    shares: np.ndarray
    labels: np.ndarray
    images: int
    source: str
    fold: np.ndarray | None = None  # [N]; None: others are measured on


def prediction_sets(
    frames: Frames, pick: Pick, level: float, *, temperature: float | None = None, ensemble: bool = False, names: Sequence[str] = ()
) -> Sets:
    """Return the pick's sets at `level`.

    `temperature` is that of the probabilities they are made of (default: the pick's). Raises ConfigError where no images are known, or
    too few.
    """
    t = pick.temperature if temperature is None else temperature
    known = _scored(frames, pick, t, ensemble)
    if known is None:
        raise ConfigError(
            f"{pick.cell.id} has no kept predictions of images that its network did not learn from, so it has no sets: leave --sets out."
        )
    if known.labels.ndim == 2:
        raise ConfigError(
            f"{pick.cell.id}: a set holds the one true class, and these images may have several labels, each said above a "
            "threshold of its own: leave --sets out."
        )
    of_truth = known.shares[np.arange(len(known.labels)), known.labels]
    least = least_probability(of_truth, level, known.images)
    if least is None:
        most = known.images / (known.images + 1)
        raise ConfigError(
            f"sets of {100 * level:g} % need {fewest_images(level)} {known.source}, and there are {known.images}: ask for at most "
            f"--sets {np.floor(100 * most) / 100:g}."
        )
    classes = list(names or frames.classes.get(pick.cell.id, ()))
    return Sets(
        level=level,
        least=least,
        temperature=t,
        images=known.images,
        source=known.source,
        measured=_measured(frames, pick, known, level, least, t, ensemble, classes),
        by_fold=known.fold is not None,
    )


def known_sets(frames: Frames, pick: Pick, levels: Sequence[float] = LEVELS) -> list[Sets]:
    """Return the sets of those `levels` for which there are enough images."""
    out = []
    for level in levels:
        try:
            out.append(prediction_sets(frames, pick, level))
        except ConfigError:
            continue
    return out


def sets_facts(known: Sequence[Sets]) -> dict[str, Any]:
    """Return the facts about its sets for files that travel with a network, empty where there are none."""
    if not known:
        return {}
    return {"images": known[0].images, "source": known[0].source, "least_probability": {f"{s.level:g}": s.least for s in known}}


def _scored(frames: Frames, pick: Pick, t: float, ensemble: bool) -> _Scored | None:
    if pick.folds > 1:
        return _out_of_fold(frames, pick, t)
    if pick.delivered is not None:
        return _of_its_lengths(frames, pick, t)
    val = [p["val"] for trial in (pick.trials if ensemble else pick.trials[:1]) if "val" in (p := frames.predictions(trial))]
    if not val:
        return None
    logits = pooled([p.logits for p in val])
    return _Scored(shares=probabilities(logits / t), labels=val[0].labels, images=len(val[0].labels), source="validation images")


def _out_of_fold(frames: Frames, pick: Pick, t: float) -> _Scored | None:
    """Return the first pass over all images, each scored by the network that never saw it."""
    done = frames.confirmed()
    own = done[done.cell == pick.cell.id].sort_values("number").head(pick.folds)
    tests = [p["test"] for trial in own["trial_id"] if "test" in (p := frames.predictions(str(trial)))]
    if len(tests) < pick.folds:
        return None
    return _Scored(
        shares=np.concatenate([probabilities(p.logits / t) for p in tests]),
        labels=np.concatenate([p.labels for p in tests]),
        images=sum(len(p.labels) for p in tests),
        source="images, each scored by a network that never saw it",
        fold=np.repeat(np.arange(len(tests)), [len(p.labels) for p in tests]),
    )


def _of_its_lengths(frames: Frames, pick: Pick, t: float) -> _Scored | None:
    """Return the scores of runs of the same length that did not learn from the validation images, as the delivered network did."""
    entry = next((e for e in frames.delivered.values() if e["trial"] == pick.trial), None)
    trials: list[str] = next((n["trials"] for n in entry["lengths"] if n["epochs"] == entry["epochs"]), []) if entry else []
    val = [p for trial in trials if (p := validation_of(frames, trial)) is not None]
    if not val:
        return None
    return _Scored(
        shares=np.concatenate([probabilities(p.logits / t) for p in val]),
        labels=np.concatenate([p.labels for p in val]),
        images=len(val[0].labels),
        source="validation images, scored by runs of the same length that did not learn from them",
    )


def validation_of(frames: Frames, trial: str) -> Predictions | None:
    """Return a run's predictions for its validation images, or None where they were not kept."""
    return read_predictions(frames.ledger, trial, "validation").get("val") or read_predictions(frames.ledger, trial).get("val")


def _measured(
    frames: Frames, pick: Pick, known: _Scored, level: float, least: float, t: float, ensemble: bool, classes: list[str]
) -> Coverage | None:
    if known.fold is not None:
        inside = np.zeros(known.shares.shape, bool)
        of_truth = known.shares[np.arange(len(known.labels)), known.labels]
        for fold in range(int(known.fold.max()) + 1):
            here = known.fold == fold
            own = least_probability(of_truth[~here], level)
            if own is None:
                return None
            inside[here] = members(known.shares[here], own)
        return coverage(inside, known.labels, classes)
    tests = [
        p["test"] for trial in (pick.trials if ensemble else pick.trials[:1]) if "test" in (p := read_predictions(frames.ledger, trial))
    ]
    if not tests:
        return None
    shares = probabilities(pooled([p.logits for p in tests]) / t)
    return coverage(members(shares, least), tests[0].labels, classes)


def coverage(inside: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Coverage:
    """Return what the sets bool [N, C] did on images of these `labels` [N]; `classes`: their names."""
    hit, size = inside[np.arange(len(labels)), labels], inside.sum(axis=1)
    interval = stats.binomtest(int(hit.sum()), len(hit)).proportion_ci(method="wilson")
    by_class = {k: float(hit[labels == k].mean()) for k in range(inside.shape[1]) if (labels == k).sum() >= ENOUGH}
    worst = min(by_class, key=lambda k: by_class[k]) if by_class else None
    return Coverage(
        images=len(labels),
        share=float(hit.mean()),
        low=float(interval.low),
        high=float(interval.high),
        size=float(size.mean()),
        single=float((size == 1).mean()),
        worst=classes[worst] if worst is not None and worst < len(classes) else "",
        worst_share=by_class[worst] if worst is not None else float("nan"),
    )
