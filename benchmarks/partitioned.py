"""Simulated studies on ONE set of images that is cut into folds: predictions of every network for every image, many studies at a time.

The law is that of benchmarks/worlds.py (Latent): an image is predicted right when a sum of normal effects is above zero, and one unit
is about 13 points of macro-F1. The difficulty of an image, and what a strategy makes of it, belong to the image, so all folds share
them. The effects on a whole network (its search, its seed and its training images) are drawn by network. Training sets of two folds
overlap, so their effects are correlated.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from benchmarks.worlds import Latent

CHUNK = 50  # studies drawn at once


@dataclass(frozen=True, kw_only=True, eq=False)
class Partition:
    """One simulated study: two strategies on the same images."""

    labels: np.ndarray  # [N]
    groups: np.ndarray | None  # [N]
    folds: dict[int, np.ndarray]  # by K: [N], in proportion of the classes, groups whole
    predicted: dict[tuple[int, int], np.ndarray]  # by (K, m): [2, m, N], each image by networks that did not see its fold
    single: dict[int, np.ndarray]  # by number of networks R, all trained on one split: [2, R, N]; its test images are fold 0 of five
    here: float  # so much better is the first strategy when trained on these images than on others, by what their parts have in common
    here_single: dict[int, float]  # the same of the one split's training images


@dataclass(frozen=True, kw_only=True, eq=False)
class Partitioned:
    """A world of partitioned studies.

    `law` has the sizes of all effects (with `training` and `sessions`) and the true difference. Its `images` are those of all folds
    together.
    """

    law: Latent
    designs: tuple[tuple[int, int], ...] = ((5, 1), (5, 2))  # (folds, searches a fold)
    overlap: float = 0.0  # correlation of the training images' effects between folds
    reshuffled: float = 0.0  # the same between two searches of one fold; 1: they train on the same images
    copies: float = 0.0  # share of the images that are copies of another one; no network tells them apart
    number: int = field(default=0)  # another stream of studies

    def truth(self) -> float:
        """Return the true score of the first strategy minus that of the second."""
        a, b = self.law.scores(0)
        return float(a - b) if abs(a - b) > 1e-9 else 0.0

    @cached_property
    def slope(self) -> float:
        """Return the change of macro-F1 per unit of the law, for small changes."""
        return (self.law.score(0, self.law.shifts[0] + 0.1) - self.law.score(0, self.law.shifts[0] - 0.1)) / 0.2

    def _points(self, effects: np.ndarray) -> float:
        """Return the difference of the two strategies' effects, given in units of the law, as a share of macro-F1."""
        return self.slope * float(effects.ravel()[0] - effects.ravel()[1])

    def draw(self, studies: int) -> Iterator[Partition]:
        for first in range(0, studies, CHUNK):
            rng = np.random.default_rng((83, self.number, first))
            yield from self._chunk(rng, min(CHUNK, studies - first))

    def _chunk(self, rng: np.random.Generator, studies: int) -> Iterator[Partition]:
        law, images = self.law, self.law.images
        groups = [self._groups(rng, images) for _ in range(studies)]
        labels = rng.choice(len(law.shares), (studies, images), p=law.shares)
        base = law.level + law.difficulty * rng.standard_normal((studies, 1, images))
        base = base + law.interaction * rng.standard_normal((studies, 2, images))
        for s, names in enumerate(groups):
            if law.sessions and names is not None:
                shared, own = rng.standard_normal(law.sessions), 0.5 * rng.standard_normal((2, law.sessions))
                base[s] += law.session * (shared + own)[:, names]
        base += np.array(law.shifts)[:, None]
        same = rng.standard_normal((studies, 2, 1))  # what all training sets of these images have in common
        cut = {
            k: np.stack([_folds(rng, labels[s], groups[s], k) for s in range(studies)]) for k in sorted({5, *(k for k, _ in self.designs)})
        }
        predicted = {(k, m): self._predict(rng, labels, base, self._moves(rng, same, k, m), cut[k], groups) for k, m in self.designs}
        single, trained = {}, {}
        for runs in sorted({k * m for k, m in self.designs}):
            trained[runs] = law.training * rng.standard_normal((studies, 2, 1, 1))
            moves = trained[runs] + self._luck(rng, (studies, 2, 1, runs))
            single[runs] = self._predict(rng, labels, base, moves, np.zeros_like(labels), groups)
        for s in range(studies):
            yield Partition(
                labels=labels[s] if not self.copies else labels[s][groups[s]],
                groups=groups[s],
                folds={k: f[s] for k, f in cut.items()},
                predicted={design: p[s] for design, p in predicted.items()},
                single={runs: p[s] for runs, p in single.items()},
                here=self._points(law.training * np.sqrt(self.overlap) * same[s]),
                here_single={runs: self._points(t[s]) for runs, t in trained.items()},
            )

    def _groups(self, rng: np.random.Generator, images: int) -> np.ndarray | None:
        """Return [N] the session of each image, or the image that it is a copy of."""
        if self.copies:
            names = np.arange(images)
            again = rng.permutation(images)[: int(self.copies * images)]
            names[again] = rng.choice(np.setdiff1d(names, again), len(again))
            return names
        if not self.law.sessions:
            return None
        share = np.exp(self.law.uneven * rng.standard_normal(self.law.sessions))
        more = rng.choice(self.law.sessions, images - self.law.sessions, p=share / share.sum())
        return np.sort(np.concatenate([np.arange(self.law.sessions), more]))

    def _luck(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw the effects of the networks' searches and seeds."""
        return np.hypot(self.law.search, self.law.seed) * rng.standard_normal(shape)

    def _moves(self, rng: np.random.Generator, same: np.ndarray, folds: int, passes: int) -> np.ndarray:
        """Draw [S, 2, K, m] effects on whole networks."""
        studies = len(same)
        by_fold = np.sqrt(max(self.reshuffled - self.overlap, 0.0)) * rng.standard_normal((studies, 2, folds, 1))
        own = np.sqrt(1 - max(self.reshuffled, self.overlap)) * rng.standard_normal((studies, 2, folds, passes))
        training = self.law.training * (np.sqrt(self.overlap) * same[..., None] + by_fold + own)
        return training + self._luck(rng, (studies, 2, folds, passes))

    def _predict(
        self,
        rng: np.random.Generator,
        labels: np.ndarray,
        base: np.ndarray,
        moves: np.ndarray,
        fold: np.ndarray,
        groups: list[np.ndarray | None],
    ) -> np.ndarray:
        """Draw [S, 2, m, N] predicted class indices."""
        own_fold = np.broadcast_to(fold[:, None, :, None], (*base.shape, moves.shape[3]))
        by_image = np.take_along_axis(moves, own_fold, axis=2)  # [S, 2, N, m]
        shape = (*base.shape, moves.shape[3])
        margin = base[..., None] + by_image + np.hypot(self.law.taste, self.law.chance) * rng.standard_normal(shape, np.float32)
        truth = labels[:, None, :, None]
        wrong = (truth + rng.integers(1, len(self.law.shares), shape)) % len(self.law.shares)
        said: np.ndarray = np.moveaxis(np.where(margin > 0, truth, wrong), 3, 2)
        if self.copies:
            said = np.stack([s[:, :, names] for s, names in zip(said, groups, strict=True)])
        return said


def _folds(rng: np.random.Generator, labels: np.ndarray, groups: np.ndarray | None, folds: int) -> np.ndarray:
    """Return [N] fold numbers.

    Single images are dealt in proportion of the classes. Groups go largest first, each into the fold with the fewest images.
    """
    n = len(labels)
    if groups is None:
        order = rng.permutation(n)
        order = order[np.argsort(labels[order], kind="stable")]
        out = np.empty(n, int)
        out[order] = (np.arange(n) + rng.integers(folds)) % folds
        return out
    names, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    of, filled, name = np.empty(len(names), int), np.zeros(folds), rng.permutation(folds)
    for g in sorted(rng.permutation(len(names)), key=lambda g: -sizes[g]):
        of[g] = filled.argmin()
        filled[of[g]] += sizes[g]
    return name[of[member]]
