"""Two strategies class by class, from the runs and resampled images behind the verdict: differences with 95 % intervals.

A class's interval takes the degrees of freedom of the class's own images or sessions, and the resamples that drew one of them. With
outer folds it is that of cross_fitting: all folds' predictions together, and the contribution of each image.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from analysis.data.frames import Frames
from analysis.data.question import Question
from analysis.findings.answers import means_of
from analysis.findings.comparisons import Gathered, Side, difference_of
from analysis.statistics import resampling as st
from analysis.statistics.cross_fitting import OuterFolds, fitted
from analysis.statistics.intervals import Estimate, difference_interval
from analysis.statistics.scored_runs import Runs, join_folds
from analysis.verdict import Findings
from study.metrics import counts, f1

K = TypeVar("K", bound=Hashable)
Cell = tuple[int, int]  # (truth, said)
# predictions [n], labels [n], weights [B, n] -> M scores [M], and the same on each resample [B, M]
Score = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Classes:
    """The confirm runs of a question with the names of its classes. Strategies are in the order of their means, highest first."""

    gathered: Gathered
    names: Sequence[str]
    ranked: Sequence[str]

    @property
    def question(self) -> Question:
        return self.gathered.question

    @property
    def images(self) -> np.ndarray:
        """Return [C] the number of test images of each class, or with each label."""
        if self.gathered.several:
            return np.asarray(self.gathered.labels.sum(axis=0))
        return np.bincount(self.gathered.labels, minlength=len(self.names))

    def confusion(self, strategy: str) -> np.ndarray:
        """Return the counts [C, C] summed over runs, truth in rows."""
        runs = self.gathered.predicted[strategy].values()
        return np.sum([st.confusions(p, self.gathered.labels, len(self.names)) for p in runs], axis=0)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The difference A minus B as a share in [-1, 1], with an interval that is NaN for one run or one session of the class."""

    mean: float
    low: float
    high: float

    @property
    def seen(self) -> bool:
        """True where the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def by_question(frames: Frames, findings: Findings) -> Iterator[Classes]:
    """Yield every data set that has been confirmed, at its largest size.

    Raises EnvironmentProblem for predictions that cannot be trusted.
    """
    trained = frames.at_largest()
    largest = set(trained["question"]) if len(trained) else set()
    for gathered in findings.gathered:
        if gathered.question not in largest:
            continue
        cells = [name for name, cell in frames.cells.items() if frames.question_of(cell) == gathered.question and name in frames.classes]
        yield Classes(
            gathered=gathered, names=frames.classes[cells[0]], ranked=means_of(findings.strategies, gathered.question, gathered.metric)
        )


def f1_runs(own: Classes, strategy: str, resamples: int = st.RESAMPLES) -> Mapping[int, Side]:
    """Return, for each class that occurs, the F1 of every run, or of every pass over outer folds."""
    if own.gathered.nested:
        return {k: _f1_over_folds(own, strategy, k) for k in np.flatnonzero(own.images).tolist()}

    def score(said: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return f1(counts(said, labels, len(own.names))), f1(counts(said, labels, len(own.names), weights))

    return _runs(own, strategy, score, range(len(own.names)), resamples)


def said_runs(own: Classes, strategy: str, cells: Sequence[Cell], resamples: int = st.RESAMPLES) -> Mapping[Cell, Side]:
    """Return, for each cell (`truth`, `said`) of the confusion matrix, the share of the images of class `truth` that every run
    predicted as `said`.
    """
    if own.gathered.nested:
        return {cell: _said_over_folds(own, strategy, cell) for cell in cells if (own.gathered.labels == cell[0]).any()}
    by_truth: dict[int, list[int]] = {}
    for m, (truth, _) in enumerate(cells):
        by_truth.setdefault(truth, []).append(m)

    def score(said: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        now, then = np.zeros(len(cells)), np.zeros((len(weights), len(cells)), np.float32)
        for truth, places in by_truth.items():
            if (here := labels == truth).any():
                hit = (said[here][:, None] == [cells[m][1] for m in places]).astype(np.float32)
                now[places] = hit.mean(axis=0, dtype=float)
                then[:, places] = weights[:, here] @ hit / np.maximum(weights[:, here].sum(axis=1, keepdims=True), 1)
        return now, then

    return {cells[m]: runs for m, runs in _runs(own, strategy, score, [t for t, _ in cells], resamples).items()}


def of_class(labels: np.ndarray, k: int) -> np.ndarray:
    """Return bool [N]: which of labels [N], or bool [N, C] of several an image, are of class k."""
    own: np.ndarray = labels[:, k] if labels.ndim == 2 else labels == k
    return own


def _runs(own: Classes, strategy: str, score: Score, about: Sequence[int], resamples: int) -> dict[int, Runs]:
    """Return the runs by score, where score m is about class about[m].

    A class without images is left out, and so is a fold without images of the class.
    """
    by_seed, parts = own.gathered.predicted[strategy], dict[int, list[Runs]]()
    search = np.array([own.gathered.searches[seed] for seed in by_seed])
    for again in own.gathered.resample(resamples):
        labels, weights = own.gathered.labels[again.images], again.weights.astype(np.float32)
        scored = [score(p[again.images], labels, weights) for p in by_seed.values()]
        for m, truth in enumerate(about):
            if not (members := of_class(labels, truth)).any():
                continue
            drawn = weights[:, members].any(axis=1)  # where the class was not drawn it has no score
            runs = Runs(
                scores=np.array([now[m] for now, _ in scored], float),
                search=search,
                resampled=np.stack([then[drawn, m] for _, then in scored]).astype(float),
                units=st.image_units(int(members.sum()), None if again.groups is None else again.groups[members]),
            )
            parts.setdefault(m, []).append(runs)
    return {m: join_folds(p) for m, p in parts.items()}


def _f1_over_folds(own: Classes, strategy: str, k: int) -> Side:
    """Return F1 = 2 h / (t + s) of one class, on the images that belong to it or that some strategy predicts as it."""
    everyone = own.gathered.predicted.values()
    about = of_class(own.gathered.labels, k) | np.any([of_class(p, k) for runs in everyone for p in runs.values()], axis=0)
    said = np.stack([of_class(p, k)[about] for p in own.gathered.predicted[strategy].values()])
    truth = of_class(own.gathered.labels, k)[about]
    each = (truth.sum() + said.sum(axis=1)).astype(float)  # [m], t + s
    both, hits = each.mean(), (said & truth).sum(axis=1).mean()
    psi = 2 * (said & truth) / both - 2 * hits / both**2 * (said.astype(float) + truth)
    return fitted(2 * (said & truth).sum(axis=1) / each, psi, _some(own.gathered, about))


def _said_over_folds(own: Classes, strategy: str, cell: Cell) -> Side:
    here = own.gathered.labels == cell[0]
    hit = np.stack([p[here] == cell[1] for p in own.gathered.predicted[strategy].values()]).astype(float)
    return fitted(hit.mean(axis=1), (hit - hit.mean()) / here.sum(), _some(own.gathered, here))


def _some(gathered: Gathered, where: np.ndarray) -> OuterFolds:
    """Return those of its images at which `where` [N] is true."""
    groups = None if gathered.groups is None else gathered.groups[where]
    return OuterFolds(labels=gathered.labels[where], fold=gathered.fold[where], classes=gathered.num_classes, groups=groups)


def differences(a: Mapping[K, Side], b: Mapping[K, Side], between: Callable[[Any, Any], Estimate] = difference_of) -> dict[K, Difference]:
    """Return A minus B for each key, unadjusted for their number. `between` compares two sides."""
    out = {}
    for k in a:
        e = between(a[k], b[k])
        low, high = difference_interval(e)
        out[k] = Difference(mean=e.mean, low=low, high=high)
    return out
