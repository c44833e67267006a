"""Simulated studies whose truth is known, as predictions on shared test images.

A world is anything that draws studies and knows their truth, see World. Drawing the same study again with more runs or images continues it: the runs
and images it had stay as they were. That is what forecasts and repeated looks are followed up with.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy import optimize, special

CLASSES = 7
SHARE = np.array([0.14, 0.03, 0.14, 0.25, 0.17, 0.12, 0.15])  # FER2013's imbalance


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """One test set with what every run said of it."""

    predicted: list[np.ndarray]  # by strategy, [K, N] class indices
    labels: np.ndarray  # [N]
    groups: np.ndarray | None  # [N] recording sessions
    classes: int = CLASSES


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One study's confirm runs: the k-th run of a strategy trains the winner of its search k mod R."""

    search: np.ndarray  # [K]
    splits: list[Split]  # one, or one a fold


class World(Protocol):
    """Where studies come from."""

    def scores(self, study: int) -> np.ndarray:
        """True macro-F1 by strategy in this study: the mean over searches, runs, training sets and images."""

    def draw(self, study: int, searches: int, seeds: int, images: int | None = None) -> Sample:
        """Study number `study` with `seeds` runs of each of `searches` winners."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Latent:
    """An image is predicted right when a sum of normal effects is above zero. One unit is about 13 points of macro-F1.

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
    number: int = field(default=0)  # another stream of studies

    def _rng(self, *path: int) -> np.random.Generator:
        return np.random.default_rng((71, self.number, *path))

    @cached_property
    def _moves(self) -> list[np.ndarray]:
        """Many draws of what moves whole runs, by strategy; the same normals for all, so that equal laws have equal truths."""
        rng, n = self._rng(1), 60_000
        base, seed, u = rng.standard_normal(n), rng.standard_normal(n), rng.random(n)
        tuned = self._tuned(n, self._rng(2))
        out = []
        for s in range(len(self.points)):
            sd = self._seed(s) * seed + np.hypot(self.search, self.training) * base + tuned
            out.append(sd - (self.drop * (u < self.collapse[s]) if self.collapse else 0.0))
        return out

    def _score(self, s: int, shift: float) -> float:
        """Over infinitely many images, from the accuracy: errors fall on all other classes alike."""
        session = 0.0 if not self.sessions else 1.25 * self.session**2
        sd = np.sqrt(self.difficulty**2 + self.interaction**2 + self.taste**2 + self.chance**2 + session)
        a = special.ndtr((self.level + shift + self._moves[s]) / sd)[:, None]
        said = SHARE * a + (1 - SHARE) * (1 - a) / (CLASSES - 1)
        return float((2 * SHARE * a / (SHARE + said)).mean(axis=1).mean())

    @cached_property
    def _shifts(self) -> list[float]:
        base = self._score(len(self.points) - 1, 0.0)
        return [
            float(optimize.brentq(lambda x, s=s, p=p: self._score(s, x) - base - p / 100, -2, 4)) if p or self.collapse else 0.0
            for s, p in enumerate(self.points)
        ]

    @cached_property
    def _scores(self) -> np.ndarray:
        return np.array([self._score(s, x) for s, x in enumerate(self._shifts)])

    def scores(self, study: int) -> np.ndarray:
        return self._scores

    def _seed(self, s: int) -> float:
        return self.seed * (self.seeds_by[s] if self.seeds_by else 1.0)

    def _tuned(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """[n] losses of the winners of n searches."""
        if not self.trials:
            return np.zeros(n)
        u = rng.random((n, 2, self.trials))  # in one piece: more searches leave the first as they were
        loss = 1.5 * np.sqrt(u[:, 0])
        best = (loss + 0.22 * special.ndtri(u[:, 1])).argmin(axis=1)
        return -loss[np.arange(n), best]

    def draw(self, study: int, searches: int, seeds: int, images: int | None = None) -> Sample:
        runs = searches * seeds
        splits = []
        for fold in range(self.folds):
            moves = np.stack([self._run_moves(study, fold, s, searches, runs) for s in range(len(self.points))])
            splits.append(self._split(study, fold, moves, searches, images or self.images))
        return Sample(search=np.arange(runs) % searches, splits=splits)

    def _run_moves(self, study: int, fold: int, s: int, searches: int, runs: int) -> np.ndarray:
        """[K] of one strategy: its searches', which all folds share; its seeds' and collapses, which every training draws anew."""
        luck = self.search * self._rng(study, 3, s).standard_normal(searches) + self._tuned(searches, self._rng(study, 14, s))
        seeds = self._seed(s) * self._rng(study, 15, fold, s).standard_normal(runs)
        lost = self._rng(study, 16, fold, s).random(runs) < (self.collapse[s] if self.collapse else 0.0)
        return self._shifts[s] + luck[np.arange(runs) % searches] + seeds - self.drop * lost

    def _split(self, study: int, fold: int, moves: np.ndarray, searches: int, images: int) -> Split:
        labels, groups, hard, own = self._images(study, fold, images)
        n, out = len(labels), []
        for s, by_run in enumerate(moves):
            tastes = [self._rng(study, 4, fold, s, r).standard_normal(n, np.float32) for r in range(searches)]
            base = hard + own[s] + self.training * self._rng(study, 5, fold, s).standard_normal()
            said = np.empty((len(by_run), n), np.int64)
            for k, move in enumerate(by_run):
                rng = self._rng(study, 6, fold, s, k)
                margin = base + move + self.taste * tastes[k % searches] + self.chance * rng.standard_normal(n, np.float32)
                wrong = (labels + self._rng(study, 7, fold, s, k).integers(1, CLASSES, n)) % CLASSES
                said[k] = np.where(margin > 0, labels, wrong)
            out.append(said)
        return Split(predicted=out, labels=labels, groups=groups)

    def _images(self, study: int, fold: int, images: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, list[np.ndarray]]:
        """Labels, sessions, and what moves an image: for all strategies [N], and by strategy."""
        groups = None
        if self.sessions:
            sizes = np.exp(self.uneven * self._rng(study, 8, fold).standard_normal(self.sessions))
            sizes = np.maximum(np.round(sizes / sizes.sum() * images), 2).astype(int)
            groups, images = np.repeat(np.arange(self.sessions), sizes), int(sizes.sum())
        labels = self._rng(study, 9, fold).choice(CLASSES, size=images, p=SHARE)
        if groups is not None and self.pure:
            labels = self._rng(study, 9, fold).choice(CLASSES, size=self.sessions, p=SHARE)[groups]
        hard = self.level + self.difficulty * self._rng(study, 10, fold).standard_normal(images)
        own = [self.interaction * self._rng(study, 11, fold, s).standard_normal(images) for s in range(len(self.points))]
        if groups is not None:
            hard = hard + self.session * self._rng(study, 12, fold).standard_normal(self.sessions)[groups]
            own = [o + 0.5 * self.session * self._rng(study, 13, fold, s).standard_normal(self.sessions)[groups] for s, o in enumerate(own)]
        return labels, groups, hard, own


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixed:
    """Studies of several worlds in turn."""

    worlds: tuple[World, ...]

    def scores(self, study: int) -> np.ndarray:
        return self.worlds[study % len(self.worlds)].scores(study)

    def draw(self, study: int, searches: int, seeds: int, images: int | None = None) -> Sample:
        return self.worlds[study % len(self.worlds)].draw(study, searches, seeds, images)
