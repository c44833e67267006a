"""Simulated studies whose truth is known, as predictions on shared test images.

A world is anything that draws studies and knows their truth, see World. Drawing the same study again with more runs or images continues
it: the runs and images it had stay as they were. Forecasts and repeated looks rely on that.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy import optimize, special

from study.inference.softmax import softmax
from study.metrics import counts, macro_f1
from study.scoring.metric import DEFAULT, Metric, Said

SHARES = (0.14, 0.03, 0.14, 0.25, 0.17, 0.12, 0.15)  # FER2013's imbalance
VALIDATION = 240  # images a run's validation score is of
TRUTHS, IMAGES = 400, 3000  # runs, and images of each, that the truth of another metric than macro-F1 is the mean of
SURE = 0.7  # logits a unit of an image's margin
TRIES = 3  # of a search, that none of its other trials could be told from: the luckiest run of them wins


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """One test set with the predictions of every run."""

    predicted: list[np.ndarray]  # by strategy, [K, N] class indices
    labels: np.ndarray  # [N]
    groups: np.ndarray | None  # [N] recording sessions
    classes: int = len(SHARES)
    shares: list[np.ndarray] | None = None  # by strategy, [K, N, C] probabilities, in a world of another metric than macro-F1


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """The confirm runs of one study. The k-th run of a strategy trains the winner of its search k mod R."""

    search: np.ndarray  # [K]
    splits: list[Split]  # one, or one a fold


@dataclass(frozen=True, kw_only=True, eq=False)
class Searched:
    """The validation results of the runs of a sample, by strategy."""

    over_search: list[np.ndarray]  # [K] a run's validation score minus the one that its settings won their search with
    lost: list[np.ndarray] | None  # [K] whether the run collapsed in truth; None: not known


class World(Protocol):
    """A source of simulated studies."""

    def scores(self, study: int) -> np.ndarray:
        """Return the true score by strategy in this study: the mean over searches, runs, training sets and images."""

    def draw(self, study: int, searches: int, seeds: int, images: int | None = None) -> Sample:
        """Return study number `study` with `seeds` runs of each of `searches` winners."""

    def searched(self, study: int, searches: int, seeds: int) -> Searched:
        """Return the same study's runs compared with their searches."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Latent:
    """A world where an image is predicted right when a sum of normal effects is above zero. One unit is about 13 points of macro-F1.

    The defaults move a run by about 2.7 points between seeds, and the difference of two strategies by about 2 through 600 images.
    """

    points: tuple[float, ...] = (0.0, 0.0)  # true points of macro-F1 above the last strategy's; by strategy
    images: int = 600
    level: float = 0.45
    difficulty: float = 1.2  # between images, shared by all strategies
    interaction: float = 0.4  # strategy by image: systematic disagreement
    taste: float = 0.3  # search by image: what one configuration sees and another does not
    chance: float = 0.6  # run by image
    seed: float = 0.2
    search: float = 0.0  # between the winners of a strategy's searches, normal
    tail: float = 0.0  # the same with a poor tail: some searches miss by far (exponential)
    trials: int = 0  # instead: the winner of that many random trials, in a rugged space (loss 1.5 U^(1/2), validation noise 0.22)
    seeds_by: tuple[float, ...] = ()  # factor on the seed's sd, by strategy
    sessions: int = 0
    pure: bool = False  # a session shows one class
    session: float = 0.5  # between sessions, shared; half of it by strategy
    uneven: float = 0.8  # sd of the logarithm of a session's size
    folds: int = 1
    training: float = 0.0  # between training sets, by strategy and fold
    collapse: tuple[float, ...] = ()  # share of runs that collapse, by strategy
    drop: float = 1.2
    shares: tuple[float, ...] = SHARES  # of the images, by class
    even: bool = False  # every study has the same number of images of each class, as a stratified split has
    common: float = 0.0  # so much easier is the last class, the commonest
    lure: float = 0.0  # share of the other classes' errors that fall on it; the rest fall on all classes alike
    bold: float = 0.0  # the first strategy names rare classes more readily: better there, worse by twice that at the last
    number: int = field(default=0)  # another stream of studies
    metric: Metric = DEFAULT  # bound to the classes; the truth of any other than macro-F1 is the mean of TRUTHS runs on IMAGES images each

    def _rng(self, *path: int) -> np.random.Generator:
        return np.random.default_rng((71, self.number, *path))

    @cached_property
    def _moves(self) -> list[np.ndarray]:
        """Return many draws of the effects on whole runs, by strategy.

        All strategies get the same normals, so that equal laws have equal truths.
        """
        rng, n = self._rng(1), 60_000
        base, seed, u = rng.standard_normal(n), rng.standard_normal(n), rng.random(n)
        tuned = self._tuned(n, self._rng(2))
        missed = self._missed(n, self._rng(18))
        out = []
        for s in range(len(self.points)):
            sd = self._seed(s) * seed + np.hypot(self.search, self.training) * base + tuned + missed
            out.append(sd - (self.drop * (u < self.collapse[s]) if self.collapse else 0.0))
        return out

    def score(self, s: int, shift: float) -> float:
        """Return macro-F1 over infinitely many images, from the accuracy: errors fall on all other classes alike."""
        session = 0.0 if not self.sessions else 1.25 * self.session**2
        sd = np.sqrt(self.difficulty**2 + self.interaction**2 + self.taste**2 + self.chance**2 + session)
        share = np.array(self.shares)
        a = special.ndtr((self.level + shift + self._moves[s][:, None] + self._ease(s)) / sd)
        missed = share * (1 - a)
        lured = missed * self._lured
        astray = missed - lured
        said = share * a + (astray.sum(axis=1, keepdims=True) - astray) / (len(share) - 1)
        said[:, -1] += lured.sum(axis=1)
        return float((2 * share * a / (share + said)).mean(axis=1).mean())

    @cached_property
    def shifts(self) -> list[float]:
        base = self.score(len(self.points) - 1, 0.0)
        return [
            float(optimize.brentq(lambda x, s=s, p=p: self.score(s, x) - base - p / 100, -2, 4)) if p or self.collapse else 0.0
            for s, p in enumerate(self.points)
        ]

    def _sampled(self, s: int, shift: float) -> float:
        """The score of any other metric: runs of many images each, the same draws for every strategy."""
        rng, scores = self._rng(30), []
        own = self.interaction**2 + self.taste**2 + (1.25 * self.session**2 if self.sessions else 0.0)
        for move in self._moves[s][:TRUTHS]:
            labels = rng.choice(len(self.shares), size=IMAGES, p=self.shares)
            spread = np.hypot(self.difficulty, np.sqrt(own))
            base = self.level + shift + move + self._ease(s)[labels] + spread * rng.standard_normal(IMAGES)
            margin = base + self.chance * rng.standard_normal(IMAGES)
            wrong = (labels + rng.integers(1, len(self.shares), IMAGES)) % len(self.shares)
            if self.lure:
                wrong = np.where(rng.random(IMAGES) < self._lured[labels], len(self.shares) - 1, wrong)
            shares = probabilities(margin, labels, wrong, len(self.shares))
            scores.append(float(self.metric.score(labels, Said(named=self.metric.decide(shares), probabilities=shares))))
        return float(np.mean(scores))

    @cached_property
    def _scores(self) -> np.ndarray:
        if self.metric != DEFAULT:
            return np.array([self._sampled(s, x) for s, x in enumerate(self.shifts)])
        return np.array([self.score(s, x) for s, x in enumerate(self.shifts)])

    def scores(self, study: int) -> np.ndarray:
        return self._scores

    def _seed(self, s: int) -> float:
        return self.seed * (self.seeds_by[s] if self.seeds_by else 1.0)

    def _tuned(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw [n] losses of the winners of n searches."""
        if not self.trials:
            return np.zeros(n)
        u = rng.random((n, 2, self.trials))  # in one piece: more searches leave the first as they were
        loss = 1.5 * np.sqrt(u[:, 0])
        best = (loss + 0.22 * special.ndtri(u[:, 1])).argmin(axis=1)
        return -loss[np.arange(n), best]

    def _missed(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw [n] effects of the winners of n searches, of which some miss by far. Their mean is 0."""
        return -self.tail * (rng.standard_exponential(n) - 1) if self.tail else np.zeros(n)

    def _ease(self, s: int) -> np.ndarray:
        """Return [C] how much easier each class is for a strategy. The second one is as careful as the first is bold."""
        bold = self.bold if s % 2 == 0 else -self.bold
        return np.array([bold] * (len(self.shares) - 1) + [self.common - 2 * bold])

    @property
    def _lured(self) -> np.ndarray:
        """Return [C] the share of a class's errors that fall on the last class."""
        return np.array([self.lure] * (len(self.shares) - 1) + [0.0])

    def draw(self, study: int, searches: int, seeds: int, images: int | None = None) -> Sample:
        runs = searches * seeds
        splits = []
        for fold in range(self.folds):
            moves = np.stack([self._run_moves(study, fold, s, searches, runs) for s in range(len(self.points))])
            splits.append(self._split(study, fold, moves, searches, images or self.images))
        return Sample(search=np.arange(runs) % searches, splits=splits)

    def searched(self, study: int, searches: int, seeds: int) -> Searched:
        """Return the study's runs compared with their searches.

        A search's winner is the luckiest of TRIES equally good runs. Its score and its settings' confirm runs are on the same images.
        """
        runs, strategies = searches * seeds, range(len(self.points))
        won = np.stack([self._won_moves(study, s, searches) for s in strategies])
        scores = _scores_of(self._split(study, 0, won, searches, VALIDATION, part=2), self.metric)
        confirmed, lost = [], np.zeros((len(self.points), runs), bool)
        for fold in range(self.folds):
            moves = np.stack([self._run_moves(study, fold, s, searches, runs) for s in strategies])
            confirmed.append(_scores_of(self._split(study, fold, moves, searches, VALIDATION, part=1), self.metric))
            lost |= np.stack([self._lost(study, fold, s, runs) for s in strategies])
        over = np.mean(confirmed, axis=0) - scores[:, np.arange(runs) % searches]
        return Searched(over_search=[*over], lost=[*lost])

    def _run_moves(self, study: int, fold: int, s: int, searches: int, runs: int) -> np.ndarray:
        """Return [K] the effects of one strategy's runs: those of its searches, which all folds share, and those of seeds and collapses.

        Every training draws its seed and its collapse anew.
        """
        seeds = self._seed(s) * self._rng(study, 15, fold, s).standard_normal(runs)
        luck = self._luck(study, s, searches)
        return self.shifts[s] + luck[np.arange(runs) % searches] + seeds - self.drop * self._lost(study, fold, s, runs)

    def _won_moves(self, study: int, s: int, searches: int) -> np.ndarray:
        """Return [R] the effects of the runs that won."""
        tries = self._rng(study, 17, s).standard_normal((searches, TRIES))
        return self.shifts[s] + self._luck(study, s, searches) + self._seed(s) * tries.max(axis=1)

    def _luck(self, study: int, s: int, searches: int) -> np.ndarray:
        """Return [R] the effects of a strategy's searches."""
        luck = self.search * self._rng(study, 3, s).standard_normal(searches) + self._tuned(searches, self._rng(study, 14, s))
        return luck + self._missed(searches, self._rng(study, 18, s))

    def _lost(self, study: int, fold: int, s: int, runs: int) -> np.ndarray:
        """Return [K] True for a run that collapsed."""
        out: np.ndarray = self._rng(study, 16, fold, s).random(runs) < (self.collapse[s] if self.collapse else 0.0)
        return out

    def _split(self, study: int, fold: int, moves: np.ndarray, searches: int, images: int, part: int = 0) -> Split:
        """Draw the predictions. `part` 0 is the confirm runs on test, 1 the same on validation, 2 the search's runs on validation."""
        labels, groups, hard, own = self._images(study, fold, images, min(part, 1))
        n, classes, out = len(labels), len(self.shares), list[np.ndarray]()
        given: list[np.ndarray] | None = None if self.metric == DEFAULT else []
        for s, by_run in enumerate(moves):
            tastes = [self._rng(study, 4 + 100 * min(part, 1), fold, s, r).standard_normal(n, np.float32) for r in range(searches)]
            base = hard + own[s] + self._ease(s)[labels] + self.training * self._rng(study, 5, fold, s).standard_normal()
            said = np.empty((len(by_run), n), np.int64)
            shares = np.empty((len(by_run), n, classes), np.float32) if given is not None else None
            for k, move in enumerate(by_run):
                rng = self._rng(study, 6 + 100 * part, fold, s, k)
                margin = base + move + self.taste * tastes[k % searches] + self.chance * rng.standard_normal(n, np.float32)
                where = self._rng(study, 7 + 100 * part, fold, s, k)
                wrong = (labels + where.integers(1, classes, n)) % classes
                if self.lure:
                    wrong = np.where(where.random(n) < self._lured[labels], classes - 1, wrong)
                said[k] = np.where(margin > 0, labels, wrong)
                if shares is not None:
                    shares[k] = probabilities(margin, labels, wrong, classes)
                    said[k] = self.metric.decide(shares[k])
            out.append(said)
            if given is not None and shares is not None:
                given.append(shares)
        return Split(predicted=out, labels=labels, groups=groups, classes=classes, shares=given)

    def _images(
        self, study: int, fold: int, images: int, part: int = 0
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, list[np.ndarray]]:
        """Draw labels, sessions, and the effects of the images: for all strategies [N], and by strategy. `part`: 0 test, 1 validation."""
        at, shares, groups = 100 * part, np.array(self.shares), None
        if self.sessions:
            sizes = np.exp(self.uneven * self._rng(study, 8 + at, fold).standard_normal(self.sessions))
            sizes = np.maximum(np.round(sizes / sizes.sum() * images), 2).astype(int)
            groups, images = np.repeat(np.arange(self.sessions), sizes), int(sizes.sum())
        labels = self._rng(study, 9 + at, fold).choice(len(shares), size=images, p=shares)
        if groups is not None and self.pure:
            labels = self._rng(study, 9 + at, fold).choice(len(shares), size=self.sessions, p=shares)[groups]
        if self.even:
            labels = np.searchsorted(np.cumsum(shares), (np.arange(images) + 0.5) / images)
        hard = self.level + self.difficulty * self._rng(study, 10 + at, fold).standard_normal(images)
        own = [self.interaction * self._rng(study, 11 + at, fold, s).standard_normal(images) for s in range(len(self.points))]
        if groups is not None:
            hard = hard + self.session * self._rng(study, 12 + at, fold).standard_normal(self.sessions)[groups]
            own = [
                o + 0.5 * self.session * self._rng(study, 13 + at, fold, s).standard_normal(self.sessions)[groups]
                for s, o in enumerate(own)
            ]
        return labels, groups, hard, own


def probabilities(margin: np.ndarray, labels: np.ndarray, wrong: np.ndarray, classes: int) -> np.ndarray:
    """Return [N, C] of a network that is sure of the true class, against the one it takes it for, as `margin` [N] says."""
    logits, rows = np.full((len(labels), classes), -1.0), np.arange(len(labels))
    logits[rows, labels], logits[rows, wrong] = SURE * margin, -SURE * margin
    return softmax(logits)


def _scores_of(split: Split, metric: Metric = DEFAULT) -> np.ndarray:
    """Return scores [S, K] by strategy and run."""
    if split.shares is not None:
        pairs = [zip(p, q, strict=True) for p, q in zip(split.predicted, split.shares, strict=True)]
        return np.array([[float(metric.score(split.labels, Said(named=p, probabilities=q))) for p, q in own] for own in pairs])
    return np.array([[float(macro_f1(counts(p, split.labels, split.classes))) for p in runs] for runs in split.predicted])


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixed:
    """Studies of several worlds in turn."""

    worlds: tuple[World, ...]

    def scores(self, study: int) -> np.ndarray:
        return self.worlds[study % len(self.worlds)].scores(study)

    def draw(self, study: int, searches: int, seeds: int, images: int | None = None) -> Sample:
        return self.worlds[study % len(self.worlds)].draw(study, searches, seeds, images)

    def searched(self, study: int, searches: int, seeds: int) -> Searched:
        return self.worlds[study % len(self.worlds)].searched(study, searches, seeds)
