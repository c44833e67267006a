"""Images that are drawn with known probabilities, and scores on them that stand for all they were drawn from.

A person is asked about those images on which two strategies' answers pull the score apart. An image's chance is in proportion to the
root of its expected squared influence on the difference (Sawade, Landwehr and Scheffer 2012, active comparison of prediction models),
with its class taken from the networks' own probabilities. Three tenths of the draw go to all images alike, so that none is out of reach
however sure the networks are (Hesterberg 1995). Wrong probabilities cost labels and bias nothing.

Images are drawn systematically from a random order (Madow 1949; Hartley and Rao 1962), exactly as many as were asked for. Each counts
by the inverse of its probability (Horvitz and Thompson 1952), scaled so that the weights sum to the intended number (Hajek 1971).
Scores are functions of weighted counts. Their variance contains how these images were drawn and that they are some of their kind. It is
taken as if they had been drawn independently, which is on the safe side.
"""

from dataclasses import dataclass

import numpy as np

from analysis.statistics.resampling import ImageUnits, image_units, image_weights, shared_weights
from study.metrics import Counts
from study.scoring.influence import influences
from study.scoring.metric import DEFAULT

ALIKE = 0.3  # of the draw goes to all images alike


# ---- drawing -------------------------------------------------------------------------------------------


def squared_influence(
    a: np.ndarray, b: np.ndarray, shares: np.ndarray, at: tuple[Counts, Counts], metric: str = DEFAULT.name
) -> np.ndarray:
    """Return [M] how much each image is expected to move the difference of two scores, squared.

    `a` [R, M] and `b` [S, M] are class indices as the runs of two strategies predict them, `shares` [M, C] the probabilities of its
    class, and `at` the counts of both on images with labels.
    """
    out = np.zeros(a.shape[1])
    for k in range(shares.shape[1]):
        label = np.full(a.shape[1], k)
        moved = influences(metric, a, label, at[0]).mean(axis=0) - influences(metric, b, label, at[1]).mean(axis=0)
        out += shares[:, k] * moved**2
    return out


def inclusion(squares: np.ndarray, most: int, known: np.ndarray | None = None) -> np.ndarray:
    """Return [M] probabilities, where those of images that are not `known` [M] sum to `most`.

    Known images, and those whose chance would be above 1, are certain. `squares` [M] are those of `squared_influence`, or a sum of
    several.
    """
    certain = np.zeros(len(squares), bool) if known is None else known.copy()
    if most >= int((~certain).sum()):
        return np.ones(len(squares))
    root, left = np.sqrt(squares), most
    total = root[~certain].sum()
    alike = np.full(len(squares), 1 / int((~certain).sum()))
    size = ALIKE * alike + (1 - ALIKE) * (root / total if total > 0 else alike)
    while True:
        out = np.where(certain, 1.0, left * size / size[~certain].sum())
        over = (out >= 1) & ~certain
        if not over.any():
            return out
        certain |= over
        left -= int(over.sum())


def drawn(probability: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw images, each with its `probability` [M], exactly as many as these sum to, and return their places."""
    order = rng.permutation(len(probability))
    ends = np.cumsum(probability[order])
    ends *= round(ends[-1]) / ends[-1]  # a whole number, but for rounding
    passed = np.floor(ends - rng.random())
    return np.sort(order[np.diff(passed, prepend=-1.0) > 0])


def worth(squares: np.ndarray, probability: np.ndarray) -> float:
    """Return how many randomly drawn images would tell as much of the difference, by the networks' own probabilities, at most all."""
    spread = float((squares / probability).sum())
    return min(len(squares) * float(squares.sum()) / spread, float(len(squares))) if spread > 0 else float(probability.sum())


# ---- scoring -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Images with labels, of which some stand for others. Stratum 0 was there before, and each of the others is a draw."""

    stratum: np.ndarray  # [N] of 0, 1, ...
    weights: np.ndarray  # [N] how many images each stands for; 1 in stratum 0
    groups: np.ndarray | None = None  # [N] sessions of stratum 0

    def units(self) -> ImageUnits:
        """Return the units that are resampled, with the correction of the stratum that needs the largest."""
        all_units = image_units(len(self.weights), self.groups, self.weights)
        worst = [image_units(int(own.sum()), self._groups(own)).correction for own in self._strata()]
        return ImageUnits(
            images=all_units.images, groups=all_units.groups, effective=all_units.effective, correction=float(np.nanmax(worst))
        )

    def resample(self, resamples: int) -> np.ndarray:
        """Return [resamples, N] weights: each stratum is drawn again for itself, sessions whole, and scaled to its weight."""
        out = np.zeros((resamples, len(self.weights)))
        for k, own in enumerate(self._strata()):
            if k == 0:
                out[:, own] = shared_weights(int(own.sum()), self._groups(own), resamples)
                continue
            rng = np.random.Generator(np.random.Philox(key=[22, k]))
            again = image_weights(int(own.sum()), None, resamples, rng) * self.weights[own]
            out[:, own] = again * (self.weights[own].sum() / again.sum(axis=1, keepdims=True))
        return out

    def _strata(self) -> list[np.ndarray]:
        return [self.stratum == k for k in range(int(self.stratum.max()) + 1)]

    def _groups(self, own: np.ndarray) -> np.ndarray | None:
        return None if self.groups is None else self.groups[own]


def hajek(probability: np.ndarray, total: float) -> np.ndarray:
    """Return [m] weights in inverse proportion to the probabilities that sum to `total`."""
    inverse = 1 / probability
    out: np.ndarray = inverse * total / inverse.sum()
    return out
